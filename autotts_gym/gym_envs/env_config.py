"""The arguments of ``AutoTTS-v0``, checked, and the draw of an episode from them."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Literal

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from autotts_gym.mdp import actions
from autotts_gym.mdp import observation as observations
from autotts_gym.mdp.batch import Batch, EpisodeStart
from autotts_gym.mdp.trace_dataset import EpisodeConfig, TraceDataset
from autotts_gym.traces import registry
from autotts_gym.traces.store import TraceStore

Environment = str | os.PathLike[str] | TraceStore

_OPTIONS: Final = frozenset({"env", "question", "beta", "branch_order"})


class EnvConfig:
    """The arguments of ``AutoTTS-v0``, checked: what single and vector environment share.

    The arguments are described in :class:`autotts_gym.gym_envs.autotts_env.AutoTTSEnv`.
    """

    def __init__(
        self,
        env: Environment | Iterable[Environment] | TraceDataset = registry.DEFAULT,
        *,
        beta: float | tuple[float, float] | Callable[[np.random.Generator], float] = 0.5,
        questions: Sequence[int | str] | None = None,
        billing: Literal["tokens", "interval"] = "tokens",
        max_branches: int = 64,
        budget: int | None = None,
        probe_tokens: int | Literal["recorded"] = 0,
        invalid_action: Literal["penalize", "raise"] = "penalize",
        invalid_penalty: float = 0.01,
        auto_probe: bool = False,
        observation: Literal["full", "compact"] = "full",
        max_depth: int | None = None,
        max_classes: int = 64,
        step_limit: int | None = None,
    ) -> None:
        self.replay = env if isinstance(env, TraceDataset) else TraceDataset(_open(env))
        self._draw_beta = beta if callable(beta) else functools.partial(_uniform, _check_beta(beta))
        self._rows: list[Sequence[int]] = [
            self.replay.rows(store) for store in range(len(self.replay.stores))
        ]
        if questions is not None:
            if not questions:
                raise ValueError("questions must name at least one, or be None for all")
            self._rows = [
                [rows[_find_question(self.replay, store, q, "questions")] for q in questions]
                for store, rows in enumerate(self._rows)
            ]
        self.terms = EpisodeConfig(
            max_branches, billing, budget, probe_tokens, auto_probe, step_limit
        )
        if invalid_action not in ("penalize", "raise"):
            raise ValueError(
                f'invalid_action must be "penalize" or "raise", got {invalid_action!r}'
            )
        number = isinstance(invalid_penalty, int | float | np.number)
        if not number or not 0 <= invalid_penalty < np.inf:
            raise ValueError(f"invalid_penalty must be a number from 0, got {invalid_penalty!r}")
        if observation not in ("full", "compact"):
            raise ValueError(f'observation must be "full" or "compact", got {observation!r}')
        self.strict = invalid_action == "raise"
        self.invalid_penalty = float(invalid_penalty)
        self.plane = observation == "full"
        self.max_depth = self.replay.depth if max_depth is None else max_depth
        self.max_classes = max_classes
        for name in ("max_depth", "max_classes"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
                raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")

    def observation_space(self) -> spaces.Dict:
        return observations.space(
            self.terms.max_branches,
            self.max_depth,
            self.max_classes,
            plane=self.plane,
            confidences=self.replay.has_confidences,
        )

    def action_space(self) -> spaces.Discrete:
        return spaces.Discrete(actions.count(self.terms.max_branches))

    def batch(self, num_envs: int) -> Batch:
        return Batch(num_envs=num_envs, **self._of_batch())

    def _of_batch(self) -> dict[str, Any]:
        """The arguments of a batch, whatever its size."""
        return {
            "replay": self.replay,
            "terms": self.terms,
            "max_depth": self.max_depth,
            "max_classes": self.max_classes,
            "plane": self.plane,
            "invalid_penalty": self.invalid_penalty,
        }

    def draw(self, rng: np.random.Generator, options: Mapping[str, Any] | None) -> EpisodeStart:
        """Draw what an episode starts from; ``options`` fix what they name.

        Every path to an episode draws in this order, so that the same seed starts the same one.
        """
        options = options or {}
        if not options.keys() <= _OPTIONS:
            unknown = sorted(options.keys() - _OPTIONS)
            raise ValueError(f"unknown reset options {unknown}; there are {sorted(_OPTIONS)}")
        replay = self.replay
        store = self._draw_store(rng, options.get("env"))
        question = options.get("question")
        if question is None:
            rows = self._rows[store]
            row = rows[int(rng.integers(len(rows)))]
        else:
            row = replay.rows(store)[_find_question(replay, store, question)]
        beta = options.get("beta")
        if beta is not None:
            value, high = _check_beta(beta)
            if value != high:
                raise ValueError(f"options['beta'] must be a number in [0, 1], got {beta!r}")
        else:
            value = self._draw_beta(rng)
        count = int(replay.branch_counts[row])
        order = options.get("branch_order")
        width = self.terms.max_branches
        opening = rng.permutation(count) if order is None else _check_order(order, count, width)
        return EpisodeStart(row, value, opening[:width])

    def _draw_store(self, rng: np.random.Generator, name: str | None) -> int:
        names = self.replay.names
        if name is not None:
            if name not in names:
                raise ValueError(f"options['env'] is {name!r}; this environment has {names}")
            return names.index(name)
        return 0 if len(names) == 1 else int(rng.integers(len(names)))


def _open(env: Environment | Iterable[Environment]) -> dict[str, TraceStore]:
    wanted = [env] if isinstance(env, str | os.PathLike | TraceStore) else list(env)
    stores: dict[str, TraceStore] = {}
    for one in wanted:
        if isinstance(one, TraceStore):
            name = one.path.as_posix() if one.path else f"store-{one.card.fingerprint[:8]}"
            stores[name] = one
        else:
            stores |= registry.open_stores(one)
    return stores


def _uniform(limits: tuple[float, float], rng: np.random.Generator) -> float:
    """A number between the limits; nothing is drawn where they are the same."""
    low, high = limits
    return low if low == high else float(rng.uniform(low, high))


def _check_beta(beta: Any) -> tuple[float, float]:
    """β as a range; raises ``ValueError`` unless it is a number or a range within [0, 1]."""
    try:
        low, high = map(float, (beta, beta) if np.isscalar(beta) else beta)
    except (TypeError, ValueError):
        low = high = np.nan
    if not 0 <= low <= high <= 1:
        raise ValueError(f"beta must be a number in [0, 1] or a range (low, high), got {beta!r}")
    return low, high


def _find_question(
    replay: TraceDataset, store: int, question: Any, what: str = "options['question']"
) -> int:
    """Row within its store of a question that is named by row or by id."""
    ids = replay.stores[store].tables.ids
    if isinstance(question, str):
        if question not in ids:
            name = replay.names[store]
            raise ValueError(f"{what}: {name!r} has no question {question!r}")
        return ids.index(question)
    if isinstance(question, bool) or not isinstance(question, int | np.integer):
        raise ValueError(f"{what} must be a row or an id, got {question!r}")
    if not 0 <= question < len(ids):
        raise ValueError(f"{what} is {question}; there are 0..{len(ids) - 1}")
    return int(question)


def _check_order(order: Sequence[int], count: int, needed: int) -> NDArray[np.int64]:
    """A branch order that was asked for: at least ``needed`` distinct numbers below ``count``."""
    given = np.asarray(order)
    if given.ndim != 1 or not np.issubdtype(given.dtype, np.integer):
        raise ValueError("options['branch_order'] must be a sequence of branch numbers")
    if len(given) < needed or len(np.unique(given)) < len(given):
        raise ValueError(
            f"options['branch_order'] must name at least max_branches={needed} branches, each once"
        )
    if given.min() < 0 or given.max() >= count:
        raise ValueError(f"options['branch_order'] must stay within 0..{count - 1}")
    return given.astype(np.int64)
