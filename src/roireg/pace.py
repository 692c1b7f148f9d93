"""How often progress is logged."""

import time
from dataclasses import dataclass, field


@dataclass
class Pace:
    """Says when progress is due to be logged: not within a second of the last time, but always at the end."""

    seconds: float = 1.0
    _last: float = field(default=float("-inf"), init=False, repr=False)

    def due(self, done: int, total: int) -> bool:
        """True if `done` of `total` should be logged now."""
        now = time.monotonic()
        if done < total and now - self._last < self.seconds:
            return False
        self._last = now
        return True
