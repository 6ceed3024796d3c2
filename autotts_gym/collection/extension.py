"""Extending a store by branches and questions: a new store, in which nothing is sampled twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from autotts_gym.collection.asked_question import AskedQuestion
from autotts_gym.collection.branch_confidence import recorded_top_tokens
from autotts_gym.collection.collection_journal import BranchKey
from autotts_gym.collection.collection_warnings import FALLBACK
from autotts_gym.collection.plan import CollectionPlan
from autotts_gym.collection.regrading import equalities
from autotts_gym.inference.protocol import Protocol
from autotts_gym.traces.store import Question, TraceError, TraceStore

#: Entry of the card: fingerprint of the store that was extended.
EXTENDS_ENTRY: Final = "extends"

#: Counts of a card's entry ``collected`` that add up.
_COUNTS: Final = (*("traces", "tokens", "probes", "probe_tokens", "seconds", "sessions", FALLBACK),)


@dataclass
class BranchPlan:
    """Which branches of which questions a collection samples.

    Attributes:
        questions: all questions of the new store.
        keys: the branches to sample, as question and branch.
        existing: questions with the branches that they have already, by row.
        fingerprint: of the store that these are from; empty if there is none.
        collected: entry ``collected`` of its card.
        top_tokens: number of likeliest tokens of its generation confidences; 0 if it has none.
    """

    questions: list[AskedQuestion]
    keys: list[BranchKey]
    existing: dict[int, Question] = field(default_factory=dict)
    fingerprint: str = ""
    collected: Mapping[str, Any] = field(default_factory=dict)
    top_tokens: int = 0

    def add_counts(self, summary: dict[str, Any]) -> dict[str, Any]:
        """The summary of a collection together with that of the store that it extends."""
        counts = {name: summary[name] + self.collected.get(name, 0) for name in _COUNTS}
        counts["seconds"] = round(counts["seconds"], 1)
        return {**summary, **counts}


def all_branches(asked: Sequence[AskedQuestion], plan: CollectionPlan) -> BranchPlan:
    """A new collection of all branches."""
    keys = [(q, b) for q in range(len(asked)) for b in range(plan.branches)]
    return BranchPlan(list(asked), keys)


def missing_branches(
    store: TraceStore, asked: Sequence[AskedQuestion], plan: CollectionPlan
) -> BranchPlan:
    """The branches that a store lacks.

    Args:
        store: the store to extend.
        asked: questions that are to have ``plan.branches`` branches. Those that the store has
            already get the missing ones; the others of the store stay as they are.
        plan: what is sampled.

    Raises:
        TraceError: a question of ``asked`` has the id of another question of the store, or there is
            nothing to add.
    """
    by_id = {question.id: question for question in asked}
    chosen = equalities(store)
    questions: list[AskedQuestion] = []
    keys: list[BranchKey] = []
    existing: dict[int, Question] = {}
    for row, old in enumerate(store):
        kept = AskedQuestion(old.id, old.text, old.gold, equality=chosen.get(old.id, "value"))
        given = by_id.pop(old.id, None)
        if given is not None and replace(given, history=()) != kept:
            raise TraceError(
                f"question {old.id!r} has another text, gold answer or equality in the environment "
                "to extend"
            )
        existing[row] = old
        questions.append(given or kept)
        if given is not None:
            keys += [(row, b) for b in range(len(old.branches), plan.branches)]
    for question in by_id.values():
        keys += [(len(questions), b) for b in range(plan.branches)]
        questions.append(question)
    if not keys:
        raise TraceError(
            f"nothing to add: the environment has all {len(asked)} questions with "
            f"{plan.branches} branches or more"
        )
    details = store.card.details
    return BranchPlan(
        questions,
        keys,
        existing,
        store.card.fingerprint,
        details.get("collected", {}),
        recorded_top_tokens(store),
    )


def check_same_collection(
    store: TraceStore, plan: CollectionPlan, protocol: Protocol, details: Mapping[str, Any]
) -> None:
    """Raise ``TraceError`` unless new traces would be samples of the same kind.

    Args:
        store: the store to extend.
        plan: what is sampled.
        protocol: the protocol.
        details: the card's entries about the model.
    """
    card = store.card
    old_sampling = {k: v for k, v in card.details.get("sampling", {}).items() if k != "seed"}
    pairs = {
        "interval": (card.interval, plan.interval),
        "sampling": (old_sampling, {**plan.sampling.to_dict(), "max_tokens": plan.max_tokens}),
        "protocol": (card.details.get("protocol", {}).get("sha256"), protocol.digest),
    }
    for name in ("model", "model_sha256"):
        if name in card.details and name in details:
            pairs[name] = (card.details[name], details[name])
    changed = [
        f"{name} {old!r:.80} (now {new!r:.80})" for name, (old, new) in pairs.items() if old != new
    ]
    if changed:
        raise TraceError("the environment to extend was collected otherwise: " + ", ".join(changed))
