"""What is played: the stores of one or several environments as arrays, and the terms of play."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from autotts_gym.mdp import state as s
from autotts_gym.traces.store import Tables, TraceStore

BILLINGS: Final = {"tokens": s.BY_TOKENS, "interval": s.BY_INTERVAL}

#: A branch's depth is observed as int16.
_DEEPEST: Final = np.iinfo(np.int16).max


@dataclass(frozen=True)
class EpisodeConfig:
    """What is agreed before an episode starts.

    Attributes:
        max_branches: N, the widest that an episode can get, branches.
        billing: ``"tokens"`` (what was generated) or ``"interval"`` (every started one in full).
        budget: B, tokens; None for no budget.
        probe_tokens: tokens that a probe costs, or ``"recorded"``: what the traces say of each.
        auto_probe: BRANCH and CONTINUE also probe; PROBE is never legal.
        step_limit: actions after which an episode is cut off; None for no limit.

    Raises:
        ValueError: names the argument, what it was, and what it can be.
    """

    max_branches: int = 64
    billing: Literal["tokens", "interval"] = "tokens"
    budget: int | None = None
    probe_tokens: int | Literal["recorded"] = 0
    auto_probe: bool = False
    step_limit: int | None = None

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

    def ledger(self, store: TraceStore) -> NDArray[np.int64]:
        """The terms as the ledger of an episode over ``store`` holds them, int64[TERMS_SIZE]."""
        probe_tokens, probe_charge = self.probe_tokens, self.probe_tokens
        if probe_tokens == "recorded":
            recorded = store.tables.probe_tokens
            if recorded is None:
                raise ValueError(f'probe_tokens="recorded", but {store!r} records none')
            # What the next probe costs is not known before it is taken, so that legality must
            # not depend on it: the budget must cover the dearest.
            probe_tokens, probe_charge = s.RECORDED, int(recorded.max(initial=0))
        interval = store.card.interval
        ledger = np.zeros(s.LEDGER_SIZE, np.int64)
        ledger[s.INTERVAL] = interval
        ledger[s.DEPTH_LIMIT] = store.card.depth
        ledger[s.BUDGET] = s.NO_BUDGET if self.budget is None else self.budget
        ledger[s.BILLING] = BILLINGS[self.billing]
        ledger[s.PROBE_TOKENS] = probe_tokens
        ledger[s.PROBE_CHARGE] = probe_charge
        ledger[s.EXTEND_CHARGE] = interval + (int(probe_charge) if self.auto_probe else 0)
        ledger[s.AUTO_PROBE] = self.auto_probe
        ledger[s.STEP_LIMIT] = s.NO_BUDGET if self.step_limit is None else self.step_limit
        return ledger[s.TERMS]


class TraceDataset:
    """The traces of one or several stores, laid out for compiled code.

    Attributes:
        names: the environments' names, and ``stores`` their stores.
        traces: what was recorded, store after store.
        questions: int64[Q, QUESTION_SIZE], store after store.
        first_question: int64[S + 1], where each store's questions begin.
        classes: K, the most answer classes that any question has.
    """

    def __init__(self, stores: Mapping[str, TraceStore]) -> None:
        if not stores:
            raise ValueError("there is no store to play; at least one is needed")
        self.names = list(stores)
        self.stores = list(stores.values())
        tables = [store.tables for store in self.stores]
        for name, store in stores.items():
            if store.card.depth > _DEEPEST:
                raise ValueError(f"{name}: a branch of {store.card.depth} intervals is too deep")
        counts = np.concatenate([t.branch_counts for t in tables])
        classes = np.array([len(answers) for t in tables for answers in t.answers])
        self.classes = int(classes.max())
        self.first_question = np.cumsum([0, *(len(t.ids) for t in tables)])
        # Resets ask for these one at a time, which lists answer faster than arrays.
        self._golds = [gold for t in tables for gold in t.golds]
        self._answers = [answers for t in tables for answers in t.answers]
        self._rows = [range(*pair) for pair in pairwise(self.first_question.tolist())]
        self._places = [(n, q) for n, t in enumerate(tables) for q in range(len(t.ids))]
        self.questions = np.empty((len(counts), s.QUESTION_SIZE), np.int64)
        self.questions[:, s.Q_BRANCHES] = np.cumsum(counts) - counts
        self.questions[:, s.Q_GOLD] = [
            answers.index(gold) if gold in answers else -1
            for t in tables
            for gold, answers in zip(t.golds, t.answers, strict=True)
        ]
        self.questions[:, s.Q_NULLS] = np.cumsum(classes) - classes
        self.questions[:, s.Q_STORE] = np.repeat(
            np.arange(len(tables)), [len(t.ids) for t in tables]
        )
        self.branch_counts = counts
        lengths = np.concatenate([t.lengths for t in tables])
        branches = np.empty((len(lengths), 4), np.int64)
        branches[:, s.TRACE_OFFSET] = np.cumsum(lengths) - lengths
        branches[:, s.TRACE_LENGTH] = lengths
        branches[:, s.TRACE_TOKENS] = np.concatenate([t.tokens for t in tables])
        branches[:, s.TRACE_FINAL] = np.concatenate([t.finals for t in tables])
        self.traces = s.Traces(
            probes=_frozen(_joined([t.probes for t in tables])),
            branches=_frozen(branches),
            confidences=_frozen(_optional(tables, "confidences", np.float32, -1.0)),
            probe_tokens=_frozen(_optional(tables, "probe_tokens", np.int32, 0)),
            nulls=_frozen(np.array([n for t in tables for q in t.nulls for n in q], np.uint8)),
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> TraceDataset:
        return self  # frozen: copies of an environment share it

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

    def locate(self, row: int) -> tuple[int, int]:
        """Store and row within it of the question that is played as ``row``."""
        return self._places[row]

    def rows(self, store: int) -> range:
        """The rows as which the questions of a store are played."""
        return self._rows[store]

    def answers(self, row: int) -> list[str]:
        """The answer classes of the question that is played as ``row``, by stored code."""
        return self._answers[row]

    def gold(self, row: int) -> str | None:
        """The gold answer of the question that is played as ``row``; None where nobody knows it."""
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
    """One array of several; a single one is not copied, for stores can be large."""
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _optional(tables: list[Tables], column: str, dtype: type, missing: float) -> NDArray[Any]:
    """A column that stores may lack: ``missing`` where one lacks it, empty where all do."""
    columns = [getattr(t, column) for t in tables]
    if not any(values is not None and values.size for values in columns):
        return np.empty(0, dtype)
    return _joined(
        [
            np.full(len(t.probes), missing, dtype) if values is None else values
            for t, values in zip(tables, columns, strict=True)
        ]
    )


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    """A read-only view: compiled code is specialised on it, so every array must be alike."""
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view
