"""Collecting: sample traces, probe them at every interval, keep everything that is finished.

Traces are sampled side by side, question after question; each is kept as soon as it is whole, then
probed, and its probes are kept. Whatever ends a collection, the next one goes on from what was
kept; only what was under way is paid again.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np

from autotts_gym.collection.collection_journal import Journal, Place, Trace
from autotts_gym.collection.questions import AskedQuestion
from autotts_gym.inference.engine import EngineError, Generated, Request, Sampling
from autotts_gym.inference.protocol import Prober, Protocol, is_null
from autotts_gym.traces.store import check_interval

#: Tokens after which a growing trace is heard of, at least; what is heard of costs time.
_HEARD: Final = 64


@dataclass(frozen=True)
class Plan:
    """What is collected.

    Attributes:
        branches: N, traces a question.
        interval: Δ, tokens between two probes.
        max_tokens: most tokens of a trace.
        sampling: how traces are drawn.
        seed: of the draws: every trace gets a seed of its own, made from this one. With None, which
            is faster, the engine draws as it goes; an engine that is started anew with the same
            seed then draws the same numbers again.

    Raises:
        ValueError: names what is out of range.
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
        """The plan by name, for cards."""
        return asdict(self)


def trace_seed(seed: int, question: int, branch: int) -> int:
    """The seed of a trace; below 2^63."""
    state = np.random.SeedSequence([seed, question, branch]).generate_state(1, np.uint64)
    return int(state[0]) >> 1


def cuts(length: int, interval: int) -> range:
    """Where a trace is probed: the multiples of Δ below its length, tokens."""
    return range(interval, length, interval)


def needs_closing(trace: Trace, protocol: Protocol) -> bool:
    """Whether a trace was cut off before its answer, so that it is closed by a probe."""
    return trace.finish == "length" and is_null(protocol.final(trace.text))


@dataclass
class Progress:
    """How far a collection is.

    Attributes:
        traces, probed: traces that are whole, and probed; of ``total``.
        kept: of these, those that an earlier session had probed.
        tokens: tokens that were sampled in this session, unfinished traces included.
        probes: probes that were taken in this session.
        seconds: since this session began.
    """

    total: int
    traces: int = 0
    probed: int = 0
    kept: int = 0
    tokens: int = 0
    probes: int = 0
    seconds: float = 0.0

    @property
    def left(self) -> float:
        """Seconds left at the present rate; infinite before the first trace is done."""
        done = self.probed - self.kept
        return self.seconds / done * (self.total - self.probed) if done else float("inf")


async def collect(
    prober: Prober,
    questions: Sequence[AskedQuestion],
    plan: Plan,
    journal: Journal,
    *,
    concurrency: int | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
) -> None:
    """Collect until every trace of every question is sampled and probed.

    Args:
        prober: the engine and its protocol.
        questions: what is asked.
        plan: what is collected.
        journal: where what is finished is kept.
        concurrency: most traces under way at once; by default the engine's own.
        progress: called as it goes on.

    Raises:
        EngineError: the engine failed for good; the message names question and branch.
        OSError: the journal cannot be written, as on a full disk.
        ValueError: ``concurrency`` is out of range.
    """
    if concurrency is None:
        concurrency = prober.engine.concurrency
    if concurrency < 1:
        raise ValueError(f"concurrency must be at least 1, got {concurrency!r}")
    kept = journal.kept
    begun = time.monotonic()
    places = [(q, b) for q in range(len(questions)) for b in range(plan.branches)]
    left = [place for place in places if place not in kept.probes]
    done = len(places) - len(left)
    state = Progress(len(places), len(kept.traces), done, done)
    unfinished = Counter(q for q, _ in left)
    room = asyncio.Semaphore(concurrency)
    prompts: dict[int, list[int]] = {}
    greedy = plan.sampling.temperature == 0

    def tell() -> None:
        state.seconds = time.monotonic() - begun
        progress(state)

    async def ask(q: int) -> None:
        async with room:
            try:
                prompts[q] = await prober.prompt(questions[q].text)
                prober.room(prompts[q], plan.max_tokens)
            except EngineError as error:
                raise EngineError(f"question {questions[q].id!r}: {error}") from error

    async def sample(place: Place) -> None:
        request = Request(
            prompts[place[0]],
            prober.room(prompts[place[0]], plan.max_tokens),
            plan.sampling,
            None if greedy or plan.seed is None else trace_seed(plan.seed, *place),
        )
        trace = Generated()
        async for part in prober.engine.stream(request, max(plan.interval, _HEARD)):
            trace.append(part)
            state.tokens += len(part.tokens)
            tell()
        state.traces += 1
        journal.trace(place, trace, time.monotonic() - begun)

    async def one(place: Place) -> None:
        q, b = place
        try:
            if place not in kept.traces:
                await sample(place)
            trace = kept.traces[place]
            at = [*cuts(trace.length, plan.interval)]
            if needs_closing(trace, prober.protocol):
                at.append(trace.length)
            probes = await prober.look(prompts[q], trace.tokens, at)
        except EngineError as error:
            raise EngineError(f"question {questions[q].id!r}, branch {b}: {error}") from error
        finally:
            room.release()
        journal.probes(place, probes, time.monotonic() - begun)
        state.probed += 1
        state.probes += len(probes)
        unfinished[q] -= 1
        if not unfinished[q]:
            journal.flush()
        tell()

    tell()
    try:
        # All prompts before the first trace: one that has no room is told before anything is paid.
        async with asyncio.TaskGroup() as group:
            for q in unfinished:
                group.create_task(ask(q))
        journal.begin({**await prober.engine.facts(), "started": datetime.now(UTC).isoformat()})
        async with asyncio.TaskGroup() as group:
            for place in left:
                await room.acquire()
                group.create_task(one(place))
    except* (EngineError, OSError) as failures:
        raise _first(failures) from None


def _first(failures: BaseExceptionGroup[Any]) -> BaseException:
    """What went wrong first; the rest mostly follows from it."""
    error: BaseException = failures
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
