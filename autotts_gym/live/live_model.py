"""``LiveModel``: a running model that live episodes share, with its event loop.

Episodes are synchronous, like Gymnasium's; inference engines are asynchronous. A ``LiveModel`` runs
an event loop in its own thread, on which branches grow while the controller computes.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import copy
import os
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar

from autotts_gym.collection.asked_question import AskedQuestion
from autotts_gym.inference.engine import Engine, EngineError, Sampling
from autotts_gym.inference.prober import Prober
from autotts_gym.inference.protocol import Protocol
from autotts_gym.inference.token_confidence import TOP_TOKENS
from autotts_gym.traces.store import check_interval

T = TypeVar("T")

#: Prompts that are rendered, by question; an entry goes with its question.
_Prompts = weakref.WeakKeyDictionary[
    AskedQuestion, concurrent.futures.Future[tuple[Prober, list[int]]]
]

#: Number of parts in which an interval is streamed.
_PARTS_PER_INTERVAL: Final = 4


class LiveModel:
    """A running model; several episodes may share it.

    Usually made by :func:`autotts_gym.live.connection.connect`.

    Args:
        engine: runs the model; closed together with the ``LiveModel``.
        protocol: how the model is prompted and probed.
        interval: Δ, tokens.
        max_tokens: maximum length of a branch, tokens.
        sampling: sampling parameters of the branches.
        eager: while the episode waits for a probe, also probe the other branches as soon as their
            requested tokens are generated, so that consecutive probes do not wait for each other;
            probes that are not used are wasted. Without ``eager``, a probe starts when the episode
            asks for it.
        patience: seconds without a new token, or without the result of a probe, after which a
            probe fails.
        reference: name or path of the collected environment that the configuration comes from.
        generation_confidence: ask for the log-probabilities of the likeliest tokens of branches
            (:mod:`autotts_gym.inference.token_confidence`).
        new_event_loop: makes the event loop.

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
        reference: str | os.PathLike[str] | None = None,
        generation_confidence: bool = True,
        new_event_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop,
    ) -> None:
        check_interval(interval)
        if not patience > 0:
            raise ValueError(f"patience must be above 0 seconds, got {patience!r}")
        self.engine = engine
        self.protocol = protocol
        self.interval = interval
        self.max_tokens = _check_max_tokens(max_tokens)
        self.sampling = sampling or Sampling()
        self.eager = eager
        self.patience = patience
        self.top_tokens = TOP_TOKENS if generation_confidence else 0
        self.reference = None if reference is None else os.fspath(reference)
        self._prober: Prober | None = None
        self._prompts: _Prompts = weakref.WeakKeyDictionary()
        self._loop = new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="autotts-live", daemon=True
        )
        self._thread.start()

    def derive(
        self,
        *,
        protocol: Protocol | None = None,
        sampling: Sampling | None = None,
        max_tokens: int | None = None,
    ) -> LiveModel:
        """Return the same model with other settings.

        Args:
            protocol, sampling, max_tokens: new settings; None keeps the present one.

        Returns:
            A model that shares the engine and the event loop of this one; only one of them is to be
            closed.

        Raises:
            ValueError: an argument is out of range.
        """
        derived = copy.copy(self)
        derived._prompts = weakref.WeakKeyDictionary()
        if protocol is not None:
            derived.protocol, derived._prober = protocol, None
        if sampling is not None:
            derived.sampling = sampling
        if max_tokens is not None:
            derived.max_tokens = _check_max_tokens(max_tokens)
        return derived

    @property
    def depth_limit(self) -> int:
        """Maximum depth of a branch, intervals."""
        return -(-self.max_tokens // self.interval)

    @property
    def part_tokens(self) -> int:
        """Tokens of each part in which branches are streamed."""
        return max(1, self.interval // _PARTS_PER_INTERVAL)

    def __deepcopy__(self, memo: dict[int, Any]) -> LiveModel:
        return self  # gym.make copies its arguments

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the model's event loop and wait for its result.

        Raises:
            EngineError: the model is closed.
        """
        future = self.submit(coroutine)
        try:
            return future.result()
        finally:
            future.cancel()  # if waiting was interrupted, as by Ctrl-C

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Run a coroutine on the model's event loop, without waiting for it.

        Raises:
            EngineError: the model is closed.
        """
        if self._loop.is_closed():
            coroutine.close()
            raise EngineError(f"{self.engine}: the model is closed")
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    async def with_timeout(self, awaitable: Awaitable[T]) -> T:
        """Await a short operation.

        Raises:
            EngineError: it takes more than twice ``patience`` seconds.
        """
        # Twice: the engine itself fails after patience seconds, with a better message.
        limit = 2 * self.patience
        retries = self.engine.retries
        try:
            async with asyncio.timeout(limit):
                return await awaitable
        except TimeoutError:
            reason = self.failure_since(retries)
            raise EngineError(f"{self.engine}: no answer within {limit:g} s{reason}") from None

    def failure_since(self, retries: int) -> str:
        """Why requests were sent again, as the end of a message.

        Args:
            retries: ``engine.retries`` at the time from which failures matter.
        """
        if self.engine.retries == retries:
            return ""
        return f"; the last failure was {self.engine.last_failure}"

    def call_soon(self, function: Callable[..., object], *arguments: Any) -> None:
        """Schedule a function call on the model's event loop, without waiting for it."""
        self._loop.call_soon_threadsafe(function, *arguments)

    async def prober(self) -> Prober:
        """Return the prober: the protocol applied to the engine."""
        if self._prober is None:
            self._prober = await self.with_timeout(Prober.create(self.engine, self.protocol))
        return self._prober

    def prefetch(self, question: AskedQuestion) -> None:
        """Start to render the prompt of a question, whose episode starts soon; does not wait.

        Raises:
            EngineError: the model is closed.
        """
        self._prompts[question] = self.submit(self._render(question))

    def prompt(
        self, question: AskedQuestion
    ) -> concurrent.futures.Future[tuple[Prober, list[int]]]:
        """The prober and the token ids of the prompt of a question, for one episode.

        Raises:
            EngineError: the model is closed; the result may raise it as well.
        """
        return self._prompts.pop(question, None) or self.submit(self._render(question))

    async def _render(self, question: AskedQuestion) -> tuple[Prober, list[int]]:
        prober = await self.prober()
        prompt = prober.prompt(question.text, question.history)
        return prober, await self.with_timeout(prompt)

    def close(self) -> None:
        """Close the engine and stop the event loop; further calls have no effect."""
        if self._loop.is_closed():
            return
        for prompt in list(self._prompts.values()):
            prompt.cancel()
        with contextlib.suppress(EngineError, concurrent.futures.CancelledError):
            self.run(self.engine.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> LiveModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _check_max_tokens(max_tokens: int) -> int:
    if isinstance(max_tokens, bool) or not isinstance(max_tokens, int) or max_tokens < 1:
        raise ValueError(f"max_tokens must be an integer of at least 1, got {max_tokens!r}")
    return max_tokens
