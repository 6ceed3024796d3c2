"""``StallTime``: how long a server may be silent before a request is sent again."""

from __future__ import annotations


class StallTime:
    """Seconds without data after which a request fails.

    A server that is slow is not dead: the time doubles with every stall until data comes, and it
    stays twice the longest wait that ended with data.

    Args:
        shortest: initial value, seconds.
        longest: largest value, seconds; at least ``shortest``.

    Attributes:
        shortest: initial value, seconds; it is never shorter.
    """

    def __init__(self, shortest: float, longest: float) -> None:
        self.shortest = shortest
        self._longest = max(shortest, longest)
        self._slowest = 0.0
        self._factor = 1.0
        self._doubled = float("-inf")

    @property
    def seconds(self) -> float:
        """The present value."""
        return min(max(self.shortest, 2 * self._slowest) * self._factor, self._longest)

    def record_stall(self, started: float, now: float) -> None:
        """Double the time, but only once for requests that were waiting together.

        Args:
            started: when the request began to wait, seconds of any clock.
            now: the present time on that clock.
        """
        if started >= self._doubled and self.seconds < self._longest:
            self._factor *= 2
            self._doubled = now

    def record_wait(self, seconds: float) -> None:
        """Record a wait that ended with data."""
        self._slowest = max(self._slowest, seconds)

    def record_success(self) -> None:
        """Record that the server works: the next stall is the first one again."""
        self._factor = 1.0
