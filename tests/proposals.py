"""Programs and histories for the tests of proposers."""

from __future__ import annotations

from autotts_gym.discovery.proposing import Proposal, Tried, Verdict

CURVE = {
    "beta": [0.0, 0.5, 1.0],
    "accuracy": [[0.5, 0.6], [0.7, 0.8], [0.9, 1.0]],
    "tokens_of_all": [[0.1, 0.1], [0.2, 0.2], [0.3, 0.5]],
}


def program(branches: str) -> str:
    """A program that reads so many branches to their ends."""
    return f"""from autotts_gym.controllers.reading import read


def solve(episode, beta):
    read(episode, 0, {branches})
    return episode.answer()
"""


SEED, BETTER, WORSE = program("2 + int(2 * beta)"), program("2 + int(8 * beta)"), program("64")

HISTORY = (
    Tried(Proposal("0-few", SEED, "seed"), Verdict(0.25, curve=CURVE)),
    Tried(
        Proposal("1-1", BETTER, "mutation", ("0-few",)),
        Verdict(0.5, curve=CURVE, diagnosis="It waits too long.", traces="BRANCH\nANSWER"),
    ),
    Tried(Proposal("1-2", WORSE, "model", ("1-1",)), Verdict(0.75, "β spans 1.0 times", CURVE)),
    Tried(Proposal("1-3", "", "model", trouble="refused: no | thanks"), Verdict()),
)
