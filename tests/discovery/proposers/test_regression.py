"""The regression proposer: its search, resumption, and the chosen controller."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from autotts_gym.controllers.loader import load
from autotts_gym.discovery.code_generation import generate_source
from autotts_gym.discovery.evaluator import Evaluator
from autotts_gym.discovery.objective import SearchSet
from autotts_gym.discovery.program_tree import Constant
from autotts_gym.discovery.proposers.regression import RegressionProposer, reading_policies
from autotts_gym.discovery.search_loop import SEEDS
from autotts_gym.discovery.search_session import open_search
from autotts_gym.traces.store import TraceStore
from autotts_gym.traces.synthetic_traces import generate


@pytest.fixture(scope="module")
def stores() -> dict[str, TraceStore]:
    return {f"made-{k}": generate(questions=10, branches=64, seed=k) for k in range(2)}


def run_search(stores: dict[str, TraceStore], folder: Path, **options: object) -> Path:
    given = {"seeds": 1, "rounds": 1, "latency": (0.0, 0.5)} | options
    with open_search(stores, folder, proposer="regression", **given) as search:
        return search.save(search.run(), "autotts discover")


@pytest.fixture(scope="module")
def complete(stores: dict[str, TraceStore], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("searches") / "found"
    run_search(stores, folder)
    return folder


def test_search(complete: Path, stores: dict[str, TraceStore]) -> None:
    entries = [json.loads(line) for line in (complete / "journal.jsonl").read_text().splitlines()]
    names = [*(f"0-{name}" for name in SEEDS), "1-0", "1-1", "1-2", "1-3", "2-final"]
    assert [entry["name"] for entry in entries] == names
    final = entries[-1]
    assert final["how"] == "regression"
    assert not final["fault"]
    finalists = json.loads((complete / "choice.json").read_text())
    assert finalists[0]["gain"] == 0
    assert final["parents"] == [max(finalists, key=lambda f: f["gain"] - f["gain_error"])["name"]]
    assert {finalist["terms"] for finalist in finalists} <= {2, 3, 4, 5, 6, 7}
    # The saved controller plays like the tree.
    agent = load(str(complete / "found.py"))
    assert agent.takes_beta
    evaluator = Evaluator(SearchSet(stores, seeds=1, latency=(0.0, 0.5)))
    assert list(evaluator.evaluate_agent(agent).by_question) == final["by_question"]


@pytest.mark.slow
@pytest.mark.parametrize("cut", [2, 6, 8])
def test_resumes(complete: Path, stores: dict[str, TraceStore], tmp_path: Path, cut: int) -> None:
    """The journal ends after some candidates with an incomplete line."""
    folder = tmp_path / "found"
    folder.mkdir()
    lines = (complete / "journal.jsonl").read_text("utf-8").splitlines(keepends=True)
    (folder / "run.json").write_bytes((complete / "run.json").read_bytes())
    (folder / "journal.jsonl").write_text("".join(lines[:cut]) + lines[cut][:40], "utf-8")
    path = run_search(stores, folder)
    for name in ("journal.jsonl", "choice.json", path.name):
        assert (folder / name).read_bytes() == (complete / name).read_bytes()


def test_without_a_knob(stores: dict[str, TraceStore], tmp_path: Path) -> None:
    search = SearchSet({"made-0": stores["made-0"]}, seeds=1)
    proposer = RegressionProposer(search, {}, attempts=1, knob=False)
    (proposal,) = proposer.propose(1, [])
    assert proposal.tree is not None
    assert all(constant.is_fixed for constant in proposal.tree.constants)
    assert list(proposer.propose(100, [])) == []  # there are no more reading policies


def test_reading_policies() -> None:
    """They differ, never stop, and drop branches or not."""
    policies = reading_policies()
    assert len(set(policies)) == len(policies) == 8
    assert all(policy.stop.kind == policies[0].stop.kind for policy in policies)
    assert sum(policy.drop.size == 1 for policy in policies) == 1


def test_growth() -> None:
    """Some reading policies add β branches for each that finishes, not one."""
    grown = [policy for policy in reading_policies() if policy.width.children[1].children]
    assert len(grown) == 3
    constants = [policy.width.children[1].children[0].kind for policy in grown]
    assert constants == [Constant(0.0, 1.0)] * 3
    source = generate_source(grown[0], "A reading policy.")
    assert "width_2 = 1.0 * beta\n" in source
    assert "wanted = width_1 + width_2 * finished\n" in source


def test_patient_reading_policies() -> None:
    """They start with one branch at β = 0, and with as many as others where latency counts."""
    policies = reading_policies((0.0, 0.5), patient=True)
    assert len(set(policies)) == 4
    assert {policy.width.children[0].kind for policy in policies} == {Constant(-1.0, 8.0, 16.0)}
    assert all(policy.uses_latency for policy in policies)


def test_a_patient_search(stores: dict[str, TraceStore]) -> None:
    search = SearchSet({"made-0": stores["made-0"]}, seeds=1)
    proposer = RegressionProposer(search, {}, 1, patient=True)
    (proposal,) = proposer.propose(1, [])
    assert "width_1 = -1.0 + 8.0 * beta\n" in proposal.source


def test_reading_policies_of_latency() -> None:
    """With several weights, more branches run as the weight rises; with one, a fixed number."""
    wider, fixed = reading_policies((0.0, 0.5)), reading_policies((0.5,))
    assert sum(policy.uses_latency for policy in wider) == len(wider) - 1
    assert not any(policy.uses_latency for policy in fixed)
    for policy, at_weight in zip(wider, fixed, strict=True):
        assert policy.values(0.3, 0.5) == pytest.approx(at_weight.values(0.3))
    assert reading_policies((0.0,)) == reading_policies()


def test_leaves_out_environments(stores: dict[str, TraceStore], complete: Path) -> None:
    """Each environment is left out in turn, also if their questions differ."""
    assert not SearchSet(stores, seeds=1).shares_questions
    for finalist in json.loads((complete / "choice.json").read_text()):
        both = [finalist["unseen_questions"], finalist["unseen_environments"]]
        assert finalist["unseen"] == pytest.approx(sum(both) / 2)
