"""The generation confidence of a store's branches, from the traces of a collection."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

from autotts_gym.collection.collection_journal import SampledTrace
from autotts_gym.inference.token_confidence import interval_counts
from autotts_gym.traces.store import Branch, TraceStore

#: Entry of the card: of how many likeliest tokens the confidences are.
CARD_ENTRY: Final = "generation_confidence"


def recorded_top_tokens(store: TraceStore) -> int:
    """Number of likeliest tokens of a store's generation confidences; 0 if it has none."""
    if store.tables.confidence_sums is None:
        return 0
    return int(store.card.details.get(CARD_ENTRY, {}).get("top_tokens", 0))


def common_top_tokens(traces: Iterable[SampledTrace]) -> int:
    """The most common number of likeliest tokens; 0 if no trace has a confidence."""
    counts = Counter(trace.confidence.top_tokens for trace in traces if trace.confidence)
    return max(counts, key=lambda n: (counts[n], n), default=0)


def with_confidence(branch: Branch, trace: SampledTrace, interval: int, top_tokens: int) -> Branch:
    """The branch with the confidence of its trace, or with unknown ones.

    Args:
        branch: a branch.
        trace: its trace.
        interval: Δ, tokens.
        top_tokens: number of likeliest tokens of the store's confidences. That of a trace with
            another number is unknown.
    """
    counts = interval_counts(trace.length, interval)
    confidence = trace.confidence
    if confidence is None or confidence.top_tokens != top_tokens:
        return with_unknown_confidence(branch)
    if len(confidence.sums) != len(counts):
        return with_unknown_confidence(branch)
    return replace(branch, confidence_sums=list(confidence.sums), confidence_tokens=counts)


def with_unknown_confidence(branch: Branch) -> Branch:
    """The branch with unknown confidences, unless it has some."""
    if branch.confidence_sums is not None:
        return branch
    count = len(branch.probes) + 1
    return replace(branch, confidence_sums=[0.0] * count, confidence_tokens=[0] * count)


def card_entry(top_tokens: int) -> dict[str, Any]:
    """What the card says about generation confidences."""
    return {CARD_ENTRY: {"top_tokens": top_tokens}} if top_tokens else {}
