"""Search runs: results, resumption, and the final choice."""

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
from autotts_gym.discovery.program_tree import Constant
from autotts_gym.discovery.proposal import Candidate, Proposal
from autotts_gym.discovery.proposers.genetic import (
    GeneticConfig,
    GeneticProposer,
    coarsen_constants,
)
from autotts_gym.discovery.search_loop import SEEDS, Discovery, RunError
from autotts_gym.discovery.variation import seed_programs
from autotts_gym.traces.store import TraceStore
from autotts_gym.traces.synthetic_traces import generate
from autotts_gym.utils.parquet import read_table

CONFIG = GeneticConfig(islands=2, keep=3, children=2, evaluations=10, finalists=2, seed=3)
ROUNDS = 2
#: Seed controllers, seed programs, children, and the choice.
CANDIDATES = 4 + 6 + 2 * 2 * 2 + 1


def run_search(
    store: TraceStore,
    folder: Path,
    config: GeneticConfig = CONFIG,
    report: Callable[[int, Candidate], None] = lambda *_: None,
) -> Discovery:
    search = SearchSet({"made": store}, seeds=1)
    discovery = Discovery(Evaluator(search), folder, asdict(config))
    with GeneticProposer(config, search, discovery.archive) as genetic:
        choice = discovery.run(genetic, ROUNDS, report)
    discovery.save(choice, "found", "autotts discover")
    return discovery


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TraceStore:
    made = generate(questions=10, branches=64, seed=1)
    return TraceStore.open(str(made.save(tmp_path_factory.mktemp("made") / "store").path))


