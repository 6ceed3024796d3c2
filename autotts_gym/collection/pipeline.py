"""``collect_store``: a whole collection, from an engine and questions to a store on disk."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from autotts_gym.collection.asked_question import AskedQuestion, questions_digest
from autotts_gym.collection.collection_journal import CollectionJournal
from autotts_gym.collection.collector import CollectionProgress, collect
from autotts_gym.collection.plan import CollectionPlan
from autotts_gym.collection.store_builder import build_store
from autotts_gym.inference.engine import Engine
from autotts_gym.inference.prober import Prober
from autotts_gym.inference.protocol import Protocol, find_protocol
from autotts_gym.inference.run_sync import run_sync
from autotts_gym.traces.store import FrozenError, TraceStore

#: Files of a model's folder that determine its output.
_MODEL_FILES: Final = ("config.json", "*.safetensors", "tokenizer.json")


def work_folder(target: str | os.PathLike[str]) -> Path:
    """Return the folder of a collection's journal; it remains after the store is written."""
    target = Path(target)
    return target.parent / f".{target.name}.collecting"


def collect_store(
    engine: Engine,
    questions: Sequence[AskedQuestion],
    plan: CollectionPlan,
    target: str | os.PathLike[str],
    *,
    protocol: str | os.PathLike[str] | None = None,
    model: str = "",
    benchmark: str = "",
    texts: bool = False,
    concurrency: int | None = None,
    progress: Callable[[CollectionProgress], None] = lambda _: None,
    merge_progress: Callable[[int, int], None] | None = None,
) -> TraceStore:
    """Sample and probe traces, and write the store; resumes an interrupted call.

    Args:
        engine: generates the traces; closed at the end.
        questions: the questions.
        plan: what is sampled.
        target: folder of the store; must not exist.
        protocol: name or file of a protocol; by default the one that matches the model's name.
        model: model name on the card; by default the last part of the engine's model name.
        benchmark: name of the questions on the card.
        texts: see :func:`~autotts_gym.collection.store_builder.build_store`.
        concurrency, progress: see :func:`~autotts_gym.collection.collector.collect`.
        merge_progress: ``progress`` of :func:`~autotts_gym.collection.store_builder.build_store`.

    Returns:
        The store, opened from ``target``.

    Raises:
        FrozenError: ``target`` exists; nothing is sampled.
        TraceError: an earlier call had other settings, or a trace cannot be stored.
        EngineError, OSError: see :func:`~autotts_gym.collection.collector.collect`. Everything
            that was finished is kept, and the same call resumes.
    """
    target = Path(target)
    if target.exists():
        raise FrozenError(f"{target} exists already, and stores are frozen: choose another name")
    with CollectionJournal.open(work_folder(target)) as journal:
        chosen, details = run_sync(
            _sample_and_probe(
                engine, questions, plan, journal, protocol, model, concurrency, progress
            )
        )
        details["benchmark"] = benchmark
        details["questions_sha256"] = questions_digest(questions)
        store = build_store(
            journal.contents,
            questions,
            plan,
            chosen,
            details=details,
            texts=texts,
            progress=merge_progress,
        )
        return store.save(target)


async def _sample_and_probe(
    engine: Engine,
    questions: Sequence[AskedQuestion],
    plan: CollectionPlan,
    journal: CollectionJournal,
    protocol: str | os.PathLike[str] | None,
    model_name: str,
    concurrency: int | None,
    progress: Callable[[CollectionProgress], None],
) -> tuple[Protocol, dict[str, Any]]:
    """Collect into the journal; returns the protocol and the card's entries about the model."""
    try:
        facts = await engine.describe()
        chosen = find_protocol(None if protocol is None else os.fspath(protocol), facts["model"])
        prober = await Prober.create(engine, chosen)
        model = Path(facts["model"])
        details = {"model": model_name or model.name}
        if model.is_dir():
            details["model_sha256"] = _model_digest(model)
        journal.check_settings(
            {
                **details,
                "protocol": chosen.digest,
                "questions": questions_digest(questions),
                **plan.facts(),
            }
        )
        await collect(prober, questions, plan, journal, concurrency=concurrency, progress=progress)
        return chosen, {
            **details,
            "engine": facts["engine"],
            "engine_version": facts["engine_version"],
        }
    finally:
        await engine.close()


def _model_digest(model: Path) -> str:
    """sha256 of a model's weights, configuration and tokenizer."""
    digest = hashlib.sha256()
    for pattern in _MODEL_FILES:
        for path in sorted(model.glob(pattern)):
            digest.update(path.name.encode())
            with path.open("rb") as file:
                while chunk := file.read(1 << 20):
                    digest.update(chunk)
    return digest.hexdigest()
