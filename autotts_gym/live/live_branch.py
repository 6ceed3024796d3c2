"""``LiveBranch``: the state of one branch of a live episode, and what is read of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from autotts_gym.inference.protocol import Probe
from autotts_gym.inference.token_confidence import ConfidenceSums


@dataclass(frozen=True)
class BranchEnd:
    """The end of a branch.

    Attributes:
        length: n, whole intervals before the last.
        tokens: T, its tokens, including the closing text.
        final: its final answer; if ``null`` is set, why there is none.
        null: whether it has no final answer.
    """

    length: int
    tokens: int
    final: str
    null: bool = False


class BranchText(NamedTuple):
    """The text of a branch up to its last probe.

    Attributes:
        text: what the model wrote; if a probe forced the answer, with the suffix of the probe and
            its output.
        cut: whether generation ended at the maximum length.
    """

    text: str
    cut: bool


@dataclass
class LiveBranch:
    """The state of a branch.

    Attributes:
        tokens: token ids generated so far.
        target: number of tokens requested so far.
        ended: generation has ended, by itself or at the maximum length.
        cut: generation has ended at the maximum length.
        generation: generates up to ``target``.
        probe: the probe at the present length, if it was started.
        aborted: it was pruned.
        sums: its generation confidence by interval.
        revealed: that at its last probe, and the number of tokens in each sum; None if unknown.
        texts: text of the parts that were generated.
        requests: number of requests to the engine. The texts of a single one can be joined; a
            character may be broken between two.
        closing: suffix and output of the last probe that ran; empty without one.
        shown: number of tokens at the last probe that the episode read, and its ``closing``; None
            without one.
    """

    sums: ConfidenceSums
    tokens: list[int] = field(default_factory=list)
    target: int = 0
    ended: bool = False
    cut: bool = False
    generation: asyncio.Task[None] | None = None
    probe: asyncio.Task[Probe | BranchEnd] | None = None
    aborted: bool = False
    revealed: tuple[list[float], list[int]] | None = None
    texts: list[str] = field(default_factory=list)
    requests: int = 0
    closing: str = ""
    shown: tuple[int, str] | None = None

    def tasks(self) -> list[asyncio.Task[Any]]:
        return [task for task in (self.generation, self.probe) if task is not None]
