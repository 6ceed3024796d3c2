"""``autotts report``: a benchmark's results as one HTML file that needs nothing else.

The page's own text, style and script lie beside this file (``template.html``, ``report.css``,
``report.js``); plotly.js is put in from the plotly package, and what was measured as one JSON
object. The page asks for nothing from anywhere: its content security policy forbids it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

from autotts_gym.evaluation.analysis import Analysis
from autotts_gym.evaluation.results import Results
from autotts_gym.report.page_data import page_data
from autotts_gym.report.recordings import record
from autotts_gym.report.schedules import Schedule, schedule_of
from autotts_gym.report.sources import Sources
from autotts_gym.utils.files import write_text

#: Bytes that the episodes may add to a page.
LIMIT: Final = 2 << 20


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        size: bytes.
        episodes: that can be watched on the page, and ``wanted``, those that were chosen.
        problems: what is missing on the page, a sentence each.
    """

    path: Path
    size: int
    episodes: int
    wanted: int
    problems: list[str]


def write_report(
    folder: Path,
    out: Path,
    *,
    episodes: int = 12,
    limit: int = LIMIT,
    progress: Callable[[str, int, int], None] = lambda label, done, total: None,
) -> Written:
    """Write a page of a folder of results; a file that is there is replaced at once.

    Some episodes are played once more for it, which runs the agents' files: see
    :mod:`autotts_gym.report.recordings`.

    Args:
        folder: of a benchmark, see :mod:`autotts_gym.evaluation.results`.
        episodes: how many to show of every row and environment; 0 shows none.
        limit: bytes that they may take together.
        progress: called with a label, and with how many episodes of how many are done.

    Raises:
        ValueError: the folder holds no results, or no complete row, or rows that cannot be
            compared.
    """
    if episodes < 0:
        raise ValueError(f"episodes must be at least 0, got {episodes}")
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}: `autotts benchmark --out` writes one")
    results = Results.load(folder)
    if not results.runs:
        raise ValueError(f"{folder}: there is nothing to report: no row of it is complete")
    analysis = Analysis.from_results(results)
    sources = Sources.of(results)
    recordings = record(results, sources, episodes, limit=limit, progress=progress)
    schedules, failed = _schedules(results, sources)
    problems = [*sources.problems, *recordings.problems, *failed]
    data = page_data(results, sources, analysis, recordings, schedules, problems)
    text = page(data)
    write_text(out, text)
    return Written(out, out.stat().st_size, len(recordings.episodes), recordings.wanted, problems)


def page(data: dict[str, Any]) -> str:
    """The page that shows what :func:`~autotts_gym.report.page_data.page_data` made."""
    from plotly.offline import get_plotlyjs

    files = resources.files(__name__)
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    parts = {
        "css": (files / "report.css").read_text("utf-8"),
        "plotly": get_plotlyjs(),
        # Nothing in it can end the element that it stands in, nor begin a comment.
        "data": text.replace("<", "\\u003c"),
        "js": (files / "report.js").read_text("utf-8"),
    }
    template = (files / "template.html").read_text("utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], template)


def _schedules(results: Results, sources: Sources) -> tuple[dict[str, Schedule], list[str]]:
    """The schedules of agents that took part and have one, and why others fail."""
    schedules, problems = {}, []
    for name in dict.fromkeys(run.agent for run in results.runs if run.beta is not None):
        if name not in sources.agents:
            continue
        try:
            found = schedule_of(sources.agents[name])
        except ValueError as problem:
            problems.append(f"{problem}: it is left out")
        else:
            if found:
                schedules[name] = found
    return schedules, problems
