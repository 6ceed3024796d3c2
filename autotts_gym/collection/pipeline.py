"""A collection from beginning to end: what is kept beside the target, resumed, and frozen."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from autotts_gym.collection.collection_journal import Journal
from autotts_gym.collection.collector import Plan, Progress, collect
from autotts_gym.collection.questions import AskedQuestion, questions_digest
from autotts_gym.collection.store_writer import freeze
from autotts_gym.inference.engine import Engine
from autotts_gym.inference.protocol import Prober, Protocol, find
from autotts_gym.inference.run_sync import run_to_end
from autotts_gym.traces.store import FrozenError, TraceStore

#: Files of a model's folder that say what it computes.
_WEIGHTS: Final = ("config.json", "*.safetensors", "tokenizer.json")


def work_folder(target: Path) -> Path:
    """Where a collection keeps what is finished, until ``target`` is frozen and afterwards."""
    return target.parent / f".{target.name}.collecting"


def collect_store(
    engine: Engine,
    questions: Sequence[AskedQuestion],
    plan: Plan,
    target: Path,
    *,
    protocol: str | None = None,
    model: str = "",
    benchmark: str = "",
    merge: bool = False,
    texts: bool = False,
    concurrency: int | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
    merging: Callable[[int, int], None] | None = None,
) -> TraceStore:
    """Sample, probe and freeze; or go on where the same call was interrupted.

    Args:
        engine: what generates; it is closed at the end.
        questions: what is asked.
        plan: what is collected.
        target: folder of the store.
        protocol: name or file of a protocol; the one that is meant for the model by default.
        model, benchmark: what the model and the questions are called, for the card; the model's
            folder or its name on the hub says it by default.
        merge, texts, merging: see :func:`~autotts_gym.collection.store_writer.freeze`.
        concurrency, progress: see :func:`~autotts_gym.collection.collector.collect`.

    Returns:
        The store, opened from ``target``.

    Raises:
        FrozenError: something stands at ``target``; nothing was sampled then.
        TraceError: an earlier call had other settings, or a trace cannot be stored.
        EngineError, OSError: see ``collect``; what was finished is kept, and the same call goes on.
    """
    if target.exists():
        raise FrozenError(f"{target} exists already, and stores are frozen: choose another name")
    with Journal.open(work_folder(target)) as journal:
        chosen, details = run_to_end(
            _collect(engine, questions, plan, journal, protocol, model, concurrency, progress)
        )
        details["benchmark"] = benchmark
        details["questions_sha256"] = questions_digest(questions)
        store = freeze(
            journal.kept,
            questions,
            plan,
            chosen,
            details=details,
            merge=merge,
            texts=texts,
            progress=merging,
        )
        return store.save(target)


async def _collect(
    engine: Engine,
    questions: Sequence[AskedQuestion],
    plan: Plan,
    journal: Journal,
    protocol: str | None,
    name: str,
    concurrency: int | None,
    progress: Callable[[Progress], None],
) -> tuple[Protocol, dict[str, Any]]:
    """Sample and probe; the protocol, and what the card says of the model."""
    try:
        facts = await engine.facts()
        chosen = find(protocol, facts["model"])
        prober = await Prober.on(engine, chosen)
        model = Path(facts["model"])
        details = {"model": name or model.name}
        if model.is_dir():
            details["model_sha256"] = _sha256(model)
        journal.settle(
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


def _sha256(model: Path) -> str:
    """Of a model's weights, configuration and tokenizer."""
    found = hashlib.sha256()
    for pattern in _WEIGHTS:
        for path in sorted(model.glob(pattern)):
            found.update(path.name.encode())
            with path.open("rb") as file:
                while chunk := file.read(1 << 20):
                    found.update(chunk)
    return found.hexdigest()
