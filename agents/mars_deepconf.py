"""MARS on DeepConf: stop by margin, with branches filtered and votes weighted by confidence.

Chen et al. 2026, "MARS: Margin-Adversarial Risk-controlled Stopping for Parallel LLM Test-time
Scaling" (arXiv 2606.12935), on the online filter of DeepConf (Fu et al. 2025, "Deep Think with
Confidence", arXiv 2508.15260) with η = 10. Needs traces with generation confidences.

It is ``mars``, except that warm-up branches below the threshold do not vote, others below it are
pruned, votes weigh as much as the confidence of the branch's last window, and DeepConf's consensus
of 0.95 does not stop it. It differs from the published code as ``mars`` does; the window is 2,048
tokens, or a quarter of the environment's mean branch if that is less, in whole intervals.
"""

from typing import NamedTuple

from autotts_gym.controllers.helpers import require_generation_confidence
from autotts_gym.controllers.margin_stopping import stop_by_margin

#: Percentage of the warm-up branches above the threshold: DeepConf's η.
KEPT = 10.0


class Schedule(NamedTuple):
    """Parameters that β determines."""

    risk: float  # factor of the expected cost of switches: the margin must exceed it


def schedule(beta):
    """The schedule at ``beta``, clipped to [0, 1]; a factor of 1 is the published rule."""
    return Schedule(0.5 + min(max(beta, 0.0), 1.0))


def solve(episode, beta):
    """Read the warm-up whole, then run the others until no challenger can be expected to win."""
    require_generation_confidence(episode)
    stop_by_margin(episode, schedule(beta).risk, KEPT)
