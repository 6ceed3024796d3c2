"""Runs: the same whatever happens to them, and what comes of them plays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from autotts_gym.controllers.loader import load
from autotts_gym.discovery.archive import Archive
from autotts_gym.discovery.evaluator import Evaluator
from autotts_gym.discovery.objective import SearchSet
from autotts_gym.discovery.proposal import Proposal, Tried
from autotts_gym.discovery.proposers.genetic import Breeding, Genetic, forgotten
from autotts_gym.discovery.search_loop import SEEDS, Discovery, RunError
from autotts_gym.discovery.variation import seeds
from autotts_gym.traces.store import TraceStore
from autotts_gym.traces.synthetic_traces import generate
from autotts_gym.utils.parquet import read_table

HOW = Breeding(islands=2, keep=3, children=2, evaluations=10, finalists=2, seed=3)
ROUNDS = 2
#: Seeds that come along, those of breeding, children, and the choice.
PLANNED = 4 + 5 + 2 * 2 * 2 + 1


def searched(
    store: TraceStore,
    folder: Path,
    how: Breeding = HOW,
    report: Callable[[int, Tried], None] = lambda *_: None,
) -> Discovery:
    search = SearchSet({"made": store}, seeds=1)
    discovery = Discovery(Evaluator(search), folder, asdict(how))
    with Genetic(how, search, discovery.archive) as genetic:
        choice = discovery.run(genetic, ROUNDS, report)
    discovery.save(choice, "found", "autotts discover")
    return discovery


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TraceStore:
    made = generate(questions=10, branches=64, seed=1)
    return TraceStore.open(str(made.save(tmp_path_factory.mktemp("made") / "store").path))


@pytest.fixture(scope="module")
def whole(store: TraceStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing happened to."""
    folder = tmp_path_factory.mktemp("run")
    searched(store, folder)
    return folder


def files(folder: Path) -> dict[str, bytes]:
    """All but drafts, of which a kill may leave one."""
    paths = (path for path in sorted(folder.iterdir()) if not path.name.startswith("."))
    return {path.name: path.read_bytes() for path in paths}


def test_what_a_run_leaves(whole: Path, store: TraceStore) -> None:
    journal = [json.loads(line) for line in (whole / "journal.jsonl").read_text().splitlines()]
    names = [entry["name"] for entry in journal]
    begun = [*(f"0-{name}" for name in SEEDS), *(f"1-{name}" for name in seeds())]
    assert names[:9] == begun
    assert len(names) == len(set(names)) == PLANNED
    assert all(set(entry["parents"]) <= set(names) for entry in journal)
    assert {entry["how"] for entry in journal} <= {"seed", "mutation", "crossover", "tuning"}
    assert journal == [Tried.of(entry).facts() for entry in journal]
    final = journal[-1]
    assert final["name"] == "3-final"
    assert not final["fault"]
    table = read_table(whole / "journal.parquet").to_pylist()
    assert [row["name"] for row in table] == names
    assert [row["round"] for row in table] == [0] * 4 + [1] * 9 + [2] * 4 + [3]
    assert json.loads(table[-1]["curve"]) == final["curve"]
    best = max(entry["score"] for entry in journal[:9])
    assert final["score"] >= best - 0.01
    finalists = json.loads((whole / "choice.json").read_text())
    assert final["parents"] == [max(finalists, key=lambda f: f["unseen"])["name"]]

    # What was written plays like what was bred.
    tokens = final["curve"]["tokens"]
    assert tokens[0] < tokens[-1]
    verdict = Evaluator(SearchSet({"made": store}, seeds=1)).agent(load(str(whole / "found.py")))
    assert list(verdict.by_question) == final["by_question"]


@pytest.mark.parametrize("cut", [1, 5, 9, 15])
def test_goes_on_where_it_was(whole: Path, store: TraceStore, tmp_path: Path, cut: int) -> None:
    """Cut off after some programs, in the midst of a line."""
    lines = (whole / "journal.jsonl").read_text("utf-8").splitlines(keepends=True)
    (tmp_path / "run.json").write_bytes((whole / "run.json").read_bytes())
    (tmp_path / "journal.jsonl").write_text("".join(lines[:cut]) + lines[cut][:40], "utf-8")
    assert len(Archive(tmp_path)) == cut
    tried: list[str] = []
    searched(store, tmp_path, report=lambda _, one: tried.append(one.name))
    assert len(tried) == PLANNED - 1  # the choice is not reported
    assert files(tmp_path) == files(whole)


