"""``collect`` and ``add_probes``: environments from a model, as ``autotts collect`` makes them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autotts_gym.api.catalogue import StrPath, load_env
from autotts_gym.utils.keywords import suggest_keywords

if TYPE_CHECKING:
    from autotts_gym.collection.collector import CollectionProgress
    from autotts_gym.inference.engine import Engine
    from autotts_gym.inference.server_apis import Api
    from autotts_gym.traces.store import TraceStore


def _no_progress(progress: CollectionProgress) -> None:
    """Ignore the progress of a collection."""


@suggest_keywords()
def collect(
    questions: StrPath,
    name: str,
    *,
    model: str | None = None,
    base_url: str | Sequence[str] | None = None,
    model_name: str | None = None,
    branches: int = 128,
    interval: int = 500,
    max_tokens: int = 40_960,
    temperature: float = 0.7,
    top_p: float = 1.0,
    top_k: int = 0,
    seed: int | None = None,
    protocol: StrPath | None = None,
    benchmark: str | None = None,
    split: str | None = None,
    id_field: str = "id",
    question_field: str = "question",
    answer_field: str = "answer",
    options_field: str = "options",
    texts: bool = False,
    extend: StrPath | None = None,
    generation_confidence: bool = True,
    concurrency: int | None = None,
    patience: float = 600.0,
    stall: float = 120.0,
    api: Api = "tokens",
    api_key: str | None = None,
    headers: Mapping[str, str] | None = None,
    engine: Mapping[str, Any] | None = None,
    to: StrPath | None = None,
    progress: Callable[[CollectionProgress], None] = _no_progress,
    merge_progress: Callable[[int, int], None] | None = None,
    warn: Callable[[str], None] = warnings.warn,
) -> TraceStore:
    """Sample reasoning traces from a model, probe them at every interval, and store them.

    Called again after an interruption, it keeps the finished traces and resumes. The card of the
    environment has the content of the files ``source.json`` in the model's folder and
    ``NAME.source.json`` beside the questions' file ``NAME.jsonl``, if they exist.

    Args:
        questions: a JSONL, JSON, CSV or Parquet file, or the name of a Hugging Face dataset.
        name: name of the environment.
        model: name or folder of the model that vLLM loads in this process; with ``base_url``, name
            of the model on the server.
        base_url: URL of an OpenAI-compatible vLLM server, such as ``http://127.0.0.1:8000/v1``, or
            several URLs.
        model_name: name of the model on the card; default the last part of ``model``.
        branches: number of traces per question.
        interval: Δ, tokens between two probes.
        max_tokens: maximum length of a trace, tokens.
        temperature: sampling temperature; 0 takes the most likely token.
        top_p: probability mass to sample from; 1 for no limit.
        top_k: number of most likely tokens to sample from; 0 for no limit.
        seed: random seed; None samples without seeds, which is faster in vLLM.
        protocol: the model protocol, a name or a file; default the one that matches the model's
            name.
        benchmark: name of the question set on the card; default the name of the file.
        split: split of a Hugging Face dataset.
        id_field: field of the question's id.
        question_field: field of its text.
        answer_field: field of the gold answer.
        options_field: field of the options of multiple choice.
        texts: store the texts of the traces.
        extend: an environment of the same model, protocol, interval and sampling. The new one has
            its questions and branches, and those that ``questions`` and ``branches`` add.
        generation_confidence: store how sure the model was of the tokens of every interval.
        concurrency: maximum number of concurrent traces; default 256 with a server, 1024 with vLLM
            in this process.
        patience: seconds for which a failing request is retried.
        stall: seconds without data after which a request fails.
        api: ``"tokens"`` for vLLM's server; ``"completions"`` or ``"chat"`` for others, which
            take text or messages (:mod:`autotts_gym.inference.text_engine`).
        api_key: API key of the server.
        headers: further headers of every request to the server.
        engine: arguments of vLLM's engine, if it runs in this process.
        to: parent folder of the environment; default the user's environment folder.
        progress: called repeatedly while traces are collected.
        merge_progress: called with the number of questions whose answers were compared, and their
            total number.
        warn: called with what is likely wrong with the questions or with the answers.

    Returns:
        The environment's trace store.

    Raises:
        FrozenError: the environment exists already.
        TraceError: the name is invalid, or an unfinished collection of this name has other
            arguments.
        ValueError: neither ``model`` nor ``base_url`` is given, or an argument is out of range.
        EngineError: the model cannot be reached; finished traces are kept.
        TypeError: an unknown keyword argument; the message suggests a similar one.
    """
    from autotts_gym.collection.pipeline import collect_store
    from autotts_gym.collection.plan import CollectionPlan
    from autotts_gym.collection.question_files import read_questions
    from autotts_gym.inference.engine import Sampling
    from autotts_gym.model_files.model_source import read_source
    from autotts_gym.traces import registry

    registry.check_name(name)
    asked = read_questions(
        str(questions),
        id_field=id_field,
        question_field=question_field,
        answer_field=answer_field,
        options_field=options_field,
        split=split,
    )
    plan = CollectionPlan(branches, interval, max_tokens, Sampling(temperature, top_p, top_k), seed)
    return collect_store(
        _engine(model, base_url, api, api_key, headers, stall, patience, concurrency, engine),
        asked,
        plan,
        (Path(to) if to is not None else registry.user_folder()) / name,
        protocol=protocol,
        model=model_name or "",
        benchmark=benchmark or Path(questions).stem,
        questions_source=read_source(Path(questions).with_suffix(".source.json")),
        texts=texts,
        extends=None if extend is None else load_env(extend),
        generation_confidence=generation_confidence,
        concurrency=concurrency,
        progress=progress,
        merge_progress=merge_progress,
        warn=warn,
    )


@suggest_keywords()
def add_probes(
    env: StrPath,
    name: str,
    *,
    model: str | None = None,
    base_url: str | Sequence[str] | None = None,
    interval: int = 500,
    protocol: StrPath | None = None,
    concurrency: int | None = None,
    patience: float = 600.0,
    stall: float = 120.0,
    api_key: str | None = None,
    headers: Mapping[str, str] | None = None,
    engine: Mapping[str, Any] | None = None,
    to: StrPath | None = None,
    progress: Callable[[CollectionProgress], None] = _no_progress,
    merge_progress: Callable[[int, int], None] | None = None,
) -> TraceStore:
    """Probe the recorded texts of an environment with a model, without sampling.

    ``autotts collect --probe`` does the same. Called again after an interruption, it resumes.

    Args:
        env: name or path of an environment with texts, such as an imported one.
        name: name of the new environment.
        model, base_url: as for :func:`collect`; the model should be the one that wrote the texts.
            Servers must take token ids, as vLLM does.
        interval: Δ, tokens between two probes.
        protocol, concurrency, patience, stall: as for :func:`collect`.
        api_key, headers, engine, to: as for :func:`collect`.
        progress, merge_progress: as for :func:`collect`.

    Returns:
        The new environment's trace store.

    Raises:
        FrozenError: the new environment exists already.
        TraceError: the environment lacks texts, the name is invalid, or an unfinished call of this
            name has other arguments.
        ValueError: neither ``model`` nor ``base_url`` is given, or an argument is out of range.
        EngineError: the model cannot be reached, or a text does not fit into its context; finished
            probes are kept.
        TypeError: an unknown keyword argument; the message suggests a similar one.
    """
    from autotts_gym.api.catalogue import load_env
    from autotts_gym.collection.text_probing import probe_store
    from autotts_gym.traces import registry

    registry.check_name(name)
    return probe_store(
        _engine(model, base_url, "tokens", api_key, headers, stall, patience, concurrency, engine),
        load_env(env),
        (Path(to) if to is not None else registry.user_folder()) / name,
        interval=interval,
        protocol=protocol,
        concurrency=concurrency,
        progress=progress,
        merge_progress=merge_progress,
    )


def _engine(
    model: str | None,
    base_url: str | Sequence[str] | None,
    api: Api,
    api_key: str | None,
    headers: Mapping[str, str] | None,
    stall: float,
    patience: float,
    concurrency: int | None,
    arguments: Mapping[str, Any] | None,
) -> Engine:
    """An HTTP client if ``base_url`` is given, otherwise vLLM in this process."""
    from autotts_gym.inference.http_engine import ServerEngine
    from autotts_gym.inference.server_apis import create_engine
    from autotts_gym.inference.vllm_engine import LocalEngine

    if base_url:
        if arguments:
            raise ValueError("engine is for vLLM in this process; leave it out with base_url")
        # Twice: some requests continue traces while others probe traces.
        width = 2 * (ServerEngine.concurrency if concurrency is None else concurrency)
        return create_engine(
            base_url,
            model,
            api=api,
            api_key=api_key,
            headers=headers,
            stall=stall,
            patience=patience,
            concurrency=max(width, 1),
        )
    if model is None:
        raise ValueError("give model (vLLM runs it in this process) or base_url (a server does)")
    return LocalEngine(model, **(arguments or {}))