@pytest.fixture(scope="module")
def complete(store: TraceStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("run")
    run_search(store, folder)
    return folder


def files(folder: Path) -> dict[str, bytes]:
    """All files but temporary ones, which a killed run may leave."""
    paths = (path for path in sorted(folder.iterdir()) if not path.name.startswith("."))
    return {path.name: path.read_bytes() for path in paths}


def test_files_of_a_run(complete: Path, store: TraceStore) -> None:
    journal = [json.loads(line) for line in (complete / "journal.jsonl").read_text().splitlines()]
    names = [entry["name"] for entry in journal]
    initial = [*(f"0-{name}" for name in SEEDS), *(f"1-{name}" for name in seed_programs())]
    assert names[:10] == initial
    assert len(names) == len(set(names)) == CANDIDATES
    assert all(set(entry["parents"]) <= set(names) for entry in journal)
    assert {entry["how"] for entry in journal} <= {"seed", "mutation", "crossover", "tuning"}
    assert journal == [Candidate.from_dict(entry).to_dict() for entry in journal]
    final = journal[-1]
    assert final["name"] == "3-final"
    assert not final["fault"]
    table = read_table(complete / "journal.parquet").to_pylist()
    assert [row["name"] for row in table] == names
    assert [row["round"] for row in table] == [0] * 4 + [1] * 10 + [2] * 4 + [3]
    assert json.loads(table[-1]["curve"]) == final["curve"]
    finalists = json.loads((complete / "choice.json").read_text())
    smallest = min(finalists, key=lambda f: f["size"])
    assert smallest["gain"] == smallest["gain_error"] == 0
    for finalist in finalists:
        assert list(finalist)[:2] == ["name", "unseen"]
        assert finalist["unseen"] == pytest.approx(finalist["unseen_questions"])
        assert finalist["gain"] == pytest.approx(finalist["unseen"] - smallest["unseen"])
    assert final["parents"] == [max(finalists, key=lambda f: f["gain"] - f["gain_error"])["name"]]

    # The saved controller plays like the tree.
    tokens = final["curve"]["tokens"]
    assert tokens[0] < tokens[-1]
    evaluation = Evaluator(SearchSet({"made": store}, seeds=1)).evaluate_agent(
        load(str(complete / "found.py"))
    )
    assert list(evaluation.by_question) == final["by_question"]


@pytest.mark.slow
@pytest.mark.parametrize("cut", [1, 5, 9, 15])
def test_resumes(complete: Path, store: TraceStore, tmp_path: Path, cut: int) -> None:
    """The journal ends after some candidates with an incomplete line."""
    lines = (complete / "journal.jsonl").read_text("utf-8").splitlines(keepends=True)
    (tmp_path / "run.json").write_bytes((complete / "run.json").read_bytes())
    (tmp_path / "journal.jsonl").write_text("".join(lines[:cut]) + lines[cut][:40], "utf-8")
    assert len(Archive(tmp_path)) == cut
    reported: list[str] = []
    run_search(store, tmp_path, report=lambda _, one: reported.append(one.name))
    assert len(reported) == CANDIDATES - 1  # the choice is not reported
    assert files(tmp_path) == files(complete)


@pytest.mark.slow
def test_survives_being_killed(complete: Path, store: TraceStore, tmp_path: Path) -> None:
    """The run and its processes are killed at random moments."""
    script = tmp_path / "run.py"
    folder = tmp_path / "run"
    script.write_text(
        "from pathlib import Path\n"
        "from autotts_gym.traces.store import TraceStore\n"
        "from tests.discovery.test_search_loop import run_search\n"
        "if __name__ == '__main__':\n"
        f"    run_search(TraceStore.open({str(store.path)!r}), Path({str(folder)!r}))\n",
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
    assert files(folder) == files(complete)


def test_folder_of_another_run_is_rejected(complete: Path, store: TraceStore) -> None:
    with pytest.raises(RunError, match="contains another run with a different plan"):
        run_search(store, complete, replace(CONFIG, seed=4))
    other = generate(questions=10, branches=64, seed=9)
    with pytest.raises(RunError, match="contains another run with a different data"):
        run_search(other, complete)


class Scripted:
    """Yields given proposals, or raises a given error, in each round."""

    def __init__(self, *rounds: list[Proposal] | Exception) -> None:
        self._rounds = rounds

    def propose(self, number: int, history: Sequence[Candidate]) -> Iterator[Proposal]:
        given = self._rounds[number - 1]
        if isinstance(given, Exception):
            raise given
        yield from given


def test_error_of_a_proposer_ends_its_round(store: TraceStore, tmp_path: Path) -> None:
    trees = [
        Proposal(f"2-{k}", "", "mutation", tree=t) for k, t in enumerate(seed_programs().values())
    ]
    proposer = Scripted(OSError("no network"), trees, [Proposal("3-0", "", "x", error="empty")])
    discovery = Discovery(Evaluator(SearchSet({"made": store}, seeds=1)), tmp_path, {})
    choice = discovery.run(proposer, 3)
    names = [f"0-{name}" for name in SEEDS]
    assert list(discovery.archive) == [
        *names, "1-failed", *(f"2-{k}" for k in range(6)), "3-0", "4-final",
    ]  # fmt: skip
    assert discovery.archive["1-failed"].proposal.error == "OSError: no network"
    assert discovery.archive["1-failed"].evaluation.score == -np.inf
    accepted = [c for c in discovery.archive.values() if c.accepted][:-1]
    best = max(accepted, key=lambda c: c.fitness)
    assert choice.candidate.proposal.parents == (best.name,)
    assert choice.unseen <= max(c.evaluation.score for c in accepted)
    png = (tmp_path / "curve.png").read_bytes()
    assert png.startswith(b"\x89PNG")


def test_every_program_rejected(
    store: TraceStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autotts_gym.discovery.search_loop.SEEDS", ("asc", "esc"))
    discovery = Discovery(Evaluator(SearchSet({"made": store}, seeds=1)), tmp_path, {})
    with pytest.raises(ValueError, match="every program was rejected"):
        discovery.run(Scripted(ValueError("nothing")), 1)


@pytest.mark.slow
def test_without_a_knob(store: TraceStore, tmp_path: Path) -> None:
    """Without the knob, constants do not depend on β, and no program is rejected for it."""
    config = replace(CONFIG, knob=False)
    search = SearchSet({"made": store}, seeds=1)
    discovery = Discovery(Evaluator(search, knob=False), tmp_path, asdict(config))
    with GeneticProposer(config, search, discovery.archive) as genetic:
        choice = discovery.run(genetic, 1)
    trees = [t.proposal.tree for t in discovery.archive.values()]
    trees = [tree for tree in trees if tree is not None]
    assert all(constant.slope == 0 for tree in trees for constant in tree.constants)
    assert not choice.candidate.evaluation.rejection
    assert len(set(choice.candidate.evaluation.curve["tokens"])) == 1


def test_coarsen_constants() -> None:
    program = seed_programs()["adaptive"].with_constants(
        [
            Constant(0.083, -0.0014), Constant(38.4, 12.4), Constant(0.0, 1.76),
            Constant(-1.42, 17.4), Constant(-0.96, 99.0, 2.46), Constant(1.24, 1.26),
        ]
    )  # fmt: skip
    assert [constant.coefficients for constant in coarsen_constants(program).constants] == [
        (0.08, -0.0015, 0.0), (40.0, 10.0, 0.0), (0.0, 2.0, 0.0), (-1.5, 15.0, 0.0),
        (-1.0, 100.0, 2.0), (1.0, 1.5, 0.0),
    ]  # fmt: skip


@pytest.mark.slow
def test_models_that_answer_the_same_questions_are_left_out_in_turn(
    store: TraceStore, tmp_path: Path
) -> None:
    """Two models have the same questions, and the score has two weights of latency."""
    search = SearchSet({"one": store, "other": store}, seeds=1, latency=(0.0, 0.5))
    assert search.shares_questions
    discovery = Discovery(Evaluator(search), tmp_path, asdict(CONFIG))
    with GeneticProposer(CONFIG, search, discovery.archive) as genetic:
        choice = discovery.run(genetic, 1)
    finalists = json.loads((tmp_path / "choice.json").read_text())
    assert len(finalists) == CONFIG.finalists
    for finalist in finalists:
        both = [finalist["unseen_questions"], finalist["unseen_models"]]
        assert finalist["unseen"] == pytest.approx(np.mean(both))
    assert choice.unseen in [finalist["unseen"] for finalist in finalists]
    assert choice.candidate.evaluation.curve["latency"] == [0.0] * 5 + [0.5] * 5
