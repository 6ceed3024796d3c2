"""Example programs and a search history for the tests of proposers."""

from __future__ import annotations

import numpy as np

from autotts_gym.discovery.objective import BETAS, Curve
from autotts_gym.discovery.proposal import Candidate, Evaluation, Proposal

_COSTS = np.linspace(0.1, 0.5, len(BETAS))[:, None, None] * np.ones((1, 2, 4))
CURVE = Curve(_COSTS + 0.4, _COSTS, _COSTS / 4).to_dict()


def program(branches: str) -> str:
    """Source of a program that reads a number of branches to their ends."""
    return f"""from autotts_gym.controllers.helpers import read


def solve(episode, beta):
    read(episode, 0, {branches})
    return episode.answer()
"""


SEED, BETTER, WORSE = program("2 + int(2 * beta)"), program("2 + int(8 * beta)"), program("64")

HISTORY = (
    Candidate(Proposal("0-few", SEED, "seed"), Evaluation(0.25, curve=CURVE)),
    Candidate(
        Proposal("1-1", BETTER, "mutation", ("0-few",)),
        Evaluation(0.5, curve=CURVE, diagnosis="It waits too long.", transcripts="BRANCH\nANSWER"),
    ),
    Candidate(
        Proposal("1-2", WORSE, "model", ("1-1",)),
        Evaluation(0.75, "β spans 1.0 times", curve=CURVE),
    ),
    Candidate(Proposal("1-3", "", "model", error="refused: no | thanks"), Evaluation()),
)
