"""The options of ``AutoTTS-v0``: their validation, spaces, and how an episode's start is drawn."""

from __future__ import annotations

import copy
import functools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Literal, TypedDict

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from autotts_gym.mdp import actions, flat_observation, observed_arrays
from autotts_gym.mdp.batch import Batch, EpisodeStart
from autotts_gym.mdp.episode_draws import DRAWN, DrawTables
from autotts_gym.mdp.trace_dataset import EpisodeConfig, TraceDataset
from autotts_gym.traces import registry
from autotts_gym.traces.branch_width import default_width
from autotts_gym.traces.store import TraceStore
from autotts_gym.utils.keywords import suggest_keywords

#: What ``env`` accepts: a name, a path, or a trace store.
Environment = str | os.PathLike[str] | TraceStore

#: A number in [0, 1], a range ``(low, high)``, or a function that draws a number.
Beta = float | tuple[float, float] | Callable[[np.random.Generator], float]
#: What ``latency_weight`` accepts.
LatencyWeight = Beta

_RESET_OPTIONS: Final = frozenset({"env", "question", "beta", "latency_weight", "branch_order"})


class CommonEnvOptions(TypedDict, total=False):
    """Keyword arguments that recorded and live environments share; see ``AutoTTSEnv``."""

    beta: Beta
    latency_weight: LatencyWeight
    billing: Literal["tokens", "interval"]
    max_branches: int | None
    budget: int | None
    probe_tokens: int | Literal["recorded"]
    invalid_action: Literal["penalize", "raise"]
    invalid_penalty: float
    auto_probe: bool
    observation: Literal["full", "compact", "flat"]
    max_depth: int | None
    max_classes: int
    step_limit: int | None
    info_strings: bool


class EnvOptions(CommonEnvOptions, total=False):
    """Keyword arguments of environments with recorded traces; see ``AutoTTSEnv``, "Arguments"."""

    questions: Sequence[int | str] | None


#: Live environments are made for each question, and the bounds take a while.
_arrays_space = functools.lru_cache(64)(observed_arrays.space)


