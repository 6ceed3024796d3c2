"""Reading branches to their ends, as a server would want it asked for.

Like :mod:`autotts_gym.controllers.voting`: plain Python, compiled along with a controller.
"""

from __future__ import annotations

from autotts_gym.controllers.episode import Episode


def read(episode: Episode, start: int, stop: int) -> None:
    """Read branches ``start`` to ``stop − 1`` to their ends, opening those that are not yet open.

    Everything is requested before the first look, so that the latency is that of the longest
    branch. Where a token budget stops that, what is outstanding is looked at, which frees the
    difference between what was charged and what the branches really took, and so on; what the
    budget never reaches stays unfinished, or unopened.
    """
    requested = True
    while requested:
        requested = False
        for i in range(start, stop):
            if i == episode.opened and episode.can_branch():
                episode.branch()
                requested = True
            while i < episode.opened and episode.can_extend(i):
                episode.extend(i)
                requested = True
        episode.probe_all()
