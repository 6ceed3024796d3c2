"""Tests of the on-disk cache of compiled code: reuse, invalidation and damaged files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from autotts_gym.controllers.agent import Agent
from autotts_gym.mdp import jit
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.rollout.rollout import Rollout
from autotts_gym.traces.store import Branch, Question, TraceStore

STORE = TraceStore.from_branches([Question("?", "7", [Branch(["7"], 700, "7")] * 6)], 500)

# A controller that opens WIDTH branches; it is small so that it compiles quickly.
TEXT = """
WIDTH = 3

def solve(episode):
    for _ in range(WIDTH):
        episode.branch()
    episode.answer()
"""

# Runs a controller in a separate process; prints the execution path and the number of branches.
SCRIPT = """
import sys
from pathlib import Path
import numpy as np
sys.path.insert(0, {here!r})
from test_jit import run_agent
from autotts_gym.controllers.loader import load
print(*run_agent(load(sys.argv[1])))
"""


def run_agent(agent: Agent) -> tuple[str, int]:
    """Play two episodes; returns the execution path and the number of actions before the answer."""
    rollout = Rollout(agent, STORE, EpisodeConfig(6))
    results = rollout.play(np.zeros(2, np.int64), np.array([np.arange(6)] * 2), 0.0)
    return rollout.path, int(results.actions[1]) - 1


def start_process(agent: Agent, cache: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(here=str(Path(__file__).parent)), str(agent.path)],
        env={**os.environ, "AUTOTTS_CACHE": str(cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def read_output(process: subprocess.Popen[str]) -> tuple[str, int]:
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
    assert stderr == ""
    path, width = stdout.split()
    return path, int(width)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder for compiled code."""
    monkeypatch.setenv("AUTOTTS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def cached_files(cache: Path) -> dict[Path, tuple[int, bytes]]:
    """Cached files with modification time and content; a changed time means a recompilation."""
    paths = (path for path in cache.rglob("*") if path.is_file())
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in paths}


