"""Selects the datasets that are checked, and prints the findings of the check at the end of a run."""

CHECKED = config["dataset"]["path"] is not None or config["dataset"]["source"] != "demo"


def say_contradictions():
    """Print findings of the levels `wrong` and `set`."""
    page = Path(rules.check_dataset.output.page)
    if CHECKED and page.is_file():
        lines = page.read_text().splitlines()
        found = [
            line for line in lines if line.startswith(("- **wrong**", "- **set**"))
        ]
        if found:
            print(f"{page} says:", *found, sep="\n", file=sys.stderr)


onsuccess:
    say_contradictions()


onerror:
    say_contradictions()