@pytest.mark.slow
def test_survives_being_killed(whole: Path, store: TraceStore, tmp_path: Path) -> None:
    """At any moment, with its processes."""
    script = tmp_path / "run.py"
    folder = tmp_path / "run"
    script.write_text(
        "from pathlib import Path\n"
        "from autotts_gym.traces.store import TraceStore\n"
        "from tests.discovery.test_loop import searched\n"
        "if __name__ == '__main__':\n"
        f"    searched(TraceStore.open({str(store.path)!r}), Path({str(folder)!r}))\n",
        "utf-8",
    )
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    rng = np.random.default_rng(0)
    kills = 0
    for turn in range(40):
        run = subprocess.Popen([sys.executable, str(script)], env=env, start_new_session=True)
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
        searched(store, whole, replace(HOW, seed=4))
    other = generate(questions=10, branches=64, seed=9)
    with pytest.raises(RunError, match="holds another run: its data differ"):
        searched(other, whole)


class Scripted:
    """Proposes what it was told to: proposals, or an error."""

    def __init__(self, *rounds: list[Proposal] | Exception) -> None:
        self._rounds = rounds

    def propose(self, number: int, history: Sequence[Tried]) -> Iterator[Proposal]:
        given = self._rounds[number - 1]
        if isinstance(given, Exception):
            raise given
        yield from given


def test_a_proposer_that_fails_ends_nothing(store: TraceStore, tmp_path: Path) -> None:
    trees = [Proposal(f"2-{k}", "", "mutation", tree=t) for k, t in enumerate(seeds().values())]
    proposer = Scripted(OSError("no network"), trees, [Proposal("3-0", "", "x", trouble="empty")])
    discovery = Discovery(Evaluator(SearchSet({"made": store}, seeds=1)), tmp_path, {})
    choice = discovery.run(proposer, 3)
    names = [f"0-{name}" for name in SEEDS]
    assert list(discovery.archive) == [
        *names, "1-failed", *(f"2-{k}" for k in range(5)), "3-0", "4-final",
    ]  # fmt: skip
    assert discovery.archive["1-failed"].proposal.trouble == "OSError: no network"
    assert discovery.archive["1-failed"].verdict.score == -np.inf
    sound = [tried for tried in discovery.archive.values() if tried.sound][:-1]
    best = max(sound, key=lambda tried: tried.worth)
    assert choice.tried.proposal.parents == (best.name,)
    assert choice.unseen <= max(t.verdict.score for t in sound)
    png = (tmp_path / "curve.png").read_bytes()
    assert png.startswith(b"\x89PNG")


def test_when_everything_is_rejected(
    store: TraceStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autotts_gym.discovery.search_loop.SEEDS", ("asc", "esc"))
    discovery = Discovery(Evaluator(SearchSet({"made": store}, seeds=1)), tmp_path, {})
    with pytest.raises(ValueError, match="every program was rejected"):
        discovery.run(Scripted(ValueError("nothing")), 1)


def test_without_a_knob(store: TraceStore, tmp_path: Path) -> None:
    """The ablation: constants do not move, and nobody minds."""
    how = replace(HOW, knob=False)
    search = SearchSet({"made": store}, seeds=1)
    discovery = Discovery(Evaluator(search, knob=False), tmp_path, asdict(how))
    with Genetic(how, search, discovery.archive) as genetic:
        choice = discovery.run(genetic, 1)
    bred = [t.proposal.tree for t in discovery.archive.values()]
    trees = [tree for tree in bred if tree is not None]
    assert all(constant.slope == 0 for tree in trees for constant in tree.constants)
    assert not choice.tried.verdict.fault
    assert len(set(choice.tried.verdict.curve["tokens"])) == 1


def test_forgotten_constants_keep_their_size() -> None:
    program = forgotten(seeds()["fading"])
    assert all(constant.slope == 0 for constant in program.constants)
    assert [constant.base for constant in program.constants] == [
        0.0625, 32.0, 0.125, 1.0, 0.125, 1.0, 4.0,
    ]  # fmt: skip
