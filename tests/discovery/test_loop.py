"""Runs: the same whatever happens to them, and what comes of them plays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from autotts_gym.controllers.loading import load
from autotts_gym.discovery.breeding import seeds
from autotts_gym.discovery.genetic import Bred, Breeding
from autotts_gym.discovery.loop import Discovery, Plan, RunError, forgotten
from autotts_gym.evaluation.rollout import Rollout
from autotts_gym.mdp.replay import Terms
from autotts_gym.traces.store import TraceStore
from autotts_gym.traces.synthetic import generate

PLAN = Plan(Breeding(islands=2, keep=3, children=2, evaluations=10, seed=3), rounds=2, seeds=1)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TraceStore:
    made = generate(questions=10, branches=64, seed=1)
    return TraceStore.open(str(made.save(tmp_path_factory.mktemp("made") / "store").path))


@pytest.fixture(scope="module")
def whole(store: TraceStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing happened to."""
    folder = tmp_path_factory.mktemp("run")
    discovery = Discovery({"made": store}, PLAN, folder)
    choice = discovery.run()
    discovery.save(choice, "found", "autotts discover")
    return folder


def files(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text("utf-8") for path in sorted(folder.iterdir())}


def test_what_a_run_leaves(whole: Path, store: TraceStore) -> None:
    journal = [json.loads(line) for line in (whole / "journal.jsonl").read_text().splitlines()]
    names = [entry["name"] for entry in journal]
    assert names[:4] == [f"0-{name}" for name in seeds()]
    assert len(names) == len(set(names)) == 4 + 2 * 2 * 2 + 1
    assert all(set(entry["parents"]) <= set(names) for entry in journal)
    assert {entry["how"] for entry in journal} <= {"seed", "mutation", "crossover", "tuning"}
    final = journal[-1]
    assert final["name"].endswith("-final")
    assert not final["fault"]
    best = max(entry["score"] for entry in journal[:4])
    assert final["score"] >= best - 0.01
    finalists = json.loads((whole / "choice.json").read_text())
    assert final["parents"] == [max(finalists, key=lambda f: f["unseen"])["name"]]

    found = Rollout(load(str(whole / "found.py")), store, Terms())
    questions, orders = np.arange(10), np.array([np.arange(64)] * 10)
    tokens = [found.play(questions, orders, beta).tokens.mean() for beta in (0.0, 1.0)]
    assert tokens[0] < tokens[1]


@pytest.mark.parametrize("cut", [1, 5, 9, 12])
def test_goes_on_where_it_was(whole: Path, store: TraceStore, tmp_path: Path, cut: int) -> None:
    """Cut off after some programs, in the midst of a line."""
    lines = (whole / "journal.jsonl").read_text("utf-8").splitlines(keepends=True)
    (tmp_path / "run.json").write_bytes((whole / "run.json").read_bytes())
    (tmp_path / "journal.jsonl").write_text("".join(lines[:cut]) + lines[cut][:40], "utf-8")
    tried: list[Bred] = []
    discovery = Discovery({"made": store}, PLAN, tmp_path)
    assert discovery.tried == cut
    choice = discovery.run(lambda _, bred: tried.append(bred))
    discovery.save(choice, "found", "autotts discover")
    assert len(tried) == discovery.planned == 12
    assert files(tmp_path) == files(whole)


@pytest.mark.slow
def test_survives_being_killed(whole: Path, store: TraceStore, tmp_path: Path) -> None:
    """At any moment, with its processes."""
    script = tmp_path / "run.py"
    folder = tmp_path / "run"
    script.write_text(
        "from autotts_gym.discovery.genetic import Breeding\n"
        "from autotts_gym.discovery.loop import Discovery, Plan\n"
        "from autotts_gym.traces.store import TraceStore\n"
        "if __name__ == '__main__':\n"
        f"    plan = {PLAN!r}\n"
        f"    made = Discovery({{'made': TraceStore.open({str(store.path)!r})}}, plan, "
        f"__import__('pathlib').Path({str(folder)!r}))\n"
        "    made.save(made.run(), 'found', 'autotts discover')\n",
        "utf-8",
    )
    rng = np.random.default_rng(0)
    kills = 0
    for turn in range(40):
        run = subprocess.Popen([sys.executable, str(script)], start_new_session=True)
        try:
            code = run.wait(timeout=float(rng.uniform(1, 3)) + turn / 2)
            assert code == 0
            break
        except subprocess.TimeoutExpired:
            os.killpg(run.pid, signal.SIGKILL)
            run.wait()
            kills += 1
            time.sleep(0.1)
    assert kills > 0
    assert files(folder) == files(whole)


def test_another_run_is_refused(whole: Path, store: TraceStore) -> None:
    with pytest.raises(RunError, match="holds another run: its plan differ"):
        Discovery({"made": store}, Plan(PLAN.breeding, rounds=3, seeds=1), whole)
    other = generate(questions=10, branches=64, seed=9)
    with pytest.raises(RunError, match="holds another run: its data differ"):
        Discovery({"made": other}, PLAN, whole)


def test_forgotten_constants_keep_their_size() -> None:
    program = forgotten(seeds()["fading"])
    assert all(constant.slope == 0 for constant in program.constants)
    assert [constant.base for constant in program.constants] == [
        0.0625, 32.0, 0.125, 1.0, 0.125, 1.0, 4.0,
    ]  # fmt: skip
