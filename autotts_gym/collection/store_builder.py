"""``build_store``: a trace store from the journal of a finished collection.

Answers are extracted from traces and probes. The store keeps them as they were written, beside the
classes of equal answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import autotts_gym
from autotts_gym.answers.answer_pairs import RULES_VERSION
from autotts_gym.collection.asked_question import AskedQuestion
from autotts_gym.collection.branch_confidence import (
    card_entry,
    common_top_tokens,
    with_confidence,
    with_unknown_confidence,
)
from autotts_gym.collection.collection_journal import JournalContents, SampledTrace
from autotts_gym.collection.collection_warnings import FALLBACK, misses_first_extractor
from autotts_gym.collection.collector import needs_closing_probe
from autotts_gym.collection.extension import EXTENDS_ENTRY, BranchPlan, all_branches
from autotts_gym.collection.plan import CollectionPlan, probe_positions
from autotts_gym.collection.regrading import RULES_ENTRY, classify_answers, form_entry
from autotts_gym.inference.engine import Generated
from autotts_gym.inference.protocol import Protocol
from autotts_gym.traces.store import NULL_ANSWERS, Branch, Question, TraceError, TraceStore

#: Flags of a branch; see :func:`build_branch`.
CUT, EMPTY, UNANSWERED = "cut", "empty", "unanswered"


def build_store(
    contents: JournalContents,
    questions: Sequence[AskedQuestion],
    plan: CollectionPlan,
    protocol: Protocol,
    *,
    details: Mapping[str, Any] | None = None,
    texts: bool = False,
    progress: Callable[[int, int], None] | None = None,
    branches: BranchPlan | None = None,
) -> TraceStore:
    """Build a trace store from a finished collection.

    Args:
        contents: contents of the journal.
        questions: the questions of the collection.
        plan: the plan of the collection.
        protocol: the protocol of the collection.
        details: further entries of the card.
        texts: store the texts of the traces.
        progress: called with the number of questions whose answers were compared, and their total
            number.
        branches: which branches were collected, and which a store had already; default all.

    Returns:
        The store, in memory. Its card describes the collection and its cost, and counts the
        branches that are flagged as cut, empty or unanswered.

    Raises:
        TraceError: a trace is missing or cannot be stored.
    """
    branches = branches or all_branches(questions, plan)
    made: dict[int, list[Branch]] = {
        q: list(question.branches) for q, question in branches.existing.items()
    }
    top_tokens = branches.top_tokens or common_top_tokens(contents.traces.values())
    if top_tokens:
        made = {q: list(map(with_unknown_confidence, row)) for q, row in made.items()}
    for q, b in branches.keys:
        if (q, b) not in contents.probes:
            raise TraceError(f"question {questions[q].id!r}, branch {b}: not collected yet")
        trace, probes = contents.traces[q, b], contents.probes[q, b]
        branch = build_branch(trace, probes, plan.interval, protocol, texts)
        if top_tokens:
            branch = with_confidence(branch, trace, plan.interval, top_tokens)
        made.setdefault(q, []).append(branch)
    if any(branch.confidences is None for row in made.values() for branch in row):
        made = {q: [replace(b, confidences=None) for b in row] for q, row in made.items()}
    raw = [
        Question(question.text, question.gold, made[q], question.id)
        for q, question in enumerate(questions)
    ]
    stored = []
    for done, (asked, unclassified) in enumerate(zip(questions, raw, strict=True), 1):
        stored.append(classify_answers(unclassified, asked.equality))
        if progress is not None:
            progress(done, len(raw))
    card: dict[str, Any] = {
        **(details or {}),
        "branches_per_question": plan.branches,
        "sampling": {
            **plan.sampling.to_dict(),
            "max_tokens": plan.max_tokens,
            "seed": plan.seed,
        },
        "protocol": {"name": protocol.name, "sha256": protocol.digest, **protocol.content},
        "null_answers": sorted(NULL_ANSWERS),
        **card_entry(top_tokens),
        RULES_ENTRY: RULES_VERSION,
        **form_entry({question.id: question.equality for question in questions}),
        "collected": branches.add_counts(_collection_summary(contents, stored, protocol)),
    }
    if branches.fingerprint:
        card[EXTENDS_ENTRY] = branches.fingerprint
    return TraceStore.from_branches(stored, plan.interval, details=card)


def build_branch(
    trace: SampledTrace,
    probes: Sequence[Generated],
    interval: int,
    protocol: Protocol,
    texts: bool,
) -> Branch:
    """Build a branch of a store from a trace and its probes.

    If a trace was cut at the maximum length before its answer, the answer of a closing probe is its
    final answer, and the probe's tokens are added to its tokens. Flags: ``cut`` at the maximum
    length, ``empty`` (no text), ``unanswered`` (no final answer was found).
    """
    results = [protocol.read_probe(probe) for probe in probes]
    count = len(probe_positions(trace.length, interval))
    found, tokens = protocol.final_answer(trace.text), trace.length
    final, null = found.answer, found.null
    if needs_closing_probe(trace, protocol):
        final, null = results[count].answer, results[count].null
        tokens += results[count].tokens
    flags = {
        CUT: trace.finish == "length",
        EMPTY: not trace.text.strip(),
        UNANSWERED: null,
    }
    unknown = any(result.confidence < 0 for result in results[:count])
    raw = [_encodable(answer) for answer in (*(r.answer for r in results[:count]), final)]
    return Branch(
        probes=raw[:-1],
        tokens=max(tokens, 1),
        final=raw[-1],
        confidences=None if unknown else [result.confidence for result in results[:count]],
        probe_tokens=[result.tokens for result in results[:count]],
        text=trace.text if texts else None,
        flags=" ".join(flag for flag, is_set in flags.items() if is_set),
        nulls=[*(result.null for result in results[:count]), null],
        raw=raw,
    )


def _encodable(text: str) -> str:
    """The text without lone surrogates."""
    return text.encode("utf-8", "replace").decode()


def _collection_summary(
    contents: JournalContents, questions: Sequence[Question], protocol: Protocol
) -> dict[str, Any]:
    """The card's entry ``collected``: counts, cost and date."""
    flags = Counter(flag for q in questions for b in q.branches for flag in b.flags.split())
    probes = [probe for probes in contents.probes.values() for probe in probes]
    return {
        "traces": len(contents.traces),
        "tokens": sum(trace.length for trace in contents.traces.values()),
        "probes": len(probes),
        "probe_tokens": sum(len(probe.tokens) for probe in probes),
        **{flag: flags[flag] for flag in (CUT, EMPTY, UNANSWERED)},
        FALLBACK: sum(
            misses_first_extractor(trace.text, protocol)
            for trace in contents.traces.values()
            if trace.finish == "stop" and trace.text.strip()
        ),
        "answers_merged": sum(map(_count_merged, questions)),
        "seconds": round(sum(session["seconds"] for session in contents.sessions), 1),
        "sessions": len(contents.sessions),
        "on": datetime.now(UTC).date().isoformat(),
        "with": f"autotts_gym {autotts_gym.__version__}",
    }


def _count_merged(question: Question) -> int:
    """Number of different raw answers that are not the name of their class."""
    pairs = {
        pair
        for branch in question.branches
        for pair in zip(branch.raw or (), (*branch.probes, branch.final), strict=True)
    }
    return sum(raw != name for raw, name in pairs)
