"""Some episodes of a benchmark, played once more and written down, to be looked at.

Which ones is decided by the results alone: questions spread from the easiest to the hardest, each
in the branch order over which the rows differ most, the same for every row of an environment. An
episode is kept only if it ends as the results say.
"""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from autotts_gym.controllers.episode import Episode
from autotts_gym.evaluation.results import Results
from autotts_gym.evaluation.runs import Run
from autotts_gym.gym_envs.autotts_env import AutoTTSEnv
from autotts_gym.mdp import actions
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.report.sources import Sources
from autotts_gym.rollout.branch_orders import branch_order
from autotts_gym.sandbox.player import Sandbox
from autotts_gym.sandbox.untrusted_agent import UntrustedAgent


@dataclass(frozen=True)
class Recording:
    """An episode that was played once more.

    Attributes:
        run: index of its row among the results' runs.
        question, seed: which one.
        correct, answer, tokens, sequential_tokens: how it ended.
        packed: what happened in it, see :func:`pack`.
    """

    run: int
    question: int
    seed: int
    correct: bool
    answer: str
    tokens: int
    sequential_tokens: int
    packed: str


@dataclass(frozen=True)
class Recordings:
    """The recordings of a report.

    Attributes:
        episodes: round after round of :func:`choose`, so that a limit cuts every row alike.
        texts: a question's text by environment and row, where it has one.
        wanted: how many were chosen; the limit or a problem may have left some out.
        limited: whether the size limit left some out.
        problems: why others are missing, a sentence each.
    """

    episodes: list[Recording]
    texts: dict[str, dict[int, str]]
    wanted: int
    limited: bool
    problems: list[str]


# --- which --------------------------------------------------------------------------------------


def choose(runs: Sequence[Run], count: int) -> list[tuple[int, int]]:
    """The (question, seed) pairs of one environment that are worth a look, in order of worth.

    Args:
        runs: the environment's rows, over the same questions and seeds.
        count: how many.

    Returns:
        The extremes first, then what lies between, ever finer. Of a question, the seed over which
        the rows are divided most comes first; others follow only when every question has had one.
    """
    seeds = np.unique(runs[0].episodes["seed"])
    questions = np.unique(runs[0].episodes["question"])
    right = np.mean(
        [np.reshape(run.episodes["correct"], (len(seeds), len(questions))) for run in runs], axis=0
    )  # share of the rows that are right, [seeds, questions]
    by_ease = np.argsort(-right.mean(axis=0), kind="stable")
    divided = np.argsort(abs(right - 0.5), axis=0, kind="stable")
    chosen: list[tuple[int, int]] = []
    for choice in range(len(seeds)):
        spread = _spread(len(questions), count - len(chosen))
        for q in by_ease[spread]:
            chosen.append((int(questions[q]), int(seeds[divided[choice, q]])))
    return chosen


def _spread(size: int, count: int) -> list[int]:
    """Up to ``count`` of ``size`` places, evenly spread: both ends first, then ever finer."""
    places = np.unique(np.linspace(0, size - 1, max(min(count, size), 0)).round().astype(int))
    order: list[int] = []
    left = places.tolist()
    while left:
        # The one that lies farthest from those that are there; the first, then the last.
        far = max(left, key=lambda p: (min((abs(p - o) for o in order), default=-p), -p))
        order.append(far)
        left.remove(far)
    return order


# --- playing ------------------------------------------------------------------------------------


