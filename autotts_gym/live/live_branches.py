"""``LiveBranches``: the branches of a live episode, generated and probed on a running model."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import time
from collections.abc import Awaitable
from typing import Any, Final, TypeVar

import numpy as np

from autotts_gym.collection.asked_question import AskedQuestion
from autotts_gym.inference.engine import EngineError, Request
from autotts_gym.inference.prober import Prober
from autotts_gym.inference.protocol import Probe
from autotts_gym.inference.token_confidence import ConfidenceSums, interval_counts
from autotts_gym.live.interval_orders import IntervalOrders
from autotts_gym.live.live_branch import BranchEnd, BranchText, LiveBranch
from autotts_gym.live.live_model import LiveModel

T = TypeVar("T")

#: Seconds within which the text of a branch must be decoded.
_DECODING_TIME: Final = 5.0


class DeadlinePassedError(EngineError):
    """The deadline of the episode has passed."""


class LiveBranches:
    """The branches of one live episode.

    Args:
        model: the model that generates them.
        question: the question, and the messages before it.
        seed: random seed of the samples; None leaves them to the engine.
        count: maximum number of branches.
        deadline: time of ``time.monotonic()`` after which nothing is awaited; None for no limit.

    Raises:
        EngineError: the model failed, or the prompt leaves no room for a branch.
        DeadlinePassedError: the deadline has passed.

    Attributes:
        prompt_tokens: number of tokens of the prompt; of no meaning for an engine of texts.
        probe_tokens: tokens that probes generated so far.
    """

    def __init__(
        self,
        model: LiveModel,
        question: AskedQuestion,
        seed: int | None,
        count: int,
        deadline: float | None = None,
    ) -> None:
        self._model = model
        self._seed = seed
        self._deadline = deadline
        self._is_waiting = False
        self._cancelled = False
        self._discarded_tokens = 0
        self._orders = IntervalOrders(model, self._extend, self._start)
        self._branches = [LiveBranch(ConfidenceSums(model.interval)) for _ in range(count)]
        self._is_closed = False
        self._prober, self._prompt = self._wait_for_prompt(model.prompt(question))
        self.prompt_tokens = len(self._prompt)
        self._max_tokens = self._prober.max_trace_tokens(self._prompt, model.max_tokens)
        self.probe_tokens = 0

    def _wait_for_prompt(
        self, prompt: concurrent.futures.Future[tuple[Prober, list[int]]]
    ) -> tuple[Prober, list[int]]:
        left = None if self._deadline is None else max(self._deadline - time.monotonic(), 0.0)
        try:
            return prompt.result(left)
        except TimeoutError as error:
            raise DeadlinePassedError("the deadline has passed") from error
        finally:
            prompt.cancel()  # if waiting was interrupted, as by Ctrl-C

    @property
    def generated_tokens(self) -> int:
        """Tokens generated so far, including those of unfinished branches."""
        return self._discarded_tokens + sum(len(branch.tokens) for branch in self._branches)

    # --- requests --------------------------------------------------------------------------------

    def extend(self, i: int) -> None:
        """Request another interval of branch ``i``, without waiting for it."""
        self._orders.add(i)

    def probe(self, i: int) -> Probe | BranchEnd:
        """Wait for the requested tokens of branch ``i``, then probe it.

        Raises:
            EngineError: the engine failed or timed out.
            DeadlinePassedError: the deadline has passed.
        """
        branch = self._branches[i]
        result = self._known_probe(branch)
        if result is None:
            result = self._model.run(self._wait_and_probe(i))
        branch.shown = len(branch.tokens), branch.closing
        if (confidence := branch.sums.result) is not None:
            counts = interval_counts(len(branch.tokens), self._model.interval)
            branch.revealed = confidence.sums, counts
        return result

    def _known_probe(self, branch: LiveBranch) -> Probe | BranchEnd | None:
        """The result of a probe that has ended already: the event loop need not be asked."""
        if not self._orders.are_started or not _has_succeeded(branch.generation):
            return None
        probe = branch.probe
        if probe is None or not _has_succeeded(probe):
            return None
        self.check_deadline()
        return probe.result()

    def check_deadline(self) -> None:
        """Check that the episode may go on.

        Raises:
            DeadlinePassedError: the deadline has passed.
            EngineError: the episode was cancelled.
        """
        self._check_cancelled()
        if self._deadline is not None and time.monotonic() >= self._deadline:
            raise DeadlinePassedError("the deadline has passed")

    def generation_confidence(self, i: int) -> tuple[list[float], list[int]] | None:
        """Generation confidence of branch ``i`` up to its last probe.

        Returns:
            For each interval, the sum of the token confidences and the number of tokens; None if
            they are not known.
        """
        return self._branches[i].revealed

    def abort(self, i: int) -> None:
        """Abort the generation of branch ``i``, without waiting."""
        self._model.call_soon(self._abort, i)

    def text(self, i: int) -> BranchText:
        """Text of branch ``i`` up to its last probe."""
        text = self._known_text(self._branches[i])
        return self._model.run(self._text(i)) if text is None else text

    def _known_text(self, branch: LiveBranch) -> BranchText | None:
        """The text of a branch that came in one piece; None for others."""
        _, closing = branch.shown or (0, "")
        if closing or branch.requests != 1:
            return None
        return BranchText("".join(branch.texts), branch.cut)

    def cancel(self) -> None:
        """Abort all generation, without waiting; further probes raise ``EngineError``.

        Unlike the other methods, it may be called from any thread.
        """
        self._cancelled = True
        self._model.call_soon(self._abort_all)

    def _check_cancelled(self) -> None:
        if self._cancelled:
            raise EngineError("the episode was cancelled")

    def close(self) -> None:
        """Abort all generation, and wait until it has ended; further calls have no effect."""
        if self._is_closed:
            return
        tasks = [task for branch in self._branches for task in branch.tasks()]
        if self._orders.are_started and all(map(_has_succeeded, tasks)):
            self._forget_tasks()  # all has ended: the event loop need not be asked
        else:
            with contextlib.suppress(EngineError, concurrent.futures.CancelledError):
                self._model.run(self._close())
        self._is_closed = True

    def known_ends(self) -> dict[int, tuple[int, int]]:
        """Return n and T of every branch that has ended, as far as known without a probe."""
        return {
            i: (self._whole_intervals(len(branch.tokens)), max(len(branch.tokens), 1))
            for i, branch in enumerate(self._branches)
            if branch.ended
        }

    def _whole_intervals(self, tokens: int) -> int:
        """Whole intervals before the last one of a branch."""
        return max(tokens - 1, 0) // self._model.interval

    # --- on the model's event loop ---------------------------------------------------------------

    def _extend(self, i: int) -> bool:
        """Request another interval of a branch; whether its generation must be started."""
        if self._cancelled:
            return False
        branch = self._branches[i]
        branch.target = min(branch.target + self._model.interval, self._max_tokens)
        return branch.generation is None or branch.generation.done()

    def _start(self, i: int) -> None:
        branch = self._branches[i]
        if not branch.aborted:
            branch.generation = asyncio.get_running_loop().create_task(self._generate(i))

    async def _generate(self, i: int) -> None:
        """Generate until the branch reaches its target, which may grow meanwhile."""
        branch, model = self._branches[i], self._model
        while not branch.ended and len(branch.tokens) < branch.target:
            request = Request(
                prompt=[*self._prompt, *branch.tokens],
                max_tokens=branch.target - len(branch.tokens),
                sampling=model.sampling,
                seed=self._request_seed(i),
                top_tokens=model.top_tokens,
            )
            if branch.probe is not None:  # a probe at the previous length, which was not used
                branch.probe.cancel()
                branch.probe = None
            branch.requests += 1
            async for part in model.engine.stream(request, model.part_tokens):
                if part.restarts:
                    self._discard(branch)
                branch.tokens += part.tokens
                branch.texts.append(part.text)
                branch.sums.add(part)
                branch.ended = part.finish == "stop"
                if part.finish and not model.engine.can_continue:
                    branch.ended, branch.cut = True, part.finish == "length"
            if not branch.ended and len(branch.tokens) >= self._max_tokens:
                branch.ended = branch.cut = True
            self._probe_eagerly(branch)

    def _discard(self, branch: LiveBranch) -> None:
        """Drop what a branch has so far, which was generated nevertheless."""
        self._discarded_tokens += len(branch.tokens)
        branch.tokens.clear()
        branch.texts.clear()
        branch.sums = ConfidenceSums(self._model.interval)

    def _request_seed(self, i: int) -> int | None:
        """Seed of the next request of a branch: different for every part of the branch."""
        if self._seed is None or self._model.sampling.temperature == 0:
            return None
        entropy = [self._seed, i, len(self._branches[i].tokens)]
        state = np.random.SeedSequence(entropy).generate_state(1, np.uint64)
        return int(state[0]) >> 1

    def _probe_eagerly(self, branch: LiveBranch) -> None:
        """Start the probe of a branch that has its requested tokens, if one is likely to be used.

        A controller that waits for a probe has requested what it wants to read. Before that, it may
        extend the branch, and the probe would be wasted.
        """
        ready = branch.target and (branch.ended or len(branch.tokens) >= branch.target)
        if self._model.eager and self._is_waiting and ready and not branch.aborted:
            self._start_probe(branch)

    def _start_probe(self, branch: LiveBranch) -> asyncio.Task[Probe | BranchEnd]:
        """Start the probe of a branch at its present length, unless it was started already."""
        if branch.probe is None:
            probe = self._read_end(branch) if branch.ended else self._run_probe(branch)
            branch.probe = asyncio.get_running_loop().create_task(probe)
        return branch.probe

    async def _wait_and_probe(self, i: int) -> Probe | BranchEnd:
        self._check_cancelled()
        self._orders.start_all()
        self._is_waiting = True
        try:
            for other in self._branches:
                self._probe_eagerly(other)
            return await self._before_deadline(self._wait_for_probe(i))
        except asyncio.CancelledError:
            self._check_cancelled()
            raise
        finally:
            self._is_waiting = False

    async def _before_deadline(self, awaitable: Awaitable[T]) -> T:
        timeout = asyncio.timeout_at(self._deadline)
        try:
            async with timeout:
                return await awaitable
        except TimeoutError as error:
            if timeout.expired():
                raise DeadlinePassedError("the deadline has passed") from error
            raise

    async def _wait_for_probe(self, i: int) -> Probe | BranchEnd:
        branch, patience = self._branches[i], self._model.patience
        retries = self._model.engine.retries
        while branch.generation is not None and not branch.generation.done():
            before = len(branch.tokens)
            await asyncio.wait([branch.generation], timeout=patience)
            if not branch.generation.done() and len(branch.tokens) == before:
                raise EngineError(
                    f"{self._model.engine}: branch {i} stalled: no token within {patience:g} s"
                    f"{self._model.failure_since(retries)}"
                )
        if branch.generation is not None:
            branch.generation.result()  # raises the error of a failed generation
        return await self._start_probe(branch)

    async def _run_probe(self, branch: LiveBranch) -> Probe:
        requests = self._prober.probe(self._prompt, branch.tokens, [len(branch.tokens)])
        generated = (await self._model.with_timeout(requests))[0]
        probe = self._prober.protocol.read_probe(generated)
        self.probe_tokens += probe.tokens
        branch.closing = self._prober.protocol.probe_text(generated)
        return probe

    async def _read_end(self, branch: LiveBranch) -> BranchEnd:
        """Read the final answer of an ended branch; a probe closes a branch that was cut."""
        tokens = len(branch.tokens)
        length = self._whole_intervals(tokens)
        branch.closing = ""
        if branch.requests == 1:
            text = "".join(branch.texts)
        else:
            text = await self._model.with_timeout(self._model.engine.decode(branch.tokens))
        found = self._prober.protocol.final_answer(text)
        final, null = found.answer, found.null
        if branch.cut and null and self._model.engine.can_continue:
            probe = await self._run_probe(branch)
            final, null, tokens = probe.answer, probe.null, tokens + probe.tokens
        return BranchEnd(length, max(tokens, 1), final, null)

    async def _text(self, i: int) -> BranchText:
        branch = self._branches[i]
        count, closing = branch.shown or (len(branch.tokens), "")
        tokens = branch.tokens[:count]
        if closing:
            tokens = tokens[: self._prober.reasoning_length(tokens)]
        elif branch.ended and not branch.cut and self._model.engine.has_end_token:
            tokens = tokens[:-1]
        try:
            async with asyncio.timeout(_DECODING_TIME):
                text = await self._model.engine.decode(tokens) if tokens else ""
        except (EngineError, TimeoutError):  # the text as it came may have broken characters
            text = "".join(branch.texts)
        return BranchText(text + closing, branch.cut)

    def _abort_all(self) -> None:
        for i in range(len(self._branches)):
            self._abort(i)

    def _abort(self, i: int) -> None:
        self._branches[i].aborted = True
        for task in self._branches[i].tasks():
            task.cancel()

    async def _close(self) -> None:
        self._abort_all()
        tasks = [task for branch in self._branches for task in branch.tasks()]
        await asyncio.gather(*tasks, return_exceptions=True)
        self._forget_tasks()

    def _forget_tasks(self) -> None:
        # Reference cycles would keep the episode until the next garbage collection.
        self._orders.close()
        for branch in self._branches:
            branch.generation = branch.probe = None


def _has_succeeded(task: asyncio.Task[Any] | None) -> bool:
    if task is None or not task.done() or task.cancelled():
        return False
    return task.exception() is None
