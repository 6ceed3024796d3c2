"""Which results folders are accepted, and with which first fault the others are refused."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autotts_gym.evaluation.results import Results
from autotts_gym.leaderboard import Leaderboard, build_leaderboard
from autotts_gym.sandbox import seccomp
from autotts_gym.sandbox.untrusted_agent import UntrustedAgent

COSTS = ("tokens", "sequential_tokens", "actions", "probes", "settled_tokens")

Forge = Callable[..., Path]


def refusal(folder: Path, sample: int | None = None) -> str:
    """The reason why a folder is refused."""
    (reason,) = build_leaderboard([folder], sample=sample, sample_seed=0).refused.values()
    return reason


def copied(home: Path, tmp_path: Path, name: str) -> Path:
    return Path(shutil.copytree(home / "results" / name, tmp_path / "forged"))


def with_manifest(folder: Path, change: Callable[[Any], Any]) -> Path:
    """Change the ``benchmark.json`` of a folder."""
    manifest = json.loads((folder / "benchmark.json").read_text("utf-8"))
    change(manifest)
    (folder / "benchmark.json").write_text(json.dumps(manifest), "utf-8")
    return folder


@pytest.fixture(scope="module")
def accepted(home: Path) -> Leaderboard:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTOTTS_ENVS", str(home / "envs"))
        return build_leaderboard([home / "results"], sample=4, sample_seed=1)


def test_true_results_are_accepted(accepted: Leaderboard) -> None:
    assert accepted.refused == {}
    bundled, foreign = accepted.entries
    assert (bundled.entry.name, bundled.episodes, bundled.replayed) == ("bundled", 135, 36)
    assert (foreign.entry.name, foreign.episodes, foreign.replayed) == ("foreign", 60, 16)


def test_controllers_that_come_with_a_folder_are_played_in_the_sandbox(
    accepted: Leaderboard,
) -> None:
    bundled, foreign = accepted.entries
    assert not any(agent.is_untrusted for agent in bundled.sources.agents.values())
    (agent,) = foreign.sources.agents.values()
    assert isinstance(agent, UntrustedAgent)


def test_a_program_that_this_user_has_trusted_is_played_in_the_sandbox_too(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autotts_gym.report.sources.is_trusted", lambda digest: True)
    (entry,) = build_leaderboard([home / "results/foreign"], sample=1).entries
    assert entry.sources.agents["three_branches"].is_untrusted


def test_a_sandbox_that_lacks_a_protection_refuses_foreign_controllers(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seccomp, "is_available", lambda: False)
    board = build_leaderboard([home / "results"], sample=1)
    assert [entry.entry.name for entry in board.entries] == ["bundled"]
    assert "lacks seccomp" in board.refused["foreign"]


@pytest.mark.parametrize(
    ("column", "step"),
    [
        ("tokens", 1),
        ("sequential_tokens", -1),
        ("actions", 1),
        ("probes", -1),
        ("settled_tokens", 1),
    ],
)
def test_a_changed_cost_is_refused_with_the_first_difference(
    forge: Forge, home: Path, column: str, step: int
) -> None:
    true = int(Results.load(home / "results/bundled").runs[0].episodes[column][7])
    reason = refusal(forge(column, lambda value: value + step))
    start = f"self_consistency on group/a, question 2, seed 1: {column} recorded {true + step} (by"
    assert reason.startswith(start), reason
    assert reason.endswith(f"replayed {true}"), reason


def test_a_changed_answer_is_refused_by_its_correctness(forge: Forge, home: Path) -> None:
    run = Results.load(home / "results/bundled").runs[0]
    k = int(np.flatnonzero(run.episodes["correct"])[0])
    reason = refusal(forge("answer", lambda answer: f"{answer}1", k), sample=1)
    assert "correct recorded True, must be False, because the answer is" in reason


def test_an_answer_changed_to_another_wrong_one_is_refused_by_its_replay(
    forge: Forge, home: Path
) -> None:
    run = Results.load(home / "results/bundled").runs[0]
    k = int(np.flatnonzero(~np.asarray(run.episodes["correct"]))[0])
    reason = refusal(forge("answer", lambda answer: "wrong", k))
    assert "answer recorded 'wrong' (by autotts_gym" in reason
    assert reason.endswith(f"replayed {run.episodes['answer'][k]!r}")


def test_changed_correctness_is_refused_without_a_replay(forge: Forge) -> None:
    reason = refusal(forge("correct", lambda correct: not correct, 3), sample=1)
    assert re.search(r"question 3, seed 0: correct recorded \w+, must be \w+, because", reason)


def test_a_cost_that_cannot_be_is_refused_without_a_replay(forge: Forge) -> None:
    reason = refusal(forge("tokens", lambda tokens: 1), sample=1)
    assert re.search(r"sequential_tokens recorded \d+, must be at most 1 tokens", reason)


def test_an_episode_of_another_question_is_refused(forge: Forge) -> None:
    reason = refusal(forge("question", lambda question: 0), sample=1)
    assert "question 2, seed 1 is missing" in reason


@pytest.mark.parametrize(
    ("entry", "value"),
    [("fingerprint", "0" * 64), ("split", "search"), ("benchmark", "1" * 64), ("questions", 4)],
)
def test_another_environment_is_refused(home: Path, tmp_path: Path, entry: str, value: Any) -> None:
    folder = with_manifest(
        copied(home, tmp_path, "bundled"),
        lambda manifest: manifest["environments"][1].update({entry: value}),
    )
    reason = refusal(folder)
    assert re.search(rf"group/b: {entry} recorded '?{value}'?, here", reason), reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"seeds": [0, 1, 2, 3]}, "question 0, seed 3 is missing"),
        ({"seeds": [0, 1]}, "15 episodes recorded, 10 expected"),
        ({"order": "published"}, "replayed"),
    ],
)
def test_other_seeds_and_orders_are_refused(
    home: Path, tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    folder = copied(home, tmp_path, "bundled")
    assert reason in refusal(with_manifest(folder, lambda manifest: manifest.update(change)))


@pytest.mark.parametrize(
    ("terms", "reason"),
    [
        ({"max_branches": 10**9}, "max_branches"),
        ({"max_branches": 6}, "replayed"),
        ({"budget": 5000}, "replayed"),
        ({"budget": -1}, "budget"),
    ],
)
def test_other_configurations_are_refused(
    home: Path, tmp_path: Path, terms: dict[str, int], reason: str
) -> None:
    folder = copied(home, tmp_path, "bundled")
    with_manifest(folder, lambda manifest: manifest["terms"].update(terms))
    assert reason in refusal(folder)


def test_an_answered_episode_that_is_declared_as_failed_is_refused(
    home: Path, tmp_path: Path
) -> None:
    failure = {"agent": "cmc", "beta": 0.5, "env": "other", "seed": 0, "question": 1}
    folder = copied(home, tmp_path, "bundled")
    with_manifest(folder, lambda it: it["failures"].append({**failure, "message": "x"}))
    assert "cmc β=0.5 on other, question 1, seed 0: answer recorded" in refusal(folder)


def test_a_digest_of_another_program_is_refused(home: Path, tmp_path: Path) -> None:
    folder = copied(home, tmp_path, "bundled")
    with_manifest(folder, lambda manifest: manifest["agents"][1].update(digest="0" * 64))
    assert "cmc differs from the program in the benchmark" in refusal(folder)


@pytest.mark.parametrize("file", ["benchmark.json", "episodes.parquet"])
@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"x")])
def test_missing_and_damaged_files_are_refused(
    home: Path, tmp_path: Path, file: str, damage: Callable[[Path], Any]
) -> None:
    folder = copied(home, tmp_path, "bundled")
    damage(folder / file)
    reason = refusal(folder)
    assert "cannot be read" in reason or "contains no benchmark results" in reason


def test_a_missing_controller_is_refused(home: Path, tmp_path: Path) -> None:
    folder = copied(home, tmp_path, "foreign")
    shutil.rmtree(folder / "controllers")
    assert "must be bundled, or a file in the subfolder controllers" in refusal(folder)


def test_a_changed_controller_is_refused_without_running(home: Path, tmp_path: Path) -> None:
    folder = copied(home, tmp_path, "foreign")
    program, marker = folder / "controllers/three_branches.py", tmp_path / "ran"
    program.write_text(f"open({str(marker)!r}, 'w')\n" + program.read_text("utf-8"), "utf-8")
    assert "differs from the program" in refusal(folder)
    assert not marker.exists()


def test_episodes_of_a_controller_that_does_not_answer_are_refused(
    home: Path, tmp_path: Path
) -> None:
    folder = copied(home, tmp_path, "foreign")
    program = folder / "controllers/three_branches.py"
    program.write_text("def solve(episode, beta):\n    pass\n", "utf-8")
    digest = hashlib.sha256(program.read_bytes()).hexdigest()
    with_manifest(folder, lambda manifest: manifest["agents"][0].update(digest=digest))
    assert "outcome recorded 'answered'" in refusal(folder)


def test_a_dispute_is_settled_by_a_replay(forge: Forge, home: Path) -> None:
    """A sample of one would probably miss the changed episode; the true folder shows it."""
    forged = forge("tokens", lambda tokens: tokens + 1)
    for places in ([forged, home / "results"], [home / "results", forged]):
        board = build_leaderboard(places, sample=1, sample_seed=0)
        assert list(board.refused) == ["forged"]
        assert "question 2, seed 1: tokens recorded" in board.refused["forged"]


@pytest.mark.slow
@given(
    run=st.integers(0, 8),
    k=st.integers(0, 14),
    column=st.sampled_from(["answer", "correct", *COSTS]),
    step=st.integers(1, 10_000),
)
@settings(max_examples=30, deadline=None)
def test_no_changed_value_is_accepted(home: Path, run: int, k: int, column: str, step: int) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = copied(home, Path(place), "bundled")
        results = Results.load(folder)
        values = list(results.runs[run].episodes[column])
        if column == "answer":
            values[k] = f"{values[k]}{step}"
        else:
            values[k] = not values[k] if column == "correct" else values[k] + step
        results.runs[run].episodes[column] = values
        results.save(folder)
        reason = refusal(folder)
    changed = results.runs[run]
    assert reason.startswith(f"{changed.agent}{'' if changed.beta is None else ' β='}")
    assert f"on {changed.env}, question {k % 5}, seed {k // 5}: " in reason


@pytest.mark.parametrize("sample", [0, -1])
def test_a_sample_must_be_positive(home: Path, sample: int) -> None:
    with pytest.raises(ValueError, match="sample must be at least 1"):
        build_leaderboard([home / "results"], sample=sample)


def test_places_without_results(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="contains no benchmark results"):
        build_leaderboard([tmp_path])
    with pytest.raises(ValueError, match="there is no folder"):
        build_leaderboard([tmp_path / "none"])
