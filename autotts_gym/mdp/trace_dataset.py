"""Trace datasets (the stores of one or several environments as arrays) and episode configs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from autotts_gym.mdp import state as s
from autotts_gym.mdp.state import Records
from autotts_gym.traces.store import Tables, TraceStore

BILLINGS: Final = {"tokens": s.BY_TOKENS, "interval": s.BY_INTERVAL}

#: A branch's depth is observed as int16.
_DEEPEST: Final = np.iinfo(np.int16).max


@dataclass(frozen=True)
class EpisodeConfig:
    """The configuration of an episode.

    Attributes:
        max_branches: N, the largest number of branches of an episode.
        billing: ``"tokens"`` (tokens generated) or ``"interval"`` (every started interval in full).
        budget: B, tokens; None for no budget.
        probe_tokens: tokens that a probe costs, or ``"recorded"``: as recorded with each probe.
        auto_probe: BRANCH and CONTINUE also probe; PROBE is never legal.
        step_limit: actions after which an episode is truncated; None for no limit.
        latency_weight: w in [0, 1], the weight of sequential tokens in the cost.

    Raises:
        ValueError: an argument is invalid; the message names it, its value and what is valid.
    """

    max_branches: int = 64
    billing: Literal["tokens", "interval"] = "tokens"
    budget: int | None = None
    probe_tokens: int | Literal["recorded"] = 0
    auto_probe: bool = False
    step_limit: int | None = None
    latency_weight: float = 0.0

    def __post_init__(self) -> None:
        if self.billing not in BILLINGS:
            raise ValueError(f'billing must be "tokens" or "interval", got {self.billing!r}')
        _check_int("max_branches", self.max_branches, 1, _DEEPEST)
        if self.budget is not None:
            _check_int("budget", self.budget, 0, s.NO_BUDGET)
        if self.step_limit is not None:
            _check_int("step_limit", self.step_limit, 1, s.NO_BUDGET)
        if self.probe_tokens != "recorded":
            _check_int("probe_tokens", self.probe_tokens, 0, np.iinfo(np.int32).max)
        if not isinstance(self.auto_probe, bool | np.bool_):
            raise ValueError(f"auto_probe must be True or False, got {self.auto_probe!r}")
        weight = self.latency_weight
        is_number = isinstance(weight, int | float | np.number) and not isinstance(weight, bool)
        if not is_number or not 0 <= weight <= 1:
            raise ValueError(f"latency_weight must be a number in [0, 1], got {weight!r}")

    def ledger(self, store: TraceStore) -> Records:
        """The initial ledger of an episode over ``store``, a LEDGER record.

        Raises:
            ValueError: ``probe_tokens="recorded"``, and the store has no recorded probe tokens.
        """
        probe_tokens, probe_charge = self.probe_tokens, self.probe_tokens
        if probe_tokens == "recorded":
            recorded = store.tables.probe_tokens
            if recorded is None:
                raise ValueError(f'probe_tokens="recorded", but {store!r} records none')
            # The cost of a probe is unknown until it is taken, and legality must not depend on it:
            # the budget must cover the most expensive one.
            probe_tokens, probe_charge = s.RECORDED, int(recorded.max(initial=0))
        interval = store.card.interval
        ledger = np.zeros((), s.LEDGER)
        ledger["answer"] = -1
        ledger["interval"] = interval
        ledger["depth_limit"] = store.card.depth
        ledger["budget"] = s.NO_BUDGET if self.budget is None else self.budget
        ledger["billing"] = BILLINGS[self.billing]
        ledger["probe_tokens"] = probe_tokens
        ledger["probe_charge"] = probe_charge
        ledger["extend_charge"] = interval + (int(probe_charge) if self.auto_probe else 0)
        ledger["auto_probe"] = self.auto_probe
        ledger["step_limit"] = s.NO_BUDGET if self.step_limit is None else self.step_limit
        ledger["has_generation_confidence"] = store.tables.confidence_sums is not None
        ledger["latency_weight"] = self.latency_weight
        ledger["full_cost"] = self.max_branches * store.card.mean_tokens
        ledger["full_latency"] = store.longest_tokens(self.max_branches)
        return ledger


class TraceDataset:
    """The traces of one or several trace stores, laid out for compiled code.

    Attributes:
        names: the environments' names, and ``stores`` their stores.
        traces: the recorded branches, store after store.
        questions: QUESTION[Q], store after store.
        first_question: int64[S + 1], row of each store's first question.
        classes: K, the largest number of answer classes of any question.
        has_gold: int8[Q], 1 if the gold answer of a question is known.
    """

    def __init__(self, stores: Mapping[str, TraceStore]) -> None:
        if not stores:
            raise ValueError("stores is empty; at least one trace store is needed")
        self.names = list(stores)
        self.stores = list(stores.values())
        tables = [store.tables for store in self.stores]
        for name, store in stores.items():
            if store.card.depth > _DEEPEST:
                raise ValueError(
                    f"{name}: a branch has {store.card.depth} intervals; "
                    f"at most {_DEEPEST} are possible"
                )
        counts = np.concatenate([t.branch_counts for t in tables])
        classes = np.array([len(answers) for t in tables for answers in t.answers])
        self.classes = int(classes.max())
        self.first_question = np.cumsum([0, *(len(t.ids) for t in tables)])
        # Resets read single entries, which is faster from lists than from arrays.
        self._golds = [gold for t in tables for gold in t.golds]
        self._answers = [answers for t in tables for answers in t.answers]
        self.has_gold = np.array([bool(gold) for gold in self._golds], np.int8)
        self._rows = [range(*pair) for pair in pairwise(self.first_question.tolist())]
        self._places = [(n, q) for n, t in enumerate(tables) for q in range(len(t.ids))]
        self.questions = np.empty(len(counts), s.QUESTION)
        self.questions["branches"] = np.cumsum(counts) - counts
        self.questions["gold"] = [code for t in tables for code in t.gold_codes()]
        self.questions["nulls"] = np.cumsum(classes) - classes
        self.questions["store"] = np.repeat(np.arange(len(tables)), [len(t.ids) for t in tables])
        self.branch_counts = counts
        lengths = np.concatenate([t.lengths for t in tables])
        branches = np.empty(len(lengths), s.TRACE)
        branches["offset"] = np.cumsum(lengths) - lengths
        branches["length"] = lengths
        branches["tokens"] = np.concatenate([t.tokens for t in tables])
        branches["final"] = np.concatenate([t.finals for t in tables])
        probes = [len(t.probes) for t in tables]
        intervals = [len(t.probes) + len(t.lengths) for t in tables]
        self.traces = s.Traces(
            probes=_frozen(_joined([t.probes for t in tables])),
            branches=_frozen(branches),
            confidences=_optional(tables, "confidences", np.float32, -1.0, probes),
            probe_tokens=_optional(tables, "probe_tokens", np.int32, 0, probes),
            nulls=_frozen(np.array([n for t in tables for q in t.nulls for n in q], np.uint8)),
            confidence_sums=_optional(tables, "confidence_sums", np.float32, 0.0, intervals),
            confidence_tokens=_optional(tables, "confidence_tokens", np.int32, 0, intervals),
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> TraceDataset:
        return self  # read-only: copies of an environment share it

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        # Pickling makes arrays writeable.
        self.traces = s.Traces(**{k: _frozen(v) for k, v in self.traces._asdict().items()})

    @property
    def depth(self) -> int:
        """Intervals of the deepest branch of all stores."""
        return max(store.card.depth for store in self.stores)

    @property
    def has_confidences(self) -> bool:
        return self.traces.confidences.size > 0

    @property
    def has_generation_confidences(self) -> bool:
        return self.traces.confidence_sums.size > 0

    def locate(self, row: int) -> tuple[int, int]:
        """Store and row within that store of the dataset's question ``row``."""
        return self._places[row]

    def rows(self, store: int) -> range:
        """Rows in the dataset of the questions of a store."""
        return self._rows[store]

    def answers(self, row: int) -> list[str]:
        """The answer classes of question ``row``, by stored code."""
        return self._answers[row]

    def gold(self, row: int) -> str | None:
        """The gold answer of question ``row``; None if it is unknown."""
        return self._golds[row]

    def check_width(self, max_branches: int) -> None:
        """Raise ``ValueError`` if some question has fewer than ``max_branches`` branches."""
        fewest = int(self.branch_counts.argmin())
        if self.branch_counts[fewest] < max_branches:
            store, question = self.locate(fewest)
            raise ValueError(
                f"max_branches={max_branches}, but question {question} of "
                f"{self.names[store]!r} has {self.branch_counts[fewest]} branches; "
                f"pass max_branches={self.branch_counts[fewest]} or fewer"
            )

    def check_episodes(
        self, questions: NDArray[np.int64], orders: NDArray[np.int64], max_branches: int
    ) -> None:
        """Raise ``ValueError`` unless these questions and branch orders can be played.

        Args:
            questions: int64[K].
            orders: int64[K, max_branches].
        """
        shape, counts = (len(questions), max_branches), self.branch_counts
        if orders.shape != shape:
            raise ValueError(f"orders must have the shape {shape}, got {orders.shape}")
        if not shape[0]:
            return
        if questions.min() < 0 or questions.max() >= len(counts):
            raise ValueError(f"questions must stay within 0..{len(counts) - 1}")
        if orders.min() < 0 or (orders.max(axis=1) >= counts[questions]).any():
            raise ValueError("orders must name branches that their questions have")


def _check_int(name: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise ValueError(f"{name} must be an integer, got {value!r}")
    if not low <= value <= high:
        bound = f"at least {low}" if value < low else f"at most {high}"
        raise ValueError(f"{name} must be {bound}, got {value}")


def _joined(arrays: list[NDArray[Any]]) -> NDArray[Any]:
    """Concatenation of arrays; a single one is not copied, since stores can be large."""
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _optional(
    tables: list[Tables], column: str, dtype: type, missing: float, rows: list[int]
) -> NDArray[Any]:
    """An optional column: ``missing`` for stores without it, empty if no store has it.

    Args:
        tables: of the stores.
        column, dtype: its name in the tables, and its dtype.
        missing: value of all rows of a store without it.
        rows: number of rows of each store.
    """
    columns = [getattr(t, column) for t in tables]
    if not any(values is not None and values.size for values in columns):
        return _frozen(np.empty(0, dtype))
    return _frozen(
        _joined(
            [
                np.full(count, missing, dtype) if values is None else values
                for count, values in zip(rows, columns, strict=True)
            ]
        )
    )


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    """A contiguous read-only view: compiled code is specialised on that type of array."""
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view
