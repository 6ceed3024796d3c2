"""``collect_store``: a whole collection, from an engine and questions to a store on disk."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from autotts_gym.collection.asked_question import AskedQuestion, questions_digest
from autotts_gym.collection.collection_journal import CollectionJournal
from autotts_gym.collection.collection_warnings import answer_warnings, question_warnings
from autotts_gym.collection.collector import CollectionProgress, collect
from autotts_gym.collection.engine_watch import EngineWatch
from autotts_gym.collection.extension import (
    EXTENDS_ENTRY,
    BranchPlan,
    all_branches,
    check_same_collection,
    missing_branches,
)
from autotts_gym.collection.plan import CollectionPlan
from autotts_gym.collection.store_builder import build_store
from autotts_gym.inference.engine import Engine
from autotts_gym.inference.prober import Prober
from autotts_gym.inference.protocol import Protocol, find_protocol
from autotts_gym.inference.run_sync import run_sync
from autotts_gym.model_files.model_source import SOURCE, read_source
from autotts_gym.traces.store import FrozenError, TraceStore

#: Files of a model's folder that determine its output.
_MODEL_FILES: Final = ("config.json", "*.safetensors", "tokenizer.json")


def work_folder(target: str | os.PathLike[str]) -> Path:
    """Return the folder of a collection's journal; it remains after the store is written."""
    target = Path(target)
    return target.parent / f".{target.name}.collecting"


class _Settings(NamedTuple):
    """Arguments of :func:`collect_store` that concern the engine."""

    protocol: str | os.PathLike[str] | None
    model: str
    concurrency: int | None
    generation_confidence: bool
    extends: TraceStore | None
    warn: Callable[[str], None]


def collect_store(
    engine: Engine,
    questions: Sequence[AskedQuestion],
    plan: CollectionPlan,
    target: str | os.PathLike[str],
    *,
    protocol: str | os.PathLike[str] | None = None,
    model: str = "",
    benchmark: str = "",
    questions_source: Mapping[str, Any] | None = None,
    texts: bool = False,
    extends: TraceStore | None = None,
    concurrency: int | None = None,
    generation_confidence: bool = True,
    progress: Callable[[CollectionProgress], None] = lambda _: None,
    merge_progress: Callable[[int, int], None] | None = None,
    warn: Callable[[str], None] = warnings.warn,
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
        questions_source: where the questions come from, for the card.
        texts: see :func:`~autotts_gym.collection.store_builder.build_store`.
        extends: a store of the same model, protocol, interval and sampling. The new store has its
            questions and branches, and those that ``questions`` and ``plan`` add.
        concurrency, generation_confidence, progress: see
            :func:`~autotts_gym.collection.collector.collect`.
        merge_progress: ``progress`` of :func:`~autotts_gym.collection.store_builder.build_store`.
        warn: called with what is likely wrong with the questions or with the answers.

    Returns:
        The store, opened from ``target``.

    Raises:
        FrozenError: ``target`` exists; nothing is sampled.
        TraceError: an earlier call had other settings, ``extends`` was collected otherwise or has
            everything already, or a trace cannot be stored.
        EngineError, OSError: see :func:`~autotts_gym.collection.collector.collect`. Everything
            that was finished is kept, and the same call resumes.
    """
    target = Path(target)
    if target.exists():
        raise FrozenError(f"{target} exists already, and stores are frozen: choose another name")
    if extends is None:
        branches = all_branches(questions, plan)
    else:
        branches = missing_branches(extends, questions, plan)
    settings = _Settings(protocol, model, concurrency, generation_confidence, extends, warn)
    with CollectionJournal.open(work_folder(target)) as journal:
        chosen, details = run_sync(
            _sample_and_probe(engine, branches, plan, journal, settings, progress)
        )
        details["benchmark"] = benchmark
        details["questions_sha256"] = questions_digest(branches.questions)
        if questions_source is not None:
            details["questions_source"] = dict(questions_source)
        store = build_store(
            journal.contents,
            branches.questions,
            plan,
            chosen,
            details=details,
            texts=texts,
            progress=merge_progress,
            branches=branches,
        )
        for message in answer_warnings(store.card.details["collected"], chosen):
            warn(message)
        return store.save(target)


async def _sample_and_probe(
    engine: Engine,
    branches: BranchPlan,
    plan: CollectionPlan,
    journal: CollectionJournal,
    settings: _Settings,
    progress: Callable[[CollectionProgress], None],
) -> tuple[Protocol, dict[str, Any]]:
    """Collect into the journal; returns the protocol and the card's entries about the model."""
    watch = EngineWatch(engine, len(branches.keys), progress)
    try:
        async with watch.running():
            return await _collect_into(engine, branches, plan, journal, settings, watch.update)
    finally:
        await engine.close()


async def _collect_into(
    engine: Engine,
    branches: BranchPlan,
    plan: CollectionPlan,
    journal: CollectionJournal,
    settings: _Settings,
    progress: Callable[[CollectionProgress], None],
) -> tuple[Protocol, dict[str, Any]]:
    facts = await engine.describe()
    wanted = settings.protocol
    chosen = find_protocol(None if wanted is None else os.fspath(wanted), facts["model"])
    prober = await Prober.create(engine, chosen)
    model = Path(facts["model"])
    details = model_details(facts["model"], settings.model)
    recorded = {
        **details,
        "protocol": chosen.digest,
        "questions": questions_digest(branches.questions),
        **plan.facts(),
    }
    if settings.extends is not None:
        check_same_collection(settings.extends, plan, chosen, details)
        recorded[EXTENDS_ENTRY] = branches.fingerprint
    source = read_source(model / SOURCE) if model.is_dir() else None
    for message in question_warnings(branches.questions, chosen):
        settings.warn(message)
    journal.check_settings(recorded)
    await collect(
        prober,
        branches.questions,
        plan,
        journal,
        keys=branches.keys,
        concurrency=settings.concurrency,
        generation_confidence=settings.generation_confidence,
        progress=progress,
    )
    if source is not None:
        details["model_source"] = source
    return chosen, {
        **details,
        "engine": facts["engine"],
        "engine_version": facts["engine_version"],
    }


def model_details(model: str, name: str = "") -> dict[str, Any]:
    """The card's entries about a model: its name, and a digest if it is a folder.

    Args:
        model: name or folder of the model, as the engine describes it.
        name: another name for the card.
    """
    path = Path(model)
    details: dict[str, Any] = {"model": name or path.name}
    if path.is_dir():
        details["model_sha256"] = _model_digest(path)
    return details


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
