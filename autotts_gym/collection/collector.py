"""``collect``: samples traces, probes them at every interval, and records them in a journal.

Traces are sampled concurrently. Each finished trace is recorded and probed, and its probes are
recorded. An interrupted collection resumes from the journal; only unfinished traces and probes are
generated again.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from autotts_gym.collection.asked_question import AskedQuestion
from autotts_gym.collection.collection_journal import BranchKey, CollectionJournal, SampledTrace
from autotts_gym.collection.plan import CollectionPlan, probe_positions
from autotts_gym.inference.engine import EngineError, Generated, Request
from autotts_gym.inference.prober import Prober
from autotts_gym.inference.protocol import Protocol
from autotts_gym.inference.token_confidence import TOP_TOKENS, ConfidenceSums, TraceConfidence

#: Minimum number of tokens in a part of a stream; smaller parts cost time.
_MIN_STREAM_PART: Final = 64


@dataclass
class CollectionProgress:
    """Progress of a collection.

    Attributes:
        total: number of traces in the plan.
        sampled: traces that are finished.
        probed: traces that are probed.
        resumed: traces that were probed in earlier sessions.
        tokens: tokens sampled in this session, including those of unfinished traces.
        probes: probes taken in this session.
        seconds: time since this session started.
        resumed_samples: traces that were sampled in earlier sessions.
        retries: requests of this session that were sent again.
        failure: why a request was sent again the last time.
        silent_seconds: time since the engine sent anything, with requests in progress.
    """

    total: int
    sampled: int = 0
    probed: int = 0
    resumed: int = 0
    tokens: int = 0
    probes: int = 0
    seconds: float = 0.0
    resumed_samples: int = 0
    retries: int = 0
    failure: str = ""
    silent_seconds: float = 0.0

    @property
    def seconds_left(self) -> float:
        """Estimated time left at the present rate; infinite before the first trace is sampled.

        Sampling a trace and probing it count as much as each other.
        """
        done = self.sampled - self.resumed_samples + self.probed - self.resumed
        left = 2 * self.total - self.sampled - self.probed
        return self.seconds / done * left if done else float("inf")


def needs_closing_probe(trace: SampledTrace, protocol: Protocol) -> bool:
    """Whether a trace was cut before its answer, so that a probe provides its final answer."""
    return trace.finish == "length" and protocol.final_answer(trace.text).null


async def collect(
    prober: Prober,
    questions: Sequence[AskedQuestion],
    plan: CollectionPlan,
    journal: CollectionJournal,
    *,
    keys: Sequence[BranchKey] | None = None,
    concurrency: int | None = None,
    generation_confidence: bool = True,
    progress: Callable[[CollectionProgress], None] = lambda _: None,
) -> None:
    """Collect until every trace of every question is sampled and probed.

    Args:
        prober: the engine and its protocol.
        questions: the questions.
        plan: what is sampled.
        journal: where finished traces and probes are recorded.
        keys: the traces to collect, as row of the question and number of the branch; default
            ``plan.branches`` of every question.
        concurrency: maximum number of concurrent traces; by default that of the engine.
        generation_confidence: record the confidence of the tokens of traces, as far as the engine
            gives it (:mod:`autotts_gym.inference.token_confidence`).
        progress: called after every part of a trace and every probed trace.

    Raises:
        EngineError: the engine failed permanently; the message names the question and branch.
        OSError: the journal cannot be written, for example because the disk is full.
        ValueError: ``concurrency`` is out of range.
    """
    if concurrency is None:
        concurrency = prober.engine.concurrency
    if concurrency < 1:
        raise ValueError(f"concurrency must be at least 1, got {concurrency!r}")
    if keys is None:
        keys = [(q, b) for q in range(len(questions)) for b in range(plan.branches)]
    top_tokens = TOP_TOKENS if generation_confidence else 0
    await _Collection(
        prober, questions, plan, journal, keys, concurrency, top_tokens, progress
    ).run()


class _Collection:
    """One session of a collection."""

    def __init__(
        self,
        prober: Prober,
        questions: Sequence[AskedQuestion],
        plan: CollectionPlan,
        journal: CollectionJournal,
        keys: Sequence[BranchKey],
        concurrency: int,
        top_tokens: int,
        report: Callable[[CollectionProgress], None],
    ) -> None:
        self._prober = prober
        self._questions = questions
        self._plan = plan
        self._journal = journal
        self._top_tokens = top_tokens
        self._report = report
        self._slots = asyncio.Semaphore(concurrency)
        self._start = time.monotonic()
        contents = journal.contents
        self._pending = [key for key in keys if key not in contents.probes]
        self._pending_branches = Counter(q for q, _ in self._pending)
        self._prompts: dict[int, list[int]] = {}
        self._max_tokens: dict[int, int] = {}
        resumed = len(keys) - len(self._pending)
        sampled = sum(key in contents.traces for key in keys)
        self._progress = CollectionProgress(
            len(keys), sampled, resumed, resumed, resumed_samples=sampled
        )

    async def run(self) -> None:
        self._update()
        try:
            # All prompts first: a prompt that is too long fails before anything is generated.
            async with asyncio.TaskGroup() as group:
                for question in self._pending_branches:
                    group.create_task(self._encode_prompt(question))
            facts = await self._prober.engine.describe()
            self._journal.start_session({**facts, "started": datetime.now(UTC).isoformat()})
            async with asyncio.TaskGroup() as group:
                for key in self._pending:
                    await self._slots.acquire()
                    group.create_task(self._collect_trace(key))
        except* (EngineError, OSError) as failures:
            raise _first_error(failures) from None

    def _elapsed(self) -> float:
        return time.monotonic() - self._start

    def _update(self) -> None:
        self._progress.seconds = self._elapsed()
        self._report(self._progress)

    async def _encode_prompt(self, question: int) -> None:
        async with self._slots:
            try:
                asked = self._questions[question]
                prompt = await self._prober.prompt(asked.text, asked.history)
                self._max_tokens[question] = self._prober.max_trace_tokens(
                    prompt, self._plan.max_tokens
                )
            except EngineError as error:
                name = self._questions[question].id
                raise EngineError(f"question {name!r}: {error}") from error
            self._prompts[question] = prompt

    async def _collect_trace(self, key: BranchKey) -> None:
        """Sample and probe a trace, then release its slot."""
        question, branch = key
        try:
            if key not in self._journal.contents.traces:
                trace, confidence = await self._sample(key)
                self._progress.sampled += 1
                self._journal.append_trace(key, trace, self._elapsed(), confidence)
            probes = await self._probe(key)
        except EngineError as error:
            name = self._questions[question].id
            raise EngineError(f"question {name!r}, branch {branch}: {error}") from error
        finally:
            self._slots.release()
        self._journal.append_probes(key, probes, self._elapsed())
        self._progress.probed += 1
        self._progress.probes += len(probes)
        self._pending_branches[question] -= 1
        if not self._pending_branches[question]:
            self._journal.sync()
        self._update()

    async def _sample(self, key: BranchKey) -> tuple[Generated, TraceConfidence | None]:
        question, branch = key
        request = Request(
            prompt=self._prompts[question],
            max_tokens=self._max_tokens[question],
            sampling=self._plan.sampling,
            seed=self._plan.trace_seed(question, branch),
            top_tokens=self._top_tokens,
        )
        trace, confidence = Generated(), ConfidenceSums(self._plan.interval)
        every = max(self._plan.interval, _MIN_STREAM_PART)
        async for part in self._prober.engine.stream(request, every):
            trace.append(part)
            confidence.add(part)
            self._progress.tokens += len(part.tokens)
            self._update()
        return trace, confidence.result

    async def _probe(self, key: BranchKey) -> list[Generated]:
        trace = self._journal.contents.traces[key]
        positions = [*probe_positions(trace.length, self._plan.interval)]
        if needs_closing_probe(trace, self._prober.protocol):
            positions.append(trace.length)
        return await self._prober.probe(self._prompts[key[0]], trace.tokens, positions)


def _first_error(failures: BaseExceptionGroup[Any]) -> BaseException:
    """The first error of a group; the others are mostly its consequences."""
    error: BaseException = failures
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
