"""``build_leaderboard``: read results folders, and refuse those that do not replay."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from autotts_gym.evaluation.results import Results
from autotts_gym.evaluation.runs import Run
from autotts_gym.leaderboard.consistency import (
    check_environment,
    check_episodes,
    first_difference,
    row_name,
)
from autotts_gym.leaderboard.entries import Entry, RefusalError, find_folders
from autotts_gym.leaderboard.replay import COMPARED, episode_config, replay
from autotts_gym.report.sources import Sources
from autotts_gym.traces import registry
from autotts_gym.traces.store import TraceError

#: Default number of episodes of every row and environment that are played again.
SAMPLE: Final = 20


@dataclass(frozen=True)
class VerifiedEntry:
    """A results folder whose episodes are consistent, and whose sample was replayed.

    Attributes:
        entry: the folder.
        sources: its stores and controllers.
        replayed: number of episodes that were played again.
    """

    entry: Entry
    sources: Sources
    replayed: int

    @property
    def episodes(self) -> int:
        """Number of its episodes."""
        return sum(len(run.episodes["seed"]) for run in self.entry.results.runs)


@dataclass(frozen=True)
class Leaderboard:
    """Verified results, and why others were refused.

    Attributes:
        entries: the verified folders, in order.
        refused: the first fault of every other folder, by its name.
        sample: number of episodes of every row that were replayed at most; None for all.
        sample_seed: random seed of their choice.
    """

    entries: list[VerifiedEntry]
    refused: dict[str, str]
    sample: int | None
    sample_seed: int


def build_leaderboard(
    places: Iterable[str | os.PathLike[str]],
    *,
    sample: int | None = SAMPLE,
    sample_seed: int | None = None,
    weaker_sandbox: bool = False,
    progress: Callable[[str, int, int], None] = lambda label, done, total: None,
) -> Leaderboard:
    """Read and verify results folders.

    Of every folder, the environments must have the recorded fingerprints, every row must have all
    of its episodes, every episode must be correct exactly if its answer is, and a random sample of
    each row's episodes must end as recorded when it is played again. If two folders record
    different outcomes of one episode, it is played again for both.

    Args:
        places: results folders, and folders that contain some.
        sample: number of episodes of every row and environment that are played again; None for all.
        sample_seed: random seed of the sample; by default an unpredictable one.
        weaker_sandbox: play programs even if the sandbox of this machine lacks a protection;
            otherwise, their folders are refused there.
        progress: called with a label, the number of finished folders, and the number of all.

    Raises:
        ValueError: there are no results in a place, or ``sample`` is below 1.
    """
    if sample is not None and sample < 1:
        raise ValueError(f"sample must be at least 1, got {sample}")
    if sample_seed is None:
        sample_seed = int.from_bytes(os.urandom(4))
    rng = np.random.default_rng(sample_seed)
    folders = find_folders(places)
    refused: dict[str, str] = {}
    consistent: list[tuple[Entry, Sources]] = []
    for name, folder in folders.items():
        try:
            consistent.append(_read(name, folder, weaker_sandbox))
        except RefusalError as error:
            refused[name] = str(error)
    disputed = _disputed([entry for entry, _ in consistent])
    verified: list[VerifiedEntry] = []
    for done, (entry, sources) in enumerate(consistent):
        progress(f"replaying {entry.name}", done, len(consistent))
        chosen = _choose(entry.results.runs, sample, rng, disputed.get(entry.name, {}))
        try:
            replay(entry.results, sources, chosen)
        except RefusalError as error:
            refused[entry.name] = str(error)
        else:
            replayed = sum(map(len, chosen.values()))
            verified.append(VerifiedEntry(entry, sources, replayed))
    progress("", len(consistent), len(consistent))
    return Leaderboard(verified, refused, sample, sample_seed)


def _read(name: str, folder: Path, weaker_sandbox: bool) -> tuple[Entry, Sources]:
    """Read a folder, find what it was played with, and check all that needs no replay.

    Raises:
        RefusalError: it is inconsistent, or an environment or a controller is missing.
    """
    entry = Entry.load(name, folder)
    played = {run.agent for run in entry.results.runs}
    results = replace(
        entry.results,
        agents=[agent for agent in entry.results.agents if agent.name in played],
        environments=[
            env
            for env in entry.results.environments
            if any(run.env == env.name for run in entry.results.runs)
        ],
    )
    sources = Sources.of(results, weaker_sandbox=weaker_sandbox, handed_in=folder)
    for env in results.environments:
        if env.name in sources.missing:
            raise RefusalError(_missing_environment(env.name, env.fingerprint, sources))
        check_environment(env, sources.stores[env.name])
    for agent in results.agents:
        if agent.name in sources.missing:
            raise RefusalError(
                f"{agent.name} {sources.missing[agent.name]}: its program (sha256 "
                f"{agent.digest[:12]}) must be bundled, or a file in the subfolder controllers"
            )
    keys = set()
    for run in results.runs:
        if run.key in keys:
            raise RefusalError(f"{row_name(run)}: recorded twice")
        keys.add(run.key)
        takes_beta = sources.agents[run.agent].takes_beta
        if takes_beta != (run.beta is not None):
            raise RefusalError(f"{row_name(run)}: {'has no' if takes_beta else 'takes no'} β")
        check_episodes(results, run, sources.stores[run.env])
    return replace(entry, results=results), sources


def _missing_environment(name: str, fingerprint: str, sources: Sources) -> str:
    try:
        registry.check_name(name)
        (store,) = registry.open_stores(name).values()
    except (TraceError, OSError, ValueError):
        return f"{name} {sources.missing[name]}"
    return f"{name}: fingerprint recorded {fingerprint!r}, here {store.card.fingerprint!r}"


def _choose(
    runs: list[Run],
    sample: int | None,
    rng: np.random.Generator,
    disputed: dict[int, int],
) -> dict[int, NDArray[np.int64]]:
    """Sample episodes of every run, and add those that another folder disputes; sorted."""
    chosen = {}
    for number, run in enumerate(runs):
        count = len(run.episodes["seed"])
        drawn = rng.permutation(count)[: count if sample is None else sample]
        extra = [disputed[number]] if number in disputed else []
        chosen[number] = np.unique(np.concatenate([drawn, np.array(extra, np.int64)]))
    return chosen


def run_identity(results: Results, run: Run) -> tuple[object, ...]:
    """Everything that the episodes of a run depend on, seeds included."""
    (agent,) = (agent for agent in results.agents if agent.name == run.agent)
    (env,) = (env for env in results.environments if env.name == run.env)
    seeds = tuple(sorted(set(results.seeds)))
    config = episode_config(results, run.agent)
    return agent.digest, run.beta, env.fingerprint, results.order, seeds, config


def _disputed(entries: list[Entry]) -> dict[str, dict[int, int]]:
    """By folder and index of the run: the first episode that another folder records differently."""
    known: dict[tuple[object, ...], list[tuple[str, int, Run]]] = {}
    disputed: dict[str, dict[int, int]] = {}
    for entry in entries:
        for number, run in enumerate(entry.results.runs):
            others = known.setdefault(run_identity(entry.results, run), [])
            for name, other_number, other in others:
                k = first_difference(other, run, tuple(COMPARED))
                if k is not None:
                    disputed.setdefault(name, {})[other_number] = k
                    disputed.setdefault(entry.name, {})[number] = k
            others.append((entry.name, number, run))
    return disputed
