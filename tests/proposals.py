"""Programs and histories for the tests of proposers."""

from __future__ import annotations

import numpy as np

from autotts_gym.discovery.objective import BETAS, Curve
from autotts_gym.discovery.proposal import Proposal, Tried, Verdict

_RISING = np.linspace(0.1, 0.5, len(BETAS))[:, None, None] * np.ones((1, 2, 4))
CURVE = Curve(_RISING + 0.4, _RISING, _RISING / 4).facts()


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
    Tried(
        Proposal("1-2", WORSE, "model", ("1-1",)), Verdict(0.75, "β spans 1.0 times", curve=CURVE)
    ),
    Tried(Proposal("1-3", "", "model", trouble="refused: no | thanks"), Verdict()),
)
