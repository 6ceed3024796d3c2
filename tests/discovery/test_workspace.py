"""Workspaces and the texts that they contain."""

from __future__ import annotations

import inspect
import json
import os
from pathlib import Path

import pytest
from proposals import BETTER, HISTORY, SEED, WORSE

from autotts_gym.controllers.episode import Episode
from autotts_gym.discovery import prompts
from autotts_gym.discovery.objective import BETAS
from autotts_gym.discovery.proposal import Candidate, Evaluation, Proposal
from autotts_gym.discovery.source_checks import check
from autotts_gym.discovery.source_rules import MAX_SOURCE_SIZE
from autotts_gym.discovery.workspace import Workspace


def files(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Content and mode of everything below a folder."""
    return {
        path.relative_to(folder).as_posix(): (
            path.read_bytes() if path.is_file() else b"",
            path.stat().st_mode & 0o777,
        )
        for path in sorted(folder.rglob("*"))
    }


def test_written_files(tmp_path: Path) -> None:
    start = Workspace(tmp_path, evaluation="score controller.py").write(HISTORY)
    found = files(tmp_path)
    assert start == BETTER
    assert found["controller.py"] == (BETTER.encode(), 0o644)
    assert found["best.py"] == (BETTER.encode(), 0o444)  # the better one is rejected
    assert found["last.py"][0] == WORSE.encode()
    assert found["seeds/few.py"][0] == SEED.encode()
    assert check(found["template.py"][0].decode()) == ""
    for candidate in HISTORY:
        name = candidate.name
        assert found[f"history/{name}"][1] == 0o555
        assert json.loads(found[f"history/{name}/result.json"][0])["name"] == name
        assert (f"history/{name}/controller.py" in found) == bool(candidate.proposal.source)
    assert all(
        mode in (0o444, 0o555) for path, (_, mode) in found.items() if path[:10] != "controller"
    )
    feedback = found["history/1-1/feedback.md"][0].decode()
    assert "Score: 0.5000" in feedback
    assert "It waits too long." in feedback
    assert "BRANCH\nANSWER" in feedback
    assert "| 0.5 | 0.7000 [0.7000, 0.7000] | 0.3000 [0.3000, 0.3000] |" in feedback
    assert "Rejected: β spans 1.0 times" in found["history/1-2/feedback.md"][0].decode()
    assert "no program: refused: no \\| thanks" in found["results.md"][0].decode()
    assert json.loads(found["history/1-3/result.json"][0])["score"] is None
    assert "run `score controller.py` in this folder" in found["README.md"][0].decode()


def test_empty_history(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "made" / "here", knob=False)
    assert workspace.write([]) == prompts.template(knob=False)
    assert not (workspace.folder / "best.py").exists()
    assert check(workspace.controller.read_text("utf-8"), knob=False) == ""


def test_ablations(tmp_path: Path) -> None:
    Workspace(tmp_path, diagnostics=False, knob=False).write(HISTORY)
    texts = "".join(data.decode() for data, _ in files(tmp_path).values())
    for missing in ("It waits too long", "BRANCH\nANSWER", "action by action", "One knob"):
        assert missing not in texts
    assert "One knob" in prompts.task()
    assert "action by action" in prompts.task()


def test_writing_restores_changed_files(tmp_path: Path) -> None:
    workspace, other = Workspace(tmp_path / "a"), Workspace(tmp_path / "b")
    workspace.write(HISTORY)
    other.write(HISTORY[:2])
    folder = other.folder
    (folder / "best.py").unlink()
    (folder / "last.py").unlink()
    (folder / "last.py").symlink_to(tmp_path / "a" / "README.md")
    (folder / "controller.py").unlink()
    (folder / "controller.py").mkdir()
    os.chmod(folder / "history", 0o755)
    (folder / "history" / "more").mkdir()
    os.chmod(folder / "history" / "0-few", 0o755)
    os.chmod(folder / "history" / "0-few" / "result.json", 0o644)
    (folder / "history" / "0-few" / "result.json").write_text("{}")
    (folder / "history" / "0-few" / "more").symlink_to(tmp_path / "a" / "history")
    (folder / "seeds").rename(folder / "kept")
    (folder / "seeds").symlink_to(tmp_path / "a" / "history")
    other.write(HISTORY)
    found = files(folder)
    kept = {path for path in found if path.startswith("kept")}
    assert kept  # other files of a proposer are kept
    assert {path: data for path, data in found.items() if path not in kept} == files(tmp_path / "a")


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "x" * 200, "a\nb"])
def test_invalid_folder_names(tmp_path: Path, name: str) -> None:
    candidate = Candidate(Proposal(name, SEED, "seed"), Evaluation())
    with pytest.raises(ValueError, match="not a valid folder name"):
        Workspace(tmp_path).write([candidate])


def test_read_program(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    start = workspace.write(HISTORY)
    path = workspace.controller
    assert workspace.read_program(start) == ("", "controller.py is unchanged")
    path.write_text(SEED, "utf-8")
    assert workspace.read_program(start) == (SEED, "")
    path.write_text(" \n", "utf-8")
    assert workspace.read_program(start) == ("", "controller.py is empty")
    path.write_bytes(b"x = '\xff'")
    assert workspace.read_program(start) == (
        "",
        "controller.py is not UTF-8: byte 5: invalid start byte",
    )
    path.write_bytes(b"#" * (MAX_SOURCE_SIZE + 1))
    assert f"the maximum is {MAX_SOURCE_SIZE}" in workspace.read_program(start)[1]
    path.unlink()
    assert workspace.read_program(start) == ("", "controller.py does not exist")
    path.symlink_to(tmp_path / "best.py")
    assert workspace.read_program(start) == ("", "controller.py is not a regular file")
    path.unlink()
    os.mkfifo(path)
    assert workspace.read_program(start) == ("", "controller.py is not a regular file")


def test_every_episode_method_is_described() -> None:
    protocol = prompts.episode_protocol()
    for name, value in inspect.getmembers(Episode):
        if not name.startswith("_") and (inspect.isfunction(value) or isinstance(value, property)):
            assert f"`episode.{name}" in protocol, name
    assert "episode._" not in protocol
    task = prompts.task()
    assert all(f"β = {beta:g}" in task for beta in BETAS)
    assert "`vote(answers: NDArray[np.int64], votes: NDArray[np.int64], slots: int" in task


def test_best_and_latest_candidate() -> None:
    assert prompts.best_candidate([]) is None
    assert prompts.latest_candidate(HISTORY[3:]) is None
    best = prompts.best_candidate(HISTORY[2:])
    assert best is not None  # the only program, although it is rejected
    assert best.proposal.name == "1-2"
