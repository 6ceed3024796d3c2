"""A running model that live episodes are played on, and the branches that grow on it.

Episodes are synchronous, as Gymnasium's are; engines are asynchronous. A model has an event loop on
a thread of its own, on which branches grow while an episode decides.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Awaitable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import numpy as np

from autotts_gym.inference.engine import Engine, EngineError, Request, Sampling
from autotts_gym.inference.protocol import Probe, Prober, Protocol, is_null
from autotts_gym.traces.store import check_interval

T = TypeVar("T")

#: Of an interval, how often a growing branch is heard of.
_PARTS: Final = 4


class LiveModel:
    """A model that is running; several episodes may share it.

    Args:
        engine: where it runs. It is closed with the model.
        protocol: how it is asked and probed.
        interval: Δ, tokens.
        max_tokens: most tokens of a branch.
        sampling: how branches are drawn.
        eager: ask for a branch's probe as soon as its requested text is there, so that looks after
            one another need not wait for one another. What nobody looks at was asked for in vain;
            without, a probe is asked for when it is looked at.
        patience: seconds without a new token, or for a probe, after which a look has failed.
        reference: the collected environment that its terms are from, if any.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        engine: Engine,
        protocol: Protocol,
        *,
        interval: int = 500,
        max_tokens: int = 40_960,
        sampling: Sampling | None = None,
        eager: bool = True,
        patience: float = 120.0,
        reference: str | None = None,
    ) -> None:
        check_interval(interval)
        if isinstance(max_tokens, bool) or not isinstance(max_tokens, int) or max_tokens < 1:
            raise ValueError(f"max_tokens must be an integer of at least 1, got {max_tokens!r}")
        if not patience > 0:
            raise ValueError(f"patience must be above 0 seconds, got {patience!r}")
        self.engine = engine
        self.protocol = protocol
        self.interval = interval
        self.max_tokens = max_tokens
        self.sampling = sampling or Sampling()
        self.eager = eager
        self.patience = patience
        self.reference = reference
        self._prober: Prober | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="autotts-live", daemon=True
        )
        self._thread.start()

    @property
    def depth(self) -> int:
        """The depth limit, intervals."""
        return -(-self.max_tokens // self.interval)

    def __deepcopy__(self, memo: dict[int, Any]) -> LiveModel:
        return self  # gym.make copies its arguments

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the model's loop, and wait for it.

        Raises:
            EngineError: the model is closed.
        """
        if self._loop.is_closed():
            work.close()
            raise EngineError(f"{self.engine}: the model is closed")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        finally:
            future.cancel()  # where waiting was given up, as by Ctrl-C

    async def within_patience(self, work: Awaitable[T]) -> T:
        """Await something that should not take long; raises ``EngineError`` where it does."""
        limit = 2 * self.patience  # servers are given up before, with the reason
        try:
            return await asyncio.wait_for(work, limit)
        except TimeoutError:
            raise EngineError(f"{self.engine}: no answer within {limit:g} s") from None

    def post(self, act: Any, *arguments: Any) -> None:
        """Call a function on the model's loop; does not wait for it."""
        self._loop.call_soon_threadsafe(act, *arguments)

    async def prober(self) -> Prober:
        """The protocol at work."""
        if self._prober is None:
            self._prober = await self.within_patience(Prober.on(self.engine, self.protocol))
        return self._prober

    def close(self) -> None:
        """Let go of the engine; a second time does nothing."""
        if self._loop.is_closed():
            return
        with contextlib.suppress(EngineError, concurrent.futures.CancelledError):
            self.run(self.engine.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> LiveModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass
class _Branch:
    """A branch as far as it has grown."""

    tokens: list[int] = field(default_factory=list)
    target: int = 0  # tokens that were asked for
    ended: bool = False
    cut: bool = False  # ended by the maximum length
    task: asyncio.Task[None] | None = None
    shown: asyncio.Task[Probe | End] | None = None  # what it shows at its present length


@dataclass(frozen=True)
class End:
    """The end of a branch.

    Attributes:
        length: n, whole intervals before the last.
        tokens: T, its closing text included.
        final: its final answer.
    """

    length: int
    tokens: int
    final: str


class Branches:
    """The branches of one live episode.

    Args:
        model: what they grow on.
        question: what is asked.
        seed: of their draws; None leaves them to the engine.
        count: how many there can be.
    """

    def __init__(self, model: LiveModel, question: str, seed: int | None, count: int) -> None:
        self._model = model
        self._seed = seed
        self._branches = [_Branch() for _ in range(count)]
        self._prober = model.run(model.prober())
        self._prompt = model.run(model.within_patience(self._prober.prompt(question)))
        self._room = self._prober.room(self._prompt, model.max_tokens)
        self.probe_tokens = 0

    @property
    def generated(self) -> int:
        """Tokens that were really generated, those of unfinished branches included."""
        return sum(len(branch.tokens) for branch in self._branches)

    def tokens(self, i: int) -> int:
        """Tokens that branch ``i`` has."""
        return len(self._branches[i].tokens)

    def request(self, i: int) -> None:
        """Have branch ``i`` grow by an interval; does not wait."""
        self._model.post(self._request, i)

    def _request(self, i: int) -> None:
        branch = self._branches[i]
        branch.target = min(branch.target + self._model.interval, self._room)
        if branch.task is None or branch.task.done():
            branch.task = asyncio.get_running_loop().create_task(self._grow(i))

    async def _grow(self, i: int) -> None:
        """Generate until the branch has what was asked for, which may become more meanwhile."""
        branch, model = self._branches[i], self._model
        while not branch.ended and len(branch.tokens) < branch.target:
            seed = None
            if self._seed is not None and model.sampling.temperature > 0:
                # Not the same random numbers in every part of a branch.
                entropy = [self._seed, i, len(branch.tokens)]
                state = np.random.SeedSequence(entropy).generate_state(1, np.uint64)
                seed = int(state[0]) >> 1
            request = Request(
                prompt=[*self._prompt, *branch.tokens],
                max_tokens=branch.target - len(branch.tokens),
                sampling=model.sampling,
                seed=seed,
            )
            every = max(1, model.interval // _PARTS)
            if branch.shown is not None:  # nobody looked
                branch.shown.cancel()
                branch.shown = None
            async for part in model.engine.stream(request, every):
                branch.tokens += part.tokens
                branch.ended = part.finish == "stop"
            if not branch.ended and len(branch.tokens) >= self._room:
                branch.ended = branch.cut = True
            if model.eager and (branch.ended or len(branch.tokens) >= branch.target):
                self._show(branch)

    def _show(self, branch: _Branch) -> asyncio.Task[Probe | End]:
        """Ask what a branch shows where it stands; asked again, it is the same question."""
        if branch.shown is None:
            work = self._end(branch) if branch.ended else self._probe(branch, len(branch.tokens))
            branch.shown = asyncio.get_running_loop().create_task(work)
        return branch.shown

    def look(self, i: int) -> Probe | End:
        """Wait for the text that was requested of branch ``i``, and for what it shows there.

        Raises:
            EngineError: the engine failed, or took too long.
        """
        return self._model.run(self._look(i))

    async def _look(self, i: int) -> Probe | End:
        branch = self._branches[i]
        while branch.task is not None and not branch.task.done():
            before = len(branch.tokens)
            await asyncio.wait([branch.task], timeout=self._model.patience)
            if not branch.task.done() and len(branch.tokens) == before:
                raise EngineError(
                    f"{self._model.engine}: branch {i} stalled: no token within "
                    f"{self._model.patience:g} s"
                )
        if branch.task is not None:
            branch.task.result()  # raises what it failed with
        return await self._show(branch)

    async def _end(self, branch: _Branch) -> End:
        count = len(branch.tokens)
        decoded = self._model.engine.decode(branch.tokens)
        final = self._prober.protocol.final(await self._model.within_patience(decoded))
        tokens = count
        if branch.cut and is_null(final):
            probe = await self._probe(branch, count)
            final, tokens = probe.answer, count + probe.tokens
        return End(self._whole(count), max(tokens, 1), final)

    async def _probe(self, branch: _Branch, at: int) -> Probe:
        asked = self._prober.look(self._prompt, branch.tokens, [at])
        probe = self._prober.protocol.read((await self._model.within_patience(asked))[0])
        self.probe_tokens += probe.tokens
        return probe

    def ends(self) -> dict[int, tuple[int, int]]:
        """Of the branches that have ended, n and T as far as they are known without a look."""
        return {
            i: (self._whole(len(b.tokens)), max(len(b.tokens), 1))
            for i, b in enumerate(self._branches)
            if b.ended
        }

    def _whole(self, count: int) -> int:
        """Whole intervals before the last one of a branch of so many tokens."""
        return max(count - 1, 0) // self._model.interval

    def abort(self, i: int) -> None:
        """End the generation of branch ``i``; does not wait."""
        self._model.post(self._abort, i)

    def _abort(self, i: int) -> None:
        for task in self._tasks(self._branches[i]):
            task.cancel()

    @staticmethod
    def _tasks(branch: _Branch) -> list[asyncio.Task[Any]]:
        return [task for task in (branch.task, branch.shown) if task is not None]

    def close(self) -> None:
        """End all generation, and wait until it has ended."""
        with contextlib.suppress(EngineError, concurrent.futures.CancelledError):
            self._model.run(self._close())

    async def _close(self) -> None:
        tasks = [task for branch in self._branches for task in self._tasks(branch)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
