"""Compiled code on disk: found again, never stale, and harmless where it is damaged."""

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

# Opens WIDTH branches; small, to be compiled quickly.
TEXT = """
WIDTH = 3

def solve(episode):
    for _ in range(WIDTH):
        episode.branch()
    episode.answer()
"""

# The same in a process of its own: prints how it played, and how many branches were opened.
SCRIPT = """
import sys
from pathlib import Path
import numpy as np
sys.path.insert(0, {here!r})
from test_jit import opened
from autotts_gym.controllers.loader import load
print(*opened(load(sys.argv[1])))
"""


def opened(agent: Agent) -> tuple[str, int]:
    """How an agent played, and how many actions it took, its answer apart."""
    rollout = Rollout(agent, STORE, EpisodeConfig(6))
    played = rollout.play(np.zeros(2, np.int64), np.array([np.arange(6)] * 2), 0.0)
    return rollout.path, int(played.actions[1]) - 1


def start(agent: Agent, cache: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(here=str(Path(__file__).parent)), str(agent.path)],
        env={**os.environ, "AUTOTTS_CACHE": str(cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[str, int]:
    out, complaints = process.communicate(timeout=300)
    assert process.returncode == 0, complaints
    assert complaints == ""
    path, width = out.split()
    return path, int(width)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty place for compiled code."""
    monkeypatch.setenv("AUTOTTS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def files(cache: Path) -> dict[Path, tuple[int, bytes]]:
    """Everything that is kept, with the time it was written: a new one was compiled."""
    found = (path for path in cache.rglob("*") if path.is_file())
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in found}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place where TEXT has been compiled, to copy from."""
    place = tmp_path_factory.mktemp("kept")
    (place / "agent.py").write_text(TEXT, "utf-8")
    from autotts_gym.controllers.loader import load

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTOTTS_CACHE", str(place / "cache"))
        assert opened(load(str(place / "agent.py"))) == ("compiled", 3)
    return place / "cache"


# --- found again ---------------------------------------------------------------------------------


def test_another_process_compiles_nothing(
    kept: Path, cache: Path, controller: Callable[..., Agent]
) -> None:
    shutil.copytree(kept, cache)
    before = files(cache)
    assert len(before) == 1
    assert finish(start(controller(TEXT), cache)) == ("compiled", 3)
    assert files(cache) == before


def test_the_same_text_elsewhere_is_found(
    kept: Path, cache: Path, controller: Callable[..., Agent]
) -> None:
    shutil.copytree(kept, cache)
    before = files(cache)
    assert opened(controller(TEXT, "another_name")) == ("compiled", 3)
    assert files(cache) == before


def test_processes_side_by_side(cache: Path, controller: Callable[..., Agent]) -> None:
    agent = controller(TEXT)
    side_by_side = [start(agent, cache) for _ in range(2)]
    assert [finish(process) for process in side_by_side] == [("compiled", 3)] * 2
    assert len(files(cache)) == 1  # no temporary files are left


# --- never stale ---------------------------------------------------------------------------------


def test_edited_text_is_compiled_anew(
    kept: Path, cache: Path, controller: Callable[..., Agent]
) -> None:
    shutil.copytree(kept, cache)
    assert opened(controller(TEXT.replace("3", "5"))) == ("compiled", 5)
    assert len(files(cache)) == 2
    assert opened(controller(TEXT)) == ("compiled", 3)
    assert len(files(cache)) == 2


def test_edited_rules_are_compiled_anew(
    kept: Path, cache: Path, controller: Callable[..., Agent], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(kept, cache)
    monkeypatch.setattr(jit, "sources_key", lambda: "edited")
    assert opened(controller(TEXT)) == ("compiled", 3)
    assert len(files(cache)) == 2


def test_the_key_covers_every_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "autotts_gym"
    for folder in ("mdp", "controllers", "sandbox"):
        shutil.copytree(Path(jit.__file__).parents[1] / folder, package / folder)
    monkeypatch.setattr(jit, "__file__", str(package / "mdp" / "compiling.py"))
    key = jit.sources_key.__wrapped__
    seen = {key()}
    assert seen == {jit.sources_key()}
    for file in ("mdp/rules.py", "mdp/state.py", "sandbox/serving.py", "controllers/new.py"):
        with (package / file).open("a") as source:
            source.write("# edited\n")
        assert key() not in seen
        seen.add(key())


def test_addresses_of_a_process_are_not_kept(cache: Path, controller: Callable[..., Agent]) -> None:
    """Large and strided arrays stand in machine code by address: elsewhere, that is a crash."""
    agent = controller(
        "import numpy as np\n"
        "LARGE = np.arange(200_000)\n"
        "THIN = np.arange(20)[::2]\n"
        "def solve(episode):\n"
        "    for i in range(LARGE[episode.max_branches - 5] + THIN[episode.max_branches - 4]):\n"
        "        episode.branch()\n"
        "    episode.answer()\n"
    )
    assert opened(agent) == ("compiled", 5)
    assert files(cache) == {}
    assert finish(start(agent, cache)) == ("compiled", 5)


# --- harmless ------------------------------------------------------------------------------------


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flip(content: bytes) -> bytes:
    """One bit, amid the machine code: it could be loaded, and run."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 16]) + content[middle + 1 :]


@pytest.mark.parametrize(
    "damage",
    [cut, flip, lambda content: b"", lambda content: b"x" * 100, lambda content: content + b"!"],
    ids=["cut", "a bit", "empty", "nonsense", "longer"],
)
def test_damaged_code_is_compiled_anew(
    damage: Callable[[bytes], bytes], kept: Path, cache: Path, controller: Callable[..., Agent]
) -> None:
    shutil.copytree(kept, cache)
    ((path, (_, good)),) = files(cache).items()
    damaged = damage(good)
    path.write_bytes(damaged)
    assert opened(controller(TEXT)) == ("compiled", 3)
    ((again, (_, mended)),) = files(cache).items()
    assert again == path
    assert mended != damaged
    before = files(cache)
    assert opened(controller(TEXT)) == ("compiled", 3)
    assert files(cache) == before


@pytest.mark.parametrize("place", ["a file", "below a file", "no space"])
def test_nowhere_to_write(
    place: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    controller: Callable[..., Agent],
) -> None:
    """Every process then compiles for itself, and leaves nothing."""
    (tmp_path / "file").write_text("", "utf-8")
    folder = {"a file": "file", "below a file": "file/cache", "no space": "full"}[place]
    monkeypatch.setenv("AUTOTTS_CACHE", str(tmp_path / folder))
    if place == "no space":

        def refuse(*paths: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(jit.os, "replace", refuse)
    assert opened(controller(TEXT)) == ("compiled", 3)
    assert files(tmp_path / "full") == {}
    assert (tmp_path / "file").read_bytes() == b""
