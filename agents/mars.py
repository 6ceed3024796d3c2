"""MARS: stop parallel branches as soon as the leading answer can hardly be overtaken.

Chen et al. 2026, "MARS: Margin-Adversarial Risk-controlled Stopping for Parallel LLM Test-time
Scaling" (arXiv 2606.12935), in its form for self-consistency. 16 warm-up branches are read whole,
and teach a logistic regression how likely a running branch is to change its answer. The others then
run together, probed at every interval, and stop when the margin of the leader exceeds the expected
cost of all switches.

Differences from the published code: warm-up branches vote with their final answers, not with those
at the checkpoint's depth; nothing is trained on, or summed over, past a branch's end; the tokens of
the warm-up are billed; checkpoints are Δ tokens apart instead of 2,048; 64 branches instead of 512.
Two of the five features are generation confidences: on traces without them, they are left out.
"""

from typing import NamedTuple

from autotts_gym.controllers.margin_stopping import stop_by_margin


class Schedule(NamedTuple):
    """Parameters that β determines."""

    risk: float  # factor of the expected cost of switches: the margin must exceed it


def schedule(beta):
    """The schedule at ``beta``, clipped to [0, 1]; a factor of 1 is the published rule."""
    return Schedule(0.5 + min(max(beta, 0.0), 1.0))


def solve(episode, beta):
    """Read the warm-up whole, then run the others until no challenger can be expected to win."""
    stop_by_margin(episode, schedule(beta).risk, 100.0)