def record(
    results: Results,
    sources: Sources,
    count: int,
    *,
    limit: int,
    progress: Callable[[str, int, int], None] = lambda label, done, total: None,
) -> Recordings:
    """Play chosen episodes once more through ``AutoTTSEnv.step`` and write them down.

    Args:
        results: what was played.
        sources: what is still there of it; rows that lack theirs are left out.
        count: episodes of every row.
        limit: bytes that all recordings together may take.
        progress: called with a label, and with how many episodes of how many are done.
    """
    table = _Table(results, sources, count)
    kept: list[Recording] = []
    size = 0
    try:
        for done, (number, question, seed) in enumerate(table.plan, 1):
            run = results.runs[number]
            found = table.play(number, question, seed)
            progress(f"{run.agent} on {run.env}", done, len(table.plan))
            if found is None:
                continue
            size += len(found.packed)
            if size > limit:
                break
            kept.append(found)
    finally:
        table.close()
    progress("", len(table.plan), len(table.plan))
    return Recordings(kept, table.texts(), len(table.plan), size > limit, table.problems)


class _Table:
    """Who sits at the table; every environment is made once.

    Attributes:
        plan: (index of the run, question, seed) of every chosen episode.
        problems: what could not be recorded, a sentence each.
    """

    def __init__(self, results: Results, sources: Sources, count: int) -> None:
        self.problems: list[str] = []
        self._results = results
        self._stores, self._agents = sources.stores, sources.agents
        self._terms: dict[str, EpisodeConfig] = {
            agent.name: replace(results.config, billing=agent.billing)  # type: ignore[arg-type]
            for agent in results.agents
        }
        self._envs: dict[tuple[str, EpisodeConfig], _Recorder] = {}
        self._sandboxes: dict[tuple[str, str], Sandbox] = {}
        self._chosen = {
            env: choose([run for run in results.runs if run.env == env], count)
            for env in self._stores
            if any(run.env == env for run in results.runs)
        }
        self.plan = list(self._rounds())

    def _rounds(self) -> Iterator[tuple[int, int, int]]:
        """(run, question, seed), the best choice of every environment before any second one."""
        for k in range(max(map(len, self._chosen.values()), default=0)):
            for number, run in enumerate(self._results.runs):
                pairs = self._chosen.get(run.env, [])
                if k < len(pairs) and run.agent in self._agents:
                    yield number, *pairs[k]

    def texts(self) -> dict[str, dict[int, str]]:
        return {
            env: {
                question: self._stores[env].tables.texts[question][:400]
                for question in sorted({question for question, _ in pairs})
            }
            for env, pairs in self._chosen.items()
        }

    def play(self, number: int, question: int, seed: int) -> Recording | None:
        """The recording of one episode; None, and a problem noted, if it did not go as before."""
        run = self._results.runs[number]
        told = f"{run.agent}{'' if run.beta is None else f' at β={run.beta:g}'} on {run.env}"
        at = (run.episodes["seed"] == seed) & (run.episodes["question"] == question)
        (k,) = np.flatnonzero(at)
        before = {name: column[k] for name, column in run.episodes.items()}
        if (seed, question) in run.failures:
            # It may not end at all this time.
            self.problems.append(f"{told}, question {question}, seed {seed}: failed when played")
            return None
        store = self._stores[run.env]
        recorder = self._recorder(run.env, self._terms[run.agent])
        recorder.most = int(before["actions"])
        count = int(store.tables.branch_counts[question])
        order = branch_order(self._results.order, seed, question, count)[: recorder.width]
        options = {"question": question, "branch_order": order, "beta": run.beta or 0.0}
        handle = Episode(recorder, recorder.reset(options=options)[0])
        try:
            agent = self._agents[run.agent]
            if isinstance(agent, UntrustedAgent):
                info = self._retrace(agent, run, question, order, recorder)
            else:
                agent(handle, run.beta or 0.0)
                info = handle.info
            same = info["tokens"] == before["tokens"] and info["answer"] == before["answer"]
        except (Exception, SystemExit):  # a program may do anything
            same = False
        if not same:
            self.problems.append(f"{told}, question {question}, seed {seed}: did not go as before")
            return None
        return Recording(
            number,
            question,
            seed,
            bool(info["correct"]),
            info["answer"],
            int(info["tokens"]),
            int(info["sequential_tokens"]),
            pack(recorder, handle.notes, info["gold"]),
        )

    def _retrace(
        self,
        agent: UntrustedAgent,
        run: Run,
        question: int,
        order: NDArray[np.int64],
        recorder: _Recorder,
    ) -> dict[str, Any]:
        """Have an episode played in a sandbox, and take the same actions; its notes stay there."""
        key = run.agent, run.env
        if key not in self._sandboxes:
            terms = self._terms[run.agent]
            self._sandboxes[key] = Sandbox(agent, self._stores[run.env], terms, abreast=1)
        box = self._sandboxes[key]
        box.play(np.array([question]), order[None], run.beta or 0.0)
        info: dict[str, Any] = {}
        for action in box.logs[0].tolist():
            info = recorder.step(action)[4]
        return info

    def close(self) -> None:
        """End what sandboxes have started."""
        for box in self._sandboxes.values():
            box.close()

    def _recorder(self, env: str, terms: EpisodeConfig) -> _Recorder:
        if (env, terms) not in self._envs:
            self._envs[env, terms] = _Recorder(
                AutoTTSEnv(self._stores[env], observation="compact", **asdict(terms))
            )
        return self._envs[env, terms]


