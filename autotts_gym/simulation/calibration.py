"""``measure_curve``: measures the curve of a running server.

At each of several numbers of workers, every worker sends one request after the other, as a live
episode does: it generates a branch in pieces of two lengths, streamed as those of an episode, and
probes it in between. All numbers of workers are measured in several rounds, upwards and downwards
in turn: if the speed of the server changes meanwhile, the curve is its mean instead of bending. A
short warm-up is not counted, because servers compile and allocate at their first requests. From
the times of the requests, three things are estimated:

* the rate r(n) of a sequence if n requests are in progress,
* the latency c and the work w of a request, from t = c + (L + w) / r(n) for a request that
  generated L tokens,
* the same of a probe, whose tokens are part of its work.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from autotts_gym.inference.engine import EngineError, Request
from autotts_gym.inference.prober import Prober
from autotts_gym.live.live_model import LiveModel
from autotts_gym.simulation.server_curve import ServerCurve

#: Lengths of the requests, tokens: different enough to tell the cost of a token from that of a
#: request, and short enough for many requests in a few seconds.
_LENGTHS: Final = (16, 64)

#: How often each number of workers is measured.
_ROUNDS: Final = 3

#: Share of the time with some number of workers after which requests are counted.
_RAMP: Final = 0.2

#: Fewest requests with some number of workers in a round.
_MIN_REQUESTS: Final = 4

#: Requests of each worker for which slow servers get more time, and most of all workers together.
_WORKER_REQUESTS: Final = 2
_REQUESTS: Final = 64

#: Largest number of questions that are asked.
_MAX_QUESTIONS: Final = 64


@dataclass
class _Level:
    """Times of the requests with ``workers`` workers, seconds.

    Attributes:
        tokens, seconds: of every request to generate text.
        probes: of every probe.
        texts: of every conversion of text to tokens or back.
        is_counting: the requests and probes that begin now are counted.
        pending: counted requests and probes that are in progress.
        is_over: no further requests are to be sent.
    """

    workers: int
    tokens: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    probes: list[float] = field(default_factory=list)
    texts: list[float] = field(default_factory=list)
    is_counting: bool = False
    pending: int = 0
    is_over: bool = False

    @property
    def suffices(self) -> bool:
        """Enough requests ended, and some probe."""
        return len(self.seconds) >= _MIN_REQUESTS and len(self.probes) > 0

    @contextlib.contextmanager
    def timing(self, times: list[float]) -> Iterator[bool]:
        """Add the seconds of a request or probe to ``times`` if it is counted, which it yields."""
        is_counted = self.is_counting
        self.pending += is_counted
        start = time.perf_counter()
        yield is_counted
        self.pending -= is_counted
        if is_counted:
            times.append(time.perf_counter() - start)

    def add(self, other: _Level) -> None:
        """Add the times of another round."""
        self.tokens += other.tokens
        self.seconds += other.seconds
        self.probes += other.probes
        self.texts += other.texts


def measure_curve(
    live: LiveModel,
    questions: Sequence[str],
    *,
    max_sequences: int = 256,
    seconds: float = 60.0,
    context: int = 0,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> ServerCurve:
    """Measure the curve of a running server; nothing else should use it meanwhile.

    Args:
        live: a connection to one server.
        questions: questions that the server is asked.
        max_sequences: largest number of sequences that the server generates at a time (vLLM's
            ``--max-num-seqs``).
        seconds: how long the measurement takes; slow servers take longer.
        context: tokens of text that are put before every branch, because servers generate long
            branches more slowly. The question is repeated so often.
        progress: called with the number of workers, and the largest one.

    Raises:
        EngineError: the server failed, or it answered too few requests in the time.
        ValueError: an argument is out of range.
    """
    if not questions:
        raise ValueError("give at least one question")
    if not seconds > 0:
        raise ValueError(f"seconds must be above 0, got {seconds!r}")
    if context < 0:
        raise ValueError(f"context must be at least 0 tokens, got {context!r}")
    counts = _worker_counts(max_sequences)
    levels = {workers: _Level(workers) for workers in counts}
    chosen = list(questions[:_MAX_QUESTIONS])
    prober = live.run(live.prober())
    described = live.run(live.engine.describe())
    prompts = [live.run(_prompt(live, prober, question, context)) for question in chosen]
    order = [
        workers for k in range(_ROUNDS) for workers in (counts if k % 2 == 0 else reversed(counts))
    ]
    shortest = seconds / (3 * len(order))
    end = time.perf_counter() + seconds
    live.run(_measure(live, prober, prompts, counts[-1], shortest))  # the warm-up
    for k, workers in enumerate(order):
        progress(workers, counts[-1])
        # Requests in progress end after each slot, which is taken from those that follow.
        slot = max((end - time.perf_counter()) / (len(order) - k), shortest)
        levels[workers].add(live.run(_measure(live, prober, prompts, workers, slot)))
    curve = fit_curve(
        counts,
        [np.array([level.tokens, level.seconds], np.float64) for level in levels.values()],
        [np.array(level.probes) for level in levels.values()],
    )
    # Each number of workers counts the same: busy servers convert most texts.
    texts = [statistics.median(level.texts) for level in levels.values() if level.texts]
    measured = {
        **described,
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": seconds,
        "context": context,
        "requests": [len(level.seconds) for level in levels.values()],
        "probes": [len(level.probes) for level in levels.values()],
    }
    return ServerCurve.create(
        **curve,
        max_sequences=max_sequences,
        text_seconds=statistics.median(texts) if texts else 0.0,
        details=measured,
    )


def _worker_counts(largest: int) -> list[int]:
    """1, 2, 4, 8, ... up to the largest number."""
    if isinstance(largest, bool) or not isinstance(largest, int) or largest < 1:
        raise ValueError(f"max_sequences must be an integer of at least 1, got {largest!r}")
    counts = [1]
    while 2 * counts[-1] < largest:
        counts.append(2 * counts[-1])
    return [*counts, largest] if largest > 1 else counts


async def _prompt(live: LiveModel, prober: Prober, question: str, context: int) -> list[int]:
    """Token ids of a question, repeated to make up ``context`` tokens before the last one."""
    prompt = await live.with_timeout(prober.prompt(question))
    before = (prompt * (context // max(len(prompt), 1) + 1))[:context]
    tokens = [*before, *prompt]
    prober.max_trace_tokens(tokens, live.max_tokens)  # raises if nothing fits after it
    return tokens


async def _measure(
    live: LiveModel, prober: Prober, prompts: list[list[int]], workers: int, seconds: float
) -> _Level:
    """Keep ``workers`` requests in progress for some seconds, and time them.

    Requests that begin within the time are counted, and the workers go on until they have ended.
    Were those in progress given up at its end, most of them would be long or slow ones.
    """
    level = _Level(workers)
    start = time.perf_counter()
    limit = max(5 * seconds, live.patience)
    tasks = [
        asyncio.create_task(_work(live, prober, prompts, number, level))
        for number in range(workers)
    ]
    try:
        while (elapsed := time.perf_counter() - start) < limit:
            least = min(_WORKER_REQUESTS * workers, _REQUESTS)
            enough = (
                len(level.seconds) >= least
                and len(level.probes) >= least // 2
                and len(set(level.tokens)) > 1
            )
            stop = seconds if enough else 5 * seconds
            is_measured = level.suffices and elapsed >= stop
            level.is_counting = elapsed >= _RAMP * seconds and not is_measured
            if is_measured and not level.pending:
                break
            done, _ = await asyncio.wait(
                tasks, timeout=seconds / 20, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                task.result()  # raises its error
    finally:
        level.is_over = True
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if not level.suffices:
        raise EngineError(
            f"{live.engine}: {len(level.seconds)} requests and {len(level.probes)} probes ended "
            f"within {limit:.0f} s with {workers} in progress; give more seconds"
        )
    return level


async def _work(
    live: LiveModel,
    prober: Prober,
    prompts: list[list[int]],
    number: int,
    level: _Level,
) -> None:
    """Generate branch after branch, in pieces after which it is probed."""
    turn = number
    question = number
    while not level.is_over:
        prompt = prompts[question % len(prompts)]
        question += level.workers
        room = prober.max_trace_tokens(prompt, live.max_tokens)
        branch: list[int] = []
        ended = False
        while not ended and len(branch) < room and not level.is_over:
            length = min(_LENGTHS[turn % len(_LENGTHS)], room - len(branch))
            turn += 1
            request = Request(
                prompt=[*prompt, *branch],
                max_tokens=length,
                sampling=live.sampling,
                top_tokens=live.top_tokens,
            )
            before = len(branch)
            with level.timing(level.seconds) as is_counted:
                async for part in live.engine.stream(request, live.part_tokens):
                    branch += part.tokens
                    ended = part.finish == "stop"
            if is_counted:
                level.tokens.append(len(branch) - before)
            if not ended:
                with level.timing(level.probes):
                    await live.with_timeout(prober.probe(prompt, branch, [len(branch)]))
        start = time.perf_counter()
        await live.with_timeout(live.engine.decode(branch))
        level.texts.append(time.perf_counter() - start)


def fit_curve(
    concurrency: Sequence[int],
    requests: Sequence[NDArray[np.float64]],
    probes: Sequence[NDArray[np.float64]],
) -> dict[str, Any]:
    """Fit a curve to the times of requests.

    Args:
        concurrency: numbers of requests in progress.
        requests: for each of them, float64[2, K]: tokens and seconds of K requests.
        probes: for each of them, seconds of probes.

    Returns:
        ``concurrency``, ``tokens_per_second``, ``request`` and ``probe`` of a
        :class:`~autotts_gym.simulation.server_curve.ServerCurve`.

    Raises:
        EngineError: the times do not depend on the number of tokens.
    """
    slopes, intercepts, means = [], [], []
    for count, (tokens, seconds) in zip(concurrency, requests, strict=True):
        if np.ptp(tokens) == 0:
            raise EngineError(
                f"all requests with {count} in progress had {tokens[0]:.0f} tokens: the cost of a "
                f"token cannot be told from that of a request; do the branches end at once?"
            )
        slope = float(np.polyfit(tokens, seconds, 1)[0])
        # A line through the mean, with a slope above 0: times are noisy.
        slope = max(slope, 0.1 * seconds.mean() / tokens.mean())
        slopes.append(slope)
        intercepts.append(seconds.mean() - slope * tokens.mean())
        means.append(seconds.mean())
    latency, work = _latency_and_work(np.array(slopes), np.array(intercepts), np.array(means))
    rates = []
    for tokens, seconds in requests:
        # Given the cost of a request, the rate follows from all times together.
        spent = max(seconds.mean() - latency, 0.1 * seconds.mean())
        rates.append((tokens.mean() + work) / spent)
    probed = np.array([times.mean() for times in probes])
    probe_latency, probe_work = _latency_and_work(1 / np.array(rates), probed, probed)
    return {
        "concurrency": list(concurrency),
        "tokens_per_second": [float(rate) for rate in rates],
        "request": {"seconds": latency, "tokens": work},
        "probe": {"seconds": probe_latency, "tokens": probe_work},
    }


def _latency_and_work(
    token_seconds: NDArray[np.float64],
    seconds: NDArray[np.float64],
    scale: NDArray[np.float64],
) -> tuple[float, float]:
    """Latency c and work w, at least 0, of times c + w · (seconds per token).

    Errors count relative to ``scale``, so that idle and busy servers matter equally.
    """
    matrix = np.stack([1 / scale, token_seconds / scale], axis=1)
    (latency, work), _ = nnls(matrix, seconds / scale)
    return float(latency), float(work)
