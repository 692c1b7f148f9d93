"""Third-party readers in a child process, where a crash, a hang or a flood of memory is an error line."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from roireg.data.readers.gate import available_memory_bytes, brief
from roireg.errors import InputError

TIMEOUT_SECONDS = 600
PROGRAM = """
import resource, sys
from importlib import import_module
limit, hard = int(sys.argv[1]), resource.getrlimit(resource.RLIMIT_AS)[1]
resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
getattr(import_module(sys.argv[2]), sys.argv[3])(*sys.argv[4:])
"""
# What a child may take beside the values: libraries, and room for two copies.
BASE_BYTES = 4 * 10**9


def call_apart(where: object, module: str, function: str, arguments: Sequence[str | Path], remedy: str) -> None:
    """Call a function of ours with text arguments in a new process; its results are files.

    Args:
        where: the user's file, for errors.
        module, function: what to call.
        arguments: as text.
        remedy: of errors.

    Raises:
        InputError: it raised, crashed, or did not end in time.
    """
    import roireg

    source = str(Path(roireg.__file__).parents[1])
    program = f"import sys; sys.path.insert(0, {source!r}){PROGRAM}"
    limit = str(BASE_BYTES + available_memory_bytes())
    command = [sys.executable, "-c", program, limit, module, function, *map(str, arguments)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise InputError(where, f"reading it did not end in {TIMEOUT_SECONDS} s", remedy) from None
    if done.returncode < 0:
        raise InputError(where, f"the library that reads it crashed (signal {-done.returncode})", remedy)
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise InputError(
            where, f"it cannot be read ({brief(Exception(lines[-1] if lines else 'no reason given'))})", remedy
        )
