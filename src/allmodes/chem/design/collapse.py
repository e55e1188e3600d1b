"""Collapse monitor: notices when an agent repeats itself."""

from collections import deque
from typing import final


@final
class CollapseMonitor:
    """Watches the share of samples that are molecules this run has not seen before.

    `collapsed` once the mean over the last `window` steps falls below `min_new`.
    """

    def __init__(self, *, window: int, min_new: float) -> None:
        self._window, self._min_new = window, min_new
        self._shares: deque[float] = deque(maxlen=window)

    def observe(self, new_share: float) -> None:
        """Add one step."""
        self._shares.append(new_share)

    @property
    def collapsed(self) -> bool:
        """Whether the last window has too few new molecules."""
        full = len(self._shares) == self._window
        return full and sum(self._shares) / self._window < self._min_new

    def state(self) -> list[float]:
        """What `restore` needs, ready for JSON."""
        return list(self._shares)

    def restore(self, state: list[float]) -> None:
        """Put back what `state` returned."""
        self._shares = deque(state, maxlen=self._window)