class _TooLongError(RuntimeError):
    """More actions than the results say."""


class _Recorder(gym.Wrapper[Any, Any, Any, Any]):
    """Writes down what happens in an episode.

    Attributes:
        most: actions after which an episode is not the one that was played.
        actions: their ids.
        spent, clock: what could be seen of both after every action, tokens.
        shown: for every PROBE, the class it showed, and the depth where it showed the end (else 0).
    """

    def __init__(self, env: AutoTTSEnv) -> None:
        super().__init__(env)
        self.auto = env
        self.width = env.max_branches
        self.most = 0
        self._clear()

    def _clear(self) -> None:
        self.actions: list[int] = []
        self.spent: list[int] = []
        self.clock: list[int] = []
        self.shown: list[tuple[int, int]] = []

    def reset(self, **arguments: Any) -> Any:
        self._clear()
        return self.env.reset(**arguments)

    def step(self, action: Any) -> Any:
        if len(self.actions) >= self.most:
            raise _TooLongError
        found = self.env.step(action)
        self.actions.append(int(action))
        self.spent.append(self.auto.spent)
        self.clock.append(self.auto.clock)
        name, branch = actions.decode(int(action), self.width)
        if name == "PROBE":
            seen = found[0]
            depth = int(seen["branch_revealed"][branch]) if seen["branch_finished"][branch] else 0
            self.shown.append((int(seen["branch_latest"][branch]), depth))
        return found


# --- writing down -------------------------------------------------------------------------------


def pack(played: _Recorder, notes: Sequence[tuple[int, str, float]], gold: str) -> str:
    """An episode as text: base64 of zlib's stream of a JSON object.

    The object has the answers by class (``answers``, ``nulls``), ``gold``, and four lists:
    ``actions``, ``spent`` and ``clock`` as differences from one action to the next, for these
    repeat themselves and pack well, and ``shown``. ``notes`` has (actions so far, value) pairs by
    name; a value that is no finite number is null.
    """
    classes = range(1 + max((answer for answer, _ in played.shown), default=-1))
    by_name: dict[str, list[tuple[int, float | None]]] = {}
    for moment, name, value in notes:
        short = float(f"{value:.6g}") if math.isfinite(value) else None
        by_name.setdefault(name, []).append((moment, short))
    content = {
        "answers": [played.auto.answer_text(c) for c in classes],
        "nulls": [int(played.auto.is_null(c)) for c in classes],
        "gold": gold,
        "actions": _differences(played.actions),
        "spent": _differences(played.spent),
        "clock": _differences(played.clock),
        "shown": played.shown,
        "notes": by_name,
    }
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode()


def _differences(values: Sequence[int]) -> list[int]:
    return [after - before for before, after in pairwise([0, *values])]
