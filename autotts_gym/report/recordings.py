"""Episodes of a benchmark that are played again and recorded for a report.

The results alone determine which episodes are selected. An episode is recorded only if it ends as
in the results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autotts_gym.controllers.episode import Episode
from autotts_gym.evaluation.results import Results
from autotts_gym.evaluation.runs import Run
from autotts_gym.gym_envs.autotts_env import AutoTTSEnv
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.report.episode_recorder import EpisodeRecorder, pack
from autotts_gym.report.episode_selection import select_episodes
from autotts_gym.report.note_panels import NoteRanges
from autotts_gym.report.sources import Sources
from autotts_gym.rollout.branch_orders import branch_order
from autotts_gym.sandbox.player import Sandbox
from autotts_gym.sandbox.untrusted_agent import UntrustedAgent

#: Characters of a question's text that a report shows.
_TEXT_LENGTH = 400


@dataclass(frozen=True)
class Recording:
    """An episode that was played again.

    Attributes:
        run: index of its row among the results' runs.
        question, seed: of the episode.
        correct, answer, tokens, sequential_tokens: how it ended.
        packed: its steps, see ``episode_recorder.pack``.
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
        episodes: in the order of selection, so that the size limit affects all rows alike.
        texts: texts of questions, by environment and question.
        wanted: number of selected episodes; some may be missing.
        limited: whether episodes are missing because of the size limit.
        problems: why other episodes are missing, one sentence each.
        note_ranges: ranges of the notes, by agent.
    """

    episodes: list[Recording]
    texts: dict[str, dict[int, str]]
    wanted: int
    limited: bool
    problems: list[str]
    note_ranges: dict[str, NoteRanges] = field(default_factory=dict)


# --- playing ------------------------------------------------------------------------------------


def record_episodes(
    results: Results,
    sources: Sources,
    count: int,
    *,
    limit: int,
    progress: Callable[[str, int, int], None] = lambda label, done, total: None,
) -> Recordings:
    """Play selected episodes again through ``AutoTTSEnv.step`` and record them.

    Args:
        results: the results of a benchmark.
        sources: its stores and agents; rows whose store or agent is missing are omitted.
        count: number of episodes for each row.
        limit: size limit of all recordings together, bytes.
        progress: called with a label, the number of played episodes, and the number of all.
    """
    player = _EpisodePlayer(results, sources, count)
    kept: list[Recording] = []
    size = 0
    try:
        for done, (number, question, seed) in enumerate(player.plan, 1):
            run = results.runs[number]
            recording = player.play(number, question, seed)
            progress(f"{run.agent} on {run.env}", done, len(player.plan))
            if recording is None:
                continue
            size += len(recording.packed)
            if size > limit:
                break
            kept.append(recording)
    finally:
        player.close()
    progress("", len(player.plan), len(player.plan))
    return Recordings(
        kept,
        player.texts(),
        len(player.plan),
        size > limit,
        player.problems,
        player.note_ranges,
    )


class _EpisodePlayer:
    """Plays episodes of a benchmark again; it reuses environments and sandboxes.

    Attributes:
        plan: (index of the run, question, seed) of every selected episode.
        problems: what could not be recorded, one sentence each.
        note_ranges: ranges of the notes, by agent.
    """

    def __init__(self, results: Results, sources: Sources, count: int) -> None:
        self.problems: list[str] = []
        self.note_ranges: dict[str, NoteRanges] = {}
        self._results = results
        self._stores, self._agents = sources.stores, sources.agents
        self._configs: dict[str, EpisodeConfig] = {
            agent.name: replace(results.config, billing=agent.billing)  # type: ignore[arg-type]
            for agent in results.agents
        }
        self._recorders: dict[tuple[str, EpisodeConfig], EpisodeRecorder] = {}
        self._sandboxes: dict[tuple[str, str], Sandbox] = {}
        self._selected = {
            env: select_episodes([run for run in results.runs if run.env == env], count)
            for env in self._stores
            if any(run.env == env for run in results.runs)
        }
        self.plan = list(self._rounds())

    def _rounds(self) -> Iterator[tuple[int, int, int]]:
        """Yield (run, question, seed): the first selection of every row, then the second, ..."""
        for k in range(max(map(len, self._selected.values()), default=0)):
            for number, run in enumerate(self._results.runs):
                pairs = self._selected.get(run.env, [])
                if k < len(pairs) and run.agent in self._agents:
                    yield number, *pairs[k]

    def texts(self) -> dict[str, dict[int, str]]:
        """Return the texts of the selected questions, by environment and question."""
        return {
            env: {
                question: self._stores[env].tables.texts[question][:_TEXT_LENGTH]
                for question in sorted({question for question, _ in pairs})
            }
            for env, pairs in self._selected.items()
        }

    def play(self, number: int, question: int, seed: int) -> Recording | None:
        """Play one episode; if it differs from the results, return None and add a problem."""
        run = self._results.runs[number]
        row = f"{run.agent}{'' if run.beta is None else f' at β={run.beta:g}'} on {run.env}"
        label = f"{row}, question {question}, seed {seed}"
        if (seed, question) in run.failures:
            # Playing it again might not terminate.
            self.problems.append(f"{label}: failed in the benchmark")
            return None
        (k,) = np.flatnonzero(
            (run.episodes["seed"] == seed) & (run.episodes["question"] == question)
        )
        expected = {name: column[k] for name, column in run.episodes.items()}
        recorder = self._recorder(run.env, self._configs[run.agent])
        recorder.action_limit = int(expected["actions"])
        count = int(self._stores[run.env].tables.branch_counts[question])
        order = branch_order(self._results.order, seed, question, count)[: recorder.width]
        options = {"question": question, "branch_order": order, "beta": run.beta or 0.0}
        episode = Episode(recorder, recorder.reset(options=options)[0])
        try:
            agent = self._agents[run.agent]
            if isinstance(agent, UntrustedAgent):
                info = self._play_sandboxed(agent, run, question, order, recorder)
            else:
                agent(episode, run.beta or 0.0)
                info = episode.info
            same = info["tokens"] == expected["tokens"] and info["answer"] == expected["answer"]
        except (Exception, SystemExit):  # an agent may raise anything
            same = False
        if not same:
            self.problems.append(f"{label}: differs from the benchmark when played again")
            return None
        self.note_ranges.setdefault(run.agent, NoteRanges()).add(episode.notes)
        return Recording(
            number,
            question,
            seed,
            bool(info["correct"]),
            info["answer"],
            int(info["tokens"]),
            int(info["sequential_tokens"]),
            pack(recorder, episode.notes, info["gold"]),
        )

    def _play_sandboxed(
        self,
        agent: UntrustedAgent,
        run: Run,
        question: int,
        order: NDArray[np.int64],
        recorder: EpisodeRecorder,
    ) -> dict[str, Any]:
        """Play an episode in a sandbox, and repeat its actions; notes are not available."""
        key = run.agent, run.env
        if key not in self._sandboxes:
            config = self._configs[run.agent]
            self._sandboxes[key] = Sandbox(
                agent, self._stores[run.env], config, parallel_episodes=1
            )
        sandbox = self._sandboxes[key]
        sandbox.play(np.array([question]), order[None], run.beta or 0.0)
        info: dict[str, Any] = {}
        for action in sandbox.logs[0].tolist():
            info = recorder.step(action)[4]
        return info

    def close(self) -> None:
        """Close the sandboxes."""
        for sandbox in self._sandboxes.values():
            sandbox.close()

    def _recorder(self, env: str, config: EpisodeConfig) -> EpisodeRecorder:
        if (env, config) not in self._recorders:
            self._recorders[env, config] = EpisodeRecorder(
                AutoTTSEnv(
                    self._stores[env],
                    observation="compact",
                    info_strings=True,
                    **asdict(config),
                )
            )
        return self._recorders[env, config]
