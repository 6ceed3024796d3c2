"""``probe_store``: adds probes to the texts of a store, without sampling.

Each text is cut at every interval by the tokenizer of the model; the prompt of a probe is the
protocol's prompt for the question, the text up to the cut, and the protocol's suffix. The texts
are recorded in a journal as if they had been sampled, and then probed by the collector: an
interrupted call resumes.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import autotts_gym
from autotts_gym.answers.answer_pairs import RULES_VERSION
from autotts_gym.collection.asked_question import AskedQuestion
from autotts_gym.collection.branch_confidence import CARD_ENTRY, with_unknown_confidence
from autotts_gym.collection.collection_journal import BranchKey, CollectionJournal, JournalContents
from autotts_gym.collection.collector import CollectionProgress, collect
from autotts_gym.collection.engine_watch import EngineWatch
from autotts_gym.collection.pipeline import model_details, work_folder
from autotts_gym.collection.plan import CollectionPlan
from autotts_gym.collection.regrading import RULES_ENTRY, classify_answers, equalities
from autotts_gym.collection.store_builder import CUT, UNANSWERED, build_branch
from autotts_gym.inference.engine import Engine, EngineError, Generated
from autotts_gym.inference.prober import Prober
from autotts_gym.inference.protocol import Protocol, find_protocol
from autotts_gym.inference.run_sync import run_sync
from autotts_gym.traces.records import is_null
from autotts_gym.traces.store import (
    NULL_ANSWERS,
    Branch,
    FrozenError,
    Question,
    TraceError,
    TraceStore,
)

#: Texts that are encoded at a time.
_AT_A_TIME: Final = 64


def probe_store(
    engine: Engine,
    store: TraceStore,
    target: str | os.PathLike[str],
    *,
    interval: int = 500,
    protocol: str | os.PathLike[str] | None = None,
    concurrency: int | None = None,
    progress: Callable[[CollectionProgress], None] = lambda _: None,
    merge_progress: Callable[[int, int], None] | None = None,
) -> TraceStore:
    """Probe the texts of a store, and write a store with the probes; resumes an interrupted call.

    The tokens of a branch are those of its text by the tokenizer of the model, and one for its end
    unless it was cut. Final answers are kept; a branch that was cut gets its final answer as in a
    collection, by a closing probe if its text has none.

    Args:
        engine: generates the probes; closed at the end.
        store: a store with texts. Its probes, if it has any, are replaced.
        target: folder of the new store; must not exist.
        interval: Δ, tokens between two probes.
        protocol: name or file of a protocol; by default the one that matches the model's name.
        concurrency, progress: see :func:`~autotts_gym.collection.collector.collect`.
        merge_progress: called with the number of questions whose answers were compared, and their
            total number.

    Returns:
        The new store, opened from ``target``. Its card has the entries of that of ``store``, and
        ``probed``.

    Raises:
        FrozenError: ``target`` exists; nothing is generated.
        TraceError: the store lacks texts, or an earlier call had other settings.
        EngineError, OSError: see :func:`~autotts_gym.collection.collector.collect`; or a text does
            not fit into the context of the model.
    """
    target = Path(target)
    if target.exists():
        raise FrozenError(f"{target} exists already, and stores are frozen: choose another name")
    work = _Work.of_store(store, interval)
    with CollectionJournal.open(work_folder(target)) as journal:
        chosen, details = run_sync(_probe(engine, work, journal, protocol, concurrency, progress))
        probed = _Probed(journal.contents, interval, chosen, _keeps_confidence(store, interval))
        questions = []
        pairs = zip(work.asked, probed.questions(work.stored), strict=True)
        for done, (asked, question) in enumerate(pairs, 1):
            questions.append(classify_answers(question, asked.equality))
            if merge_progress is not None:
                merge_progress(done, len(work.stored))
        card = {
            **store.card.details,
            "null_answers": sorted(NULL_ANSWERS),
            RULES_ENTRY: RULES_VERSION,
            "protocol": {"name": chosen.name, "sha256": chosen.digest, **chosen.content},
            "probed": {**details, **_summary(journal.contents, store)},
        }
        if not probed.keeps_confidence:
            card.pop(CARD_ENTRY, None)
        made = TraceStore.from_branches(
            questions, interval, synthetic=store.card.synthetic, details=card
        )
        return made.save(target)


@dataclass(frozen=True)
class _Work:
    """What is probed: the questions of a store, and the journal's settings about them."""

    stored: list[Question]
    asked: list[AskedQuestion]
    plan: CollectionPlan
    keys: list[BranchKey]
    settings: dict[str, Any]

    @classmethod
    def of_store(cls, store: TraceStore, interval: int) -> _Work:
        stored = list(store)
        digest = hashlib.sha256()
        for question in stored:
            for number, branch in enumerate(question.branches):
                if branch.text is None:
                    raise TraceError(
                        f"question {question.id!r}, branch {number}: has no text; probes need the "
                        "texts of all branches: collect with --texts, or import with texts"
                    )
                encoded = branch.text.encode()
                digest.update(len(encoded).to_bytes(8, "little") + encoded)
        chosen = equalities(store)
        widest = max(len(question.branches) for question in stored)
        return cls(
            stored,
            [
                AskedQuestion(q.id, q.text, q.gold, equality=chosen.get(q.id, "value"))
                for q in stored
            ],
            CollectionPlan(widest, interval, max_tokens=2**31 - 1),
            [(q, b) for q, question in enumerate(stored) for b in range(len(question.branches))],
            {
                "probed": store.card.fingerprint,
                "texts_sha256": digest.hexdigest(),
                "interval": interval,
            },
        )

    def branch(self, key: BranchKey) -> Branch:
        return self.stored[key[0]].branches[key[1]]


