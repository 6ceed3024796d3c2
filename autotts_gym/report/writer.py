"""``write_report``: the results of a benchmark as one HTML file."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from autotts_gym.evaluation.analysis import Analysis
from autotts_gym.evaluation.results import Results
from autotts_gym.report.html_page import render_page
from autotts_gym.report.page_data import page_data
from autotts_gym.report.recordings import record_episodes
from autotts_gym.report.schedules import Schedule, schedule_of
from autotts_gym.report.sources import Sources
from autotts_gym.utils.files import write_text

#: Default limit of the size of all episodes on a page, bytes.
EPISODE_BYTES: Final = 2 << 20


@dataclass(frozen=True)
class WrittenReport:
    """A report that was written.

    Attributes:
        path: the HTML file.
        size: of the file, bytes.
        episodes: number of episodes on the page.
        wanted: number of episodes that were selected for it.
        problems: what is missing on the page, one sentence each.
    """

    path: Path
    size: int
    episodes: int
    wanted: int
    problems: list[str]


def write_report(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    episodes: int = 12,
    limit: int = EPISODE_BYTES,
    trusted: bool | None = None,
    weaker_sandbox: bool = False,
    progress: Callable[[str, int, int], None] = lambda label, done, total: None,
) -> WrittenReport:
    """Write the results of a benchmark as an HTML page; an existing file is replaced atomically.

    Some episodes are played again: see :mod:`autotts_gym.report.recordings`. A program runs only if
    it is the very one that was played, and in a sandbox unless it is trusted.

    Args:
        folder: output folder of a benchmark, see :mod:`autotts_gym.evaluation.results`.
        out: the HTML file.
        episodes: number of episodes for each row and environment; 0 for none.
        limit: size limit of all episodes together, bytes.
        trusted: whether programs run outside a sandbox; see
            :meth:`autotts_gym.report.sources.Sources.of`.
        weaker_sandbox: run the others even if the sandbox of this machine lacks a protection;
            otherwise, they are not played again there.
        progress: called with a label, the number of played episodes, and the number of all.

    Raises:
        ValueError: the folder contains no results, no complete row, or rows that cannot be
            compared.
    """
    folder, out = Path(folder), Path(out)
    if episodes < 0:
        raise ValueError(f"episodes must be at least 0, got {episodes}")
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}; autotts benchmark --out creates it")
    results = Results.load(folder)
    if not results.runs:
        raise ValueError(f"{folder}: nothing to report, because no row is complete")
    analysis = Analysis.from_results(results)
    sources = Sources.of(results, trusted, weaker_sandbox=weaker_sandbox)
    recordings = record_episodes(results, sources, episodes, limit=limit, progress=progress)
    schedules, failed = _schedules(results, sources)
    problems = [*sources.problems, *recordings.problems, *failed]
    data = page_data(results, sources, analysis, recordings, schedules, problems)
    write_text(out, render_page(data))
    return WrittenReport(
        out, out.stat().st_size, len(recordings.episodes), recordings.wanted, problems
    )


def _schedules(results: Results, sources: Sources) -> tuple[dict[str, Schedule], list[str]]:
    """Return the schedules of the agents, and the errors of schedules that fail."""
    schedules, problems = {}, []
    for name in dict.fromkeys(run.agent for run in results.runs if run.beta is not None):
        if name not in sources.agents:
            continue
        try:
            schedule = schedule_of(sources.agents[name])
        except ValueError as problem:
            problems.append(f"{problem}: it is omitted")
        else:
            if schedule:
                schedules[name] = schedule
    return schedules, problems