class EnvConfig:
    """The validated options of an environment, shared by single and vector environments.

    Args: see :class:`autotts_gym.gym_envs.autotts_env.AutoTTSEnv`, "Arguments".

    Raises:
        ValueError: an option is invalid; the message names it and what is valid.

    Attributes:
        dataset: the traces that are played.
        config: the configuration of every episode.
        strict: whether an illegal action raises.
        invalid_penalty: penalty for an illegal action, in units of reward.
        plane: whether observations have planes.
        flat: whether an observation is one array.
        max_depth, max_classes: D and M.
        info_strings: whether ``info`` has strings.
        observes_latency: whether observations show w and clock / L: unless w is always 0.
    """

    @suggest_keywords()
    def __init__(
        self,
        env: Environment | Iterable[Environment] | TraceDataset = registry.DEFAULT,
        *,
        beta: Beta = 0.5,
        questions: Sequence[int | str] | None = None,
        billing: Literal["tokens", "interval"] = "tokens",
        max_branches: int | None = None,
        budget: int | None = None,
        probe_tokens: int | Literal["recorded"] = 0,
        invalid_action: Literal["penalize", "raise"] = "penalize",
        invalid_penalty: float = 0.01,
        auto_probe: bool = False,
        observation: Literal["full", "compact", "flat"] = "full",
        max_depth: int | None = None,
        max_classes: int = 64,
        step_limit: int | None = None,
        info_strings: bool = False,
        latency_weight: LatencyWeight = 0.0,
    ) -> None:
        self.dataset = env if isinstance(env, TraceDataset) else TraceDataset(_open_stores(env))
        numbers: dict[str, Beta] = {"beta": beta, "latency_weight": latency_weight}
        self._functions = {name: value for name, value in numbers.items() if callable(value)}
        is_drawn = callable(latency_weight) or not np.isscalar(latency_weight)
        self.observes_latency = is_drawn or latency_weight != 0
        rows: list[Sequence[int]] = [
            self.dataset.rows(store) for store in range(len(self.dataset.stores))
        ]
        if questions is not None:
            if not questions:
                raise ValueError(
                    "questions is empty; name at least one question, or pass None for all"
                )
            rows = [
                [of_store[_find_question(self.dataset, store, q, "questions")] for q in questions]
                for store, of_store in enumerate(rows)
            ]
        self._draws = DrawTables.of(
            self.dataset, rows, *(_limits(name, value) for name, value in numbers.items())
        )
        if max_branches is None:
            max_branches = default_width(self.dataset.stores)
        self.config = EpisodeConfig(
            max_branches, billing, budget, probe_tokens, auto_probe, step_limit
        )
        if invalid_action not in ("penalize", "raise"):
            raise ValueError(
                f'invalid_action must be "penalize" or "raise", got {invalid_action!r}'
            )
        is_number = isinstance(invalid_penalty, int | float | np.number)
        if not is_number or not 0 <= invalid_penalty < np.inf:
            raise ValueError(
                f"invalid_penalty must be a finite number of at least 0, got {invalid_penalty!r}"
            )
        if observation not in ("full", "compact", "flat"):
            raise ValueError(
                f'observation must be "full", "compact" or "flat", got {observation!r}'
            )
        if not isinstance(info_strings, bool):
            raise ValueError(f"info_strings must be True or False, got {info_strings!r}")
        self.info_strings = info_strings
        self.strict = invalid_action == "raise"
        self.invalid_penalty = float(invalid_penalty)
        self.plane = observation == "full"
        self.flat = observation == "flat"
        self.max_depth = self.dataset.depth if max_depth is None else max_depth
        self.max_classes = max_classes
        for name in ("max_depth", "max_classes"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
                raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")

    def observation_space(self) -> spaces.Box | spaces.Dict:
        return flat_observation.space(self.flat_slices()) if self.flat else self._arrays_space()

    def flat_slices(self) -> dict[str, slice]:
        """The slices of an observation with ``observation="flat"``, by name."""
        return flat_observation.slices(
            self.config.max_branches, self.max_classes, latency=self.observes_latency
        )

    def _arrays_space(self) -> spaces.Dict:
        made = _arrays_space(
            self.config.max_branches,
            self.max_depth,
            self.max_classes,
            plane=self.plane,
            confidences=self.dataset.has_confidences,
            latency=self.observes_latency,
        )
        # Each environment has random numbers of its own, and shares the bounds.
        return spaces.Dict({key: copy.copy(box) for key, box in made.items()})

    def action_space(self) -> spaces.Discrete:
        return spaces.Discrete(actions.count(self.config.max_branches))

    def describe(self, action: int) -> str:
        """Name of an action id.

        Raises:
            ValueError: there is no such action.
        """
        return str(actions.decode(action, self.config.max_branches))

    def batch(self, num_envs: int, threads: int = 1) -> Batch:
        """A batch of ``num_envs`` episodes, stepped by ``threads`` threads."""
        return Batch(num_envs=num_envs, threads=threads, **self._batch_arguments())

    def _batch_arguments(self) -> dict[str, Any]:
        """The arguments of a batch, except its size."""
        return {
            "dataset": self.dataset,
            "config": self.config,
            "max_depth": self.max_depth,
            "max_classes": self.max_classes,
            "plane": self.plane,
            "invalid_penalty": self.invalid_penalty,
            "flat": self.flat_slices() if self.flat else None,
            "observes_latency": self.observes_latency,
            "draws": self._draws,
        }

    @property
    def has_functions(self) -> bool:
        """Whether functions of Python draw β or w."""
        return bool(self._functions)

    def start(
        self,
        batch: Batch,
        chosen: NDArray[np.int64],
        generators: Sequence[np.random.Generator],
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Start the next episodes of sub-environments; reset ``options`` fix what they name.

        All environment types start episodes here, so that the same seed starts the same episodes.

        Args:
            batch: the batch of all sub-environments, made by :meth:`batch`.
            chosen: int64[K], the sub-environments.
            generators: E generators, which options given as functions draw from.
            options: reset options.

        Raises:
            ValueError: an option is unknown or invalid. No episode is started then.
        """
        if not options and not self._functions:
            batch.start(chosen)
            return
        starts = [self._draw(batch, e, generators[e], options or {}) for e in chosen.tolist()]
        batch.reset(chosen.tolist(), starts)
        batch.streams.episodes[chosen] += np.uint64(1)

    def _draw(
        self, batch: Batch, e: int, rng: np.random.Generator, options: Mapping[str, Any]
    ) -> EpisodeStart:
        """What the next episode of sub-environment ``e`` starts from."""
        if not options.keys() <= _RESET_OPTIONS:
            unknown = sorted(options.keys() - _RESET_OPTIONS)
            raise ValueError(
                f"unknown reset options {unknown}; valid options are {sorted(_RESET_OPTIONS)}"
            )
        store = self._store(options.get("env"))
        start = batch.drawn_start(e, store)
        if options.get("question") is not None:
            # Without a name, the environment is drawn as always.
            store = self.dataset.locate(start.question)[0]
            place = _find_question(self.dataset, store, options["question"])
            start = batch.drawn_start(e, question=self.dataset.rows(store)[place])
        beta = self._number("beta", options, rng, start.beta)
        weight = self._number("latency_weight", options, rng, start.latency_weight or 0.0)
        if weight and not self.observes_latency:
            raise ValueError(
                f"options['latency_weight'] is {weight:g}, but this environment's observations do "
                "not show it: make the environment with latency_weight=(0, 1), for example"
            )
        order, width = start.order, self.config.max_branches
        if (given_order := options.get("branch_order")) is not None:
            count = int(self.dataset.branch_counts[start.question])
            order = _check_order(given_order, count, width)[:width]
        return EpisodeStart(start.question, beta, order, weight)

    def _number(
        self,
        name: str,
        options: Mapping[str, Any],
        rng: np.random.Generator,
        drawn: float,
    ) -> float:
        """β or w: that of the reset options, of the function that draws it, or as drawn."""
        given = _given(name, options)
        if given is None and name in self._functions:
            return float(self._functions[name](rng))
        return drawn if given is None else given

    def _store(self, name: str | None) -> int:
        """Index of the store that reset options name, or ``DRAWN``."""
        if name is None:
            return DRAWN
        names = self.dataset.names
        if name not in names:
            raise ValueError(f"options['env'] is {name!r}; this environment plays {names}")
        return names.index(name)


def _open_stores(env: Environment | Iterable[Environment]) -> dict[str, TraceStore]:
    given = [env] if isinstance(env, str | os.PathLike | TraceStore) else env
    entries = list(given) if isinstance(given, Iterable) else [given]
    for entry in entries:
        if not isinstance(entry, str | os.PathLike | TraceStore):
            raise TypeError(f"env must be a name, a path or a TraceStore, got {entry!r}")
    stores: dict[str, TraceStore] = {}
    for entry in entries:
        if isinstance(entry, TraceStore):
            name = entry.path.as_posix() if entry.path else f"store-{entry.card.fingerprint[:8]}"
            stores[name] = entry
        else:
            stores |= registry.open_stores(entry)
    return stores


def _check_range(name: str, value: Any) -> tuple[float, float]:
    """A range; raises ``ValueError`` unless ``value`` is a number or a range in [0, 1]."""
    try:
        low, high = map(float, (value, value) if np.isscalar(value) else value)
    except (TypeError, ValueError):
        low = high = np.nan
    if not 0 <= low <= high <= 1:
        raise ValueError(f"{name} must be a number in [0, 1] or a range (low, high), got {value!r}")
    return low, high


def _limits(name: str, value: Beta) -> tuple[float, float]:
    """The limits of a number of an episode, from an option like ``beta``; 0 for functions."""
    return (0.0, 0.0) if callable(value) else _check_range(name, value)


def _given(name: str, options: Mapping[str, Any]) -> float | None:
    """The number in [0, 1] that reset options give; None without one."""
    value = options.get(name)
    if value is None:
        return None
    low, high = _check_range(name, value)
    if low != high:
        raise ValueError(f"options[{name!r}] must be a number in [0, 1], got {value!r}")
    return low


def _find_question(
    dataset: TraceDataset, store: int, question: Any, what: str = "options['question']"
) -> int:
    """Row within its store of a question given by row or by id."""
    ids = dataset.stores[store].tables.ids
    if isinstance(question, str):
        if question not in ids:
            name = dataset.names[store]
            raise ValueError(f"{what}: {name!r} has no question {question!r}")
        return ids.index(question)
    if isinstance(question, bool) or not isinstance(question, int | np.integer):
        raise ValueError(f"{what} must be a row or an id, got {question!r}")
    if not 0 <= question < len(ids):
        raise ValueError(f"{what} is {question}; valid rows are 0..{len(ids) - 1}")
    return int(question)


def _check_order(order: Sequence[int], count: int, needed: int) -> NDArray[np.int64]:
    """A given branch order, checked: at least ``needed`` distinct numbers below ``count``."""
    given = np.asarray(order)
    if given.ndim != 1 or not np.issubdtype(given.dtype, np.integer):
        raise ValueError("options['branch_order'] must be a sequence of branch numbers")
    if len(given) < needed or len(np.unique(given)) < len(given):
        raise ValueError(
            "options['branch_order'] must hold at least "
            f"max_branches={needed} branch numbers, each once"
        )
    if given.min() < 0 or given.max() >= count:
        raise ValueError(f"options['branch_order'] must stay within 0..{count - 1}")
    return given.astype(np.int64)