async def _probe(
    engine: Engine,
    work: _Work,
    journal: CollectionJournal,
    protocol: str | os.PathLike[str] | None,
    concurrency: int | None,
    progress: Callable[[CollectionProgress], None],
) -> tuple[Protocol, dict[str, Any]]:
    """Probe into the journal; returns the protocol and the card's entries about the model."""
    watch = EngineWatch(engine, len(work.keys), progress)
    try:
        async with watch.running():
            return await _probe_into(engine, work, journal, protocol, concurrency, watch.update)
    finally:
        await engine.close()


async def _probe_into(
    engine: Engine,
    work: _Work,
    journal: CollectionJournal,
    protocol: str | os.PathLike[str] | None,
    concurrency: int | None,
    progress: Callable[[CollectionProgress], None],
) -> tuple[Protocol, dict[str, Any]]:
    facts = await engine.describe()
    chosen = find_protocol(None if protocol is None else os.fspath(protocol), facts["model"])
    prober = await Prober.create(engine, chosen)
    details = model_details(facts["model"])
    journal.check_settings({**details, "protocol": chosen.digest, **work.settings})
    journal.start_session({**facts, "started": datetime.now(UTC).isoformat()})
    for question, asked in enumerate(work.asked):
        try:
            await _record_texts(prober, asked, question, work, journal)
        except EngineError as error:
            raise EngineError(f"question {asked.id!r}: {error}") from error
    await collect(
        prober,
        work.asked,
        work.plan,
        journal,
        concurrency=concurrency,
        progress=progress,
        keys=work.keys,
    )
    return chosen, {
        **details,
        "engine": facts["engine"],
        "engine_version": facts["engine_version"],
    }


async def _record_texts(
    prober: Prober, asked: AskedQuestion, question: int, work: _Work, journal: CollectionJournal
) -> None:
    """Record the texts of a question as traces that are finished."""
    keys = [(question, number) for number in range(len(work.stored[question].branches))]
    keys = [key for key in keys if key not in journal.contents.traces]
    if not keys:
        return
    room = prober.max_trace_tokens(await prober.prompt(asked.text), work.plan.max_tokens)
    opening = str(prober.protocol.content.get("open", ""))
    for start in range(0, len(keys), _AT_A_TIME):
        part = keys[start : start + _AT_A_TIME]
        # The prompt ends with the opening of the reasoning, with which some texts begin.
        texts = [(work.branch(key).text or "").removeprefix(opening) for key in part]
        encoded = await asyncio.gather(*map(prober.engine.encode, texts))
        for key, text, tokens in zip(part, texts, encoded, strict=True):
            if len(tokens) > room:
                raise EngineError(
                    f"branch {key[1]}: its text has {len(tokens):,} tokens, and with its prompt "
                    f"and a probe the model's context has room for {room:,}: raise max_model_len"
                )
            cut = CUT in work.branch(key).flags.split()
            # The token that ended the trace is not part of its text. No probe contains it, as all
            # stand before the end, so that any number will do.
            ids = tokens if cut else [*tokens, 0]
            trace = Generated(ids, text, "length" if cut else "stop")
            journal.append_trace(key, trace, 0.0)


def _keeps_confidence(store: TraceStore, interval: int) -> bool:
    """Whether the generation confidences of a store are those of these intervals."""
    return store.tables.confidence_sums is not None and store.card.interval == interval


@dataclass(frozen=True)
class _Probed:
    """Questions with the probes of a journal."""

    contents: JournalContents
    interval: int
    protocol: Protocol
    keeps_confidence: bool

    def questions(self, stored: Sequence[Question]) -> list[Question]:
        made = [
            [self._branch(branch, (row, number)) for number, branch in enumerate(question.branches)]
            for row, question in enumerate(stored)
        ]
        if any(branch.confidences is None for row in made for branch in row):
            made = [[replace(branch, confidences=None) for branch in row] for row in made]
        return [replace(q, branches=row) for q, row in zip(stored, made, strict=True)]

    def _branch(self, stored: Branch, key: BranchKey) -> Branch:
        trace = self.contents.traces[key]
        made = build_branch(
            trace, self.contents.probes[key], self.interval, self.protocol, texts=True
        )
        made = replace(made, text=stored.text)
        if trace.finish != "length":
            made = _with_final(made, stored)
        if not self.keeps_confidence:
            return made
        if made.tokens == stored.tokens:
            made = replace(
                made,
                confidence_sums=stored.confidence_sums,
                confidence_tokens=stored.confidence_tokens,
            )
        return with_unknown_confidence(made)


def _with_final(made: Branch, stored: Branch) -> Branch:
    """The branch with the final answer that the store has."""
    final = stored.raw[-1] if stored.raw is not None else stored.final
    null = is_null(final) if stored.nulls is None else stored.nulls[-1]
    flags = [flag for flag in made.flags.split() if flag != UNANSWERED]
    return replace(
        made,
        final=final,
        raw=[*(made.raw or ())[:-1], final],
        nulls=[*(made.nulls or ())[:-1], null],
        flags=" ".join([*flags, UNANSWERED] if null else flags),
    )


def _summary(contents: JournalContents, store: TraceStore) -> dict[str, Any]:
    """What was probed, and what it cost, for the card."""
    probes = [probe for probes in contents.probes.values() for probe in probes]
    return {
        "from": store.card.fingerprint,
        "probes": len(probes),
        "probe_tokens": sum(len(probe.tokens) for probe in probes),
        "seconds": round(sum(session["seconds"] for session in contents.sessions), 1),
        "on": datetime.now(UTC).date().isoformat(),
        "with": f"autotts_gym {autotts_gym.__version__}",
    }
