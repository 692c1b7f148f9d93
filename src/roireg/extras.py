"""Which optional part of the installation has a package that is missing, told in one line."""

# Packages that the base installation has not, by the name under which they are imported, and the extra that has them
# (pyproject.toml); of several, the smallest.
EXTRA_OF = {
    "diffdrr": "diffdrr",
    "fastapi": "view",
    "filelock": "workflow",
    "h5py": "train",
    "jinja2": "workflow",
    "kornia": "train",
    "markdown_it": "workflow",
    "monai": "train",
    "nanodrr": "gpu",
    "pandas": "train",
    "pypi_simple": "workflow",
    "pyvista": "workflow",
    "requests": "workflow",
    "segment_anything": "train",
    "snakemake": "workflow",
    "snakemake_executor_plugin_slurm": "slurm",
    "starlette": "view",
    "tabulate": "workflow",
    "timm": "train",
    "torchvision": "train",
    "tqdm": "workflow",
    "uvicorn": "view",
    "websockets": "view",
}


def missing_extra(error: ModuleNotFoundError) -> str | None:
    """What to install, in one line, if an optional package is missing; None for a module that is no such package."""
    package = (error.name or "").partition(".")[0]
    extra = EXTRA_OF.get(package)
    return extra and f'this needs the package {package}: pip install "roireg[{extra}]"'
