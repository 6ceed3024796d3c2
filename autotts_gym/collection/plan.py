"""``CollectionPlan``: what a collection samples, and where it probes the traces."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from autotts_gym.inference.engine import Sampling
from autotts_gym.traces.store import check_interval


@dataclass(frozen=True)
class CollectionPlan:
    """What a collection samples.

    Attributes:
        branches: N, traces per question.
        interval: Δ, tokens between two probes.
        max_tokens: maximum length of a trace, tokens.
        sampling: sampling parameters of the traces.
        seed: random seed. Each trace gets its own seed, derived from this one. With None, which is
            faster, the engine draws without seeds per request; an engine that is restarted with the
            same seed then draws the same samples again.

    Raises:
        ValueError: a value is out of range; the message names it.
    """

    branches: int = 128
    interval: int = 500
    max_tokens: int = 40_960
    sampling: Sampling = field(default_factory=Sampling)
    seed: int | None = None

    def __post_init__(self) -> None:
        check_interval(self.interval)
        for name in ("branches", "max_tokens"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")
        seed = 0 if self.seed is None else self.seed
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise ValueError(f"seed must be an integer of at least 0, got {self.seed!r}")

    def facts(self) -> dict[str, Any]:
        """Return the plan as plain values, for journals."""
        return asdict(self)

    def trace_seed(self, question: int, branch: int) -> int | None:
        """Return the seed of a trace; None if the engine draws without seeds."""
        if self.seed is None or self.sampling.temperature == 0:
            return None
        return derive_seed(self.seed, question, branch)


def derive_seed(seed: int, question: int, branch: int) -> int:
    """Return the seed of a trace, from 0 to 2^63 - 1."""
    state = np.random.SeedSequence([seed, question, branch]).generate_state(1, np.uint64)
    return int(state[0]) >> 1


def probe_positions(length: int, interval: int) -> range:
    """Return where a trace is probed: the multiples of Δ below its length, tokens."""
    return range(interval, length, interval)
