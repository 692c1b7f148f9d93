"""Names of the demo's specimens, in a module of its own so that the workflow can list them without importing torch."""


def specimen_names(count: int) -> list[str]:
    """`demo-01`, `demo-02`, ..."""
    return [f"demo-{index:02d}" for index in range(1, count + 1)]
