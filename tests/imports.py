"""What a process imports."""

import subprocess
import sys

# Libraries that only training needs, or the workflow around the library.
TRAINING = frozenset({"monai", "kornia", "segment_anything", "snakemake", "pandas"})


def loaded_by(code: str) -> set[str]:
    """Packages that a process has loaded after some code, which must not fail."""
    code += "\nimport sys; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {*done.stdout.splitlines()[-1].split()}
