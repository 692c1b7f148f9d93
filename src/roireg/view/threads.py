"""Whether pictures may be rendered while a registration runs in another thread."""

import threading
from contextlib import AbstractContextManager, nullcontext

import numba

# Numba's own pool of threads, which it takes where the machine has neither OpenMP nor TBB; two threads that use it at
# once end the process.
UNSAFE = "workqueue"
_one_at_a_time = threading.RLock()


def compiled_code() -> AbstractContextManager[object]:
    """Context for code that renders: others wait where two may not render at once."""
    try:
        layer: str = numba.threading_layer()  # type: ignore[attr-defined]
    except ValueError:
        # Nothing has run in parallel yet, so the layer is not chosen.
        layer = UNSAFE
    return _one_at_a_time if layer == UNSAFE else nullcontext()