@pytest.fixture(scope="module")
def compiled_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder that contains the compiled TEXT; tests copy it."""
    folder = tmp_path_factory.mktemp("compiled")
    (folder / "agent.py").write_text(TEXT, "utf-8")
    from autotts_gym.controllers.loader import load

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTOTTS_CACHE", str(folder / "cache"))
        assert run_agent(load(str(folder / "agent.py"))) == ("compiled", 3)
    return folder / "cache"


# --- reuse ---------------------------------------------------------------------------------------


def test_another_process_reuses_compiled_code(
    compiled_cache: Path, cache: Path, controller: Callable[..., Agent]
) -> None:
    shutil.copytree(compiled_cache, cache)
    before = cached_files(cache)
    assert len(before) == 1
    assert read_output(start_process(controller(TEXT), cache)) == ("compiled", 3)
    assert cached_files(cache) == before


def test_same_source_under_another_name_is_reused(
    compiled_cache: Path, cache: Path, controller: Callable[..., Agent]
) -> None:
    shutil.copytree(compiled_cache, cache)
    before = cached_files(cache)
    assert run_agent(controller(TEXT, "another_name")) == ("compiled", 3)
    assert cached_files(cache) == before


@pytest.mark.slow
def test_concurrent_processes_share_one_file(cache: Path, controller: Callable[..., Agent]) -> None:
    agent = controller(TEXT)
    processes = [start_process(agent, cache) for _ in range(2)]
    assert [read_output(process) for process in processes] == [("compiled", 3)] * 2
    assert len(cached_files(cache)) == 1  # no temporary files are left


# --- invalidation --------------------------------------------------------------------------------


def test_edited_controller_is_recompiled(
    compiled_cache: Path, cache: Path, controller: Callable[..., Agent]
) -> None:
    shutil.copytree(compiled_cache, cache)
    assert run_agent(controller(TEXT.replace("3", "5"))) == ("compiled", 5)
    assert len(cached_files(cache)) == 2
    assert run_agent(controller(TEXT)) == ("compiled", 3)
    assert len(cached_files(cache)) == 2


def test_edited_library_source_is_recompiled(
    compiled_cache: Path,
    cache: Path,
    controller: Callable[..., Agent],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(compiled_cache, cache)
    monkeypatch.setattr(jit, "sources_key", lambda: "edited")
    assert run_agent(controller(TEXT)) == ("compiled", 3)
    assert len(cached_files(cache)) == 2


def test_sources_key_covers_every_source_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "autotts_gym"
    for folder in ("mdp", "controllers", "sandbox"):
        shutil.copytree(Path(jit.__file__).parents[1] / folder, package / folder)
    monkeypatch.setattr(jit, "__file__", str(package / "mdp" / "jit.py"))
    sources_key = jit.sources_key.__wrapped__
    keys = {sources_key()}
    assert keys == {jit.sources_key()}
    for file in ("mdp/rules.py", "mdp/state.py", "sandbox/event_loop.py", "controllers/new.py"):
        with (package / file).open("a") as source:
            source.write("# edited\n")
        assert sources_key() not in keys
        keys.add(sources_key())


@pytest.mark.slow
def test_code_with_array_addresses_is_not_cached(
    cache: Path, controller: Callable[..., Agent]
) -> None:
    """Machine code refers to large and strided arrays by address, which crashes elsewhere."""
    agent = controller(
        "import numpy as np\n"
        "LARGE = np.arange(200_000)\n"
        "THIN = np.arange(20)[::2]\n"
        "def solve(episode):\n"
        "    for i in range(LARGE[episode.max_branches - 5] + THIN[episode.max_branches - 4]):\n"
        "        episode.branch()\n"
        "    episode.answer()\n"
    )
    assert run_agent(agent) == ("compiled", 5)
    assert cached_files(cache) == {}
    assert read_output(start_process(agent, cache)) == ("compiled", 5)


# --- damaged files -------------------------------------------------------------------------------


def truncate(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flip_bit(content: bytes) -> bytes:
    """Flip one bit in the machine code; the file still loads and runs without a checksum."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 16]) + content[middle + 1 :]


@pytest.mark.slow
@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        flip_bit,
        lambda content: b"",
        lambda content: b"x" * 100,
        lambda content: content + b"!",
    ],
    ids=["truncated", "bit flip", "empty", "garbage", "extended"],
)
def test_damaged_file_is_recompiled(
    damage: Callable[[bytes], bytes],
    compiled_cache: Path,
    cache: Path,
    controller: Callable[..., Agent],
) -> None:
    shutil.copytree(compiled_cache, cache)
    ((path, (_, original)),) = cached_files(cache).items()
    damaged = damage(original)
    path.write_bytes(damaged)
    assert run_agent(controller(TEXT)) == ("compiled", 3)
    ((new_path, (_, repaired)),) = cached_files(cache).items()
    assert new_path == path
    assert repaired != damaged
    before = cached_files(cache)
    assert run_agent(controller(TEXT)) == ("compiled", 3)
    assert cached_files(cache) == before


@pytest.mark.slow
@pytest.mark.parametrize("case", ["path is a file", "parent is a file", "disk full"])
def test_unwritable_cache(
    case: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    controller: Callable[..., Agent],
) -> None:
    """Each process then compiles in memory and writes no file."""
    (tmp_path / "file").write_text("", "utf-8")
    folder = {"path is a file": "file", "parent is a file": "file/cache", "disk full": "full"}[case]
    monkeypatch.setenv("AUTOTTS_CACHE", str(tmp_path / folder))
    if case == "disk full":

        def raise_disk_full(*paths: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(jit.os, "replace", raise_disk_full)
    assert run_agent(controller(TEXT)) == ("compiled", 3)
    assert cached_files(tmp_path / "full") == {}
    assert (tmp_path / "file").read_bytes() == b""
