"""Shared fixtures; makes the helper modules in ``tests/`` importable."""

from __future__ import annotations

import math
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from autotts_gym.collection.asked_question import AskedQuestion
    from autotts_gym.controllers.agent import Agent

sys.path.insert(0, str(Path(__file__).parent))
os.environ["MPLBACKEND"] = "Agg"  # tests open no windows

# No limits on wall time: they fail on a busy machine.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List what was left out, and why: skipped and deselected tests are easily overlooked."""
    reasons: Counter[str] = Counter()
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        reasons[" ".join(str(reason).removeprefix("Skipped: ").split())] += 1
    if deselected := len(terminalreporter.stats.get("deselected", [])):
        reasons["deselected by -m or -k"] = deselected
    if reasons:
        terminalreporter.section("tests that were left out")
    for reason, count in reasons.most_common():
        terminalreporter.line(f"{count}: {reason}")


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    """Close the figures that a test leaves open: pyplot keeps them for the next test."""
    yield
    if (pyplot := sys.modules.get("matplotlib.pyplot")) is not None:
        pyplot.close("all")


@pytest.fixture
def left_threads() -> Callable[[], list[str]]:
    """Returns a function that returns the names of the threads that a test has started and left."""
    before = set(threading.enumerate())
    return lambda: [t.name for t in threading.enumerate() if t not in before]


@pytest.fixture(scope="session")
def two_stores(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Paths of two small stores: a deep one, and a shallow one with all optional columns."""
    from autotts_gym.traces.store import TraceStore
    from autotts_gym.traces.synthetic_traces import generate

    deep = generate(questions=3, branches=6, seed=1, interval=2000)
    shallow = generate(questions=4, branches=5, seed=2, interval=8000)
    count = shallow.card.probes
    interval_tokens = shallow.tables.tokens_per_interval(8000)
    tables = replace(
        shallow.tables,
        confidence_sums=(interval_tokens * np.linspace(5, 20, len(interval_tokens))).astype("f4"),
        confidence_tokens=interval_tokens.astype(np.int32),
        confidences=np.linspace(0, 1, count, dtype=np.float32),
        probe_tokens=np.arange(count, dtype=np.int32) % 50,
    )
    folder = tmp_path_factory.mktemp("stores")
    deep.save(folder / "deep")
    TraceStore.from_tables(tables, 8000).save(folder / "shallow")
    return [(folder / name).as_posix() for name in ("deep", "shallow")]


@pytest.fixture
def controller(tmp_path: Path) -> Callable[..., Agent]:
    """Returns a function that writes a controller to a file and loads it."""
    from autotts_gym.controllers.loader import load

    def write(text: str, name: str = "agent") -> Agent:
        path = tmp_path / f"{name}.py"
        path.write_text(text, "utf-8")
        return load(str(path))

    return write


class CommandResult(NamedTuple):
    """Exit code and output of a command."""

    code: int
    out: str
    err: str


@pytest.fixture
def autotts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., CommandResult]:
    """Returns a function that runs ``autotts`` in an empty folder, without user environments."""
    from autotts_gym.cli import main

    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.delenv("AUTOTTS_ENVS", raising=False)
    # Lines of progress depend on how busy the machine is.
    monkeypatch.setattr("autotts_gym.cli.console.PROGRESS_INTERVAL", math.inf)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def run(*arguments: object) -> CommandResult:
        with pytest.raises(SystemExit) as exit_info:
            main([str(argument) for argument in arguments])
        code = exit_info.value.code
        return CommandResult(
            code if isinstance(code, int) else int(code is not None), *capsys.readouterr()
        )

    return run


@pytest.fixture
def user_envs(tmp_path: Path) -> Path:
    """The folder of the user's environments, for ``autotts``."""
    return tmp_path / "data" / "autotts_gym" / "envs"


@pytest.fixture(scope="session")
def vllm_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of a vLLM server that serves the medium tiny model."""
    from autotts_gym.inference.vllm_server import serve
    from autotts_gym.tinylm import model_path
    from autotts_gym.tinylm.bundled_envs import SERVER_ARGUMENTS, set_cpu_defaults

    set_cpu_defaults()
    log = tmp_path_factory.mktemp("vllm") / "server.log"
    name = "tinylm-medium"
    with serve(model_path("medium"), log=log, served_model_name=name, **SERVER_ARGUMENTS) as url:
        yield url


@pytest.fixture(scope="session")
def chain() -> list[AskedQuestion]:
    """The questions of the tiny models' search set."""
    from autotts_gym.tinylm.bundled_envs import SEARCH_SET, collection_questions

    return collection_questions(SEARCH_SET)
