"""From what was collected to a frozen store: answers are read, merged if asked, and written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import autotts_gym
from autotts_gym.collection.collection_journal import Kept, Trace
from autotts_gym.collection.collector import Plan, cuts, needs_closing
from autotts_gym.collection.questions import AskedQuestion
from autotts_gym.inference.answer_extraction import normalize
from autotts_gym.inference.engine import Generated
from autotts_gym.inference.protocol import Protocol, is_null
from autotts_gym.traces.store import NULL_ANSWERS, Branch, Question, TraceError, TraceStore

#: Words that flag a branch; see :func:`branch`.
CUT, EMPTY, UNANSWERED = "cut", "empty", "unanswered"


def freeze(
    kept: Kept,
    questions: Sequence[AskedQuestion],
    plan: Plan,
    protocol: Protocol,
    *,
    details: dict[str, Any] | None = None,
    merge: bool = False,
    texts: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> TraceStore:
    """Make a store of a finished collection.

    Args:
        kept: what was collected.
        questions, plan, protocol: what it was collected by.
        details: what else the card should say.
        merge: bring mathematically equal answers of a question into one form, with math-verify.
        texts: keep the traces' texts in the store.
        progress: called with how many questions are merged, and of how many.

    Returns:
        The store, in memory. Its card says how it was made and what it cost; branches that were
        cut, empty or without an answer are flagged, and counted on the card.

    Raises:
        TraceError: a trace is missing or cannot be stored.
    """
    for q, question in enumerate(questions):
        for b in range(plan.branches):
            if (q, b) not in kept.probes:
                raise TraceError(f"question {question.id!r}, branch {b}: not collected yet")
    asked = [
        Question(
            question.text,
            normalize(question.gold),
            [
                branch(kept.traces[q, b], kept.probes[q, b], plan.interval, protocol, texts)
                for b in range(plan.branches)
            ],
            question.id,
        )
        for q, question in enumerate(questions)
    ]
    merged = 0
    if merge:
        asked, merged = _merge(asked, progress)
    flags = Counter(flag for q in asked for b in q.branches for flag in b.flags.split())
    counts = {flag: flags[flag] for flag in (CUT, EMPTY, UNANSWERED)}
    probes = [probe for of_trace in kept.probes.values() for probe in of_trace]
    facts: dict[str, Any] = {
        **(details or {}),
        "branches_per_question": plan.branches,
        "sampling": {
            **plan.sampling.facts(),
            "max_tokens": plan.max_tokens,
            "seed": plan.seed,
        },
        "protocol": {"name": protocol.name, "sha256": protocol.digest, **protocol.facts},
        "null_answers": sorted(NULL_ANSWERS),
        "collected": {
            "traces": len(kept.traces),
            "tokens": sum(trace.length for trace in kept.traces.values()),
            "probes": len(probes),
            "probe_tokens": sum(len(probe.tokens) for probe in probes),
            **counts,
            "answers_merged": merged if merge else None,
            "seconds": round(sum(session["seconds"] for session in kept.sessions), 1),
            "sessions": len(kept.sessions),
            "on": datetime.now(UTC).date().isoformat(),
            "with": f"autotts_gym {autotts_gym.__version__}",
        },
    }
    return TraceStore.from_branches(asked, plan.interval, details=facts)


def branch(
    trace: Trace, probes: Sequence[Generated], interval: int, protocol: Protocol, texts: bool
) -> Branch:
    """A branch as it is played.

    A trace that was cut at the maximum length before its answer is closed by a probe, whose answer
    is its final one, and whose tokens are its closing text. Flags: ``cut`` at the maximum length,
    ``empty`` (the model said nothing), ``unanswered`` (no final answer was found).
    """
    seen = [protocol.read(probe) for probe in probes]
    count = len(cuts(trace.length, interval))
    final, tokens = protocol.final(trace.text), trace.length
    if needs_closing(trace, protocol):
        final, tokens = seen[count].answer, tokens + seen[count].tokens
    flags = {
        CUT: trace.finish == "length",
        EMPTY: not trace.text.strip(),
        UNANSWERED: is_null(final),
    }
    return Branch(
        probes=[probe.answer for probe in seen[:count]],
        tokens=max(tokens, 1),
        final=final,
        confidences=[probe.confidence for probe in seen[:count]],
        probe_tokens=[probe.tokens for probe in seen[:count]],
        text=trace.text if texts else None,
        flags=" ".join(flag for flag, holds in flags.items() if holds),
    )


def _merge(
    questions: list[Question], progress: Callable[[int, int], None] | None
) -> tuple[list[Question], int]:
    """Equal answers in one form, and how many forms went."""
    from autotts_gym.inference.math_equality import Group, merge_equal

    groups = [
        Group(
            question.gold,
            Counter(answer for b in question.branches for answer in (*b.probes, b.final)),
        )
        for question in questions
    ]
    found = merge_equal(groups, progress=progress)
    merged = [
        replace(
            question,
            branches=[
                replace(b, probes=[form[a] for a in b.probes], final=form[b.final])
                for b in question.branches
            ],
        )
        for question, form in zip(questions, found, strict=True)
    ]
    return merged, sum(a != b for form in found for a, b in form.items())
