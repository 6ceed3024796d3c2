"""Files of version 0.1.0 load, resume and play, with the results that it recorded.

``fixtures/v0_1/make.py`` wrote the files, and ``fixtures/v0_1/expected.json`` holds the results.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import scripted_server
from scripted_server import ScriptedServer

from autotts_gym.collection.collection_journal import CollectionJournal
from autotts_gym.controllers.loader import load
from autotts_gym.discovery.archive import Archive
from autotts_gym.evaluation.results import Results
from autotts_gym.traces.store import TraceStore

OLD = Path(__file__).parent / "fixtures" / "v0_1"
EXPECTED: dict[str, Any] = json.loads((OLD / "expected.json").read_text("utf-8"))
BENCHMARK = ("--beta", "0,0.5,1", "--seeds", "0-2", "--workers", "0")

# Old names of algorithms and modules keep working, with a warning.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def here(autotts: Callable[..., Any]) -> Path:
    """The working folder of ``autotts``, which the old files are copied to."""
    shutil.copytree(OLD, Path.cwd(), dirs_exist_ok=True)
    return Path.cwd()


def rows(folder: Path) -> list[dict[str, Any]]:
    """The table of a results folder, as ``make.py`` recorded it."""
    return [
        {
            "agent": run.agent,
            "beta": run.beta,
            "env": run.env,
            "accuracy": run.accuracy,
            **{k: run.mean(k) for k in ("tokens", "sequential_tokens", "actions", "probes")},
        }
        for run in Results.load(folder).runs
    ]


@pytest.mark.parametrize("name", ["store", "wide", "published"])
def test_trace_stores(name: str) -> None:
    card = TraceStore.open(OLD / name).card
    assert {key: getattr(card, key) for key in EXPECTED[name]} == EXPECTED[name]


def test_published_traces_import_as_before(autotts: Callable[..., Any], user_envs: Path) -> None:
    path = OLD / "published-files" / "model" / "bench.json"
    assert autotts("import", path, "--name", "again").code == 0
    assert (
        TraceStore.open(user_envs / "again").card.fingerprint
        == EXPECTED["published"]["fingerprint"]
    )


def test_half_finished_collection(autotts: Callable[..., Any], here: Path) -> None:
    """It resumes: what was kept is not requested again, and the store is the same."""
    folder, expected = here / "collection", EXPECTED["collection"]
    work = (folder / "found.collecting").rename(here / ".found.collecting")
    with CollectionJournal.open(work) as journal:
        assert [len(journal.contents.traces), len(journal.contents.probes)] == expected["kept"]
    shutil.copy(folder / "questions.jsonl", here)
    scripted_server.protocol_file(here)
    with ScriptedServer() as server:
        # Version 0.1.0 recorded no generation confidences.
        ended = autotts(*expected["arguments"], server.url, "--no-generation-confidence")
        assert ended.code == 0, ended.err
        assert server.paid.total() == expected["paid"]
    store = TraceStore.open(here / "found")
    assert store.card.fingerprint == expected["fingerprint"]
    assert store.branch_flags() == expected["flags"]
    collected = store.card.details["collected"]
    assert {key: collected[key] for key in expected["figures"]} == expected["figures"]


def test_results_folder(autotts: Callable[..., Any], here: Path) -> None:
    """It loads, makes a report, and playing it again gives the same figures."""
    assert rows(here / "results") == EXPECTED["results"]
    assert autotts("report", "results", "--out", "report.html").code == 0
    assert (here / "report.html").stat().st_size > 100_000
    agents = ("self_consistency", "asc", "programs/helpers.py", "programs/patient.py")
    ended = autotts(
        "benchmark", *agents, "--env", "store", *BENCHMARK, "--max-branches", 6, "--out", "results"
    )
    assert ended.code == 0, ended.err
    assert rows(here / "results") == EXPECTED["results"]


def test_trained_policy(autotts: Callable[..., Any], here: Path) -> None:
    card: dict[str, Any] = load("policy").card  # type: ignore[attr-defined]
    expected = EXPECTED["policy-card"]
    assert {key: card[key] for key in expected} == expected
    ended = autotts(
        "benchmark", "policy", "--env", "store", *BENCHMARK, "--max-branches", 6, "--out", "played"
    )
    assert ended.code == 0, ended.err
    assert rows(here / "played") == EXPECTED["played"]


def test_interrupted_training(autotts: Callable[..., Any], here: Path) -> None:
    """It resumes from its checkpoint; the episodes after it are drawn by another generator."""
    import torch
    from safetensors.torch import load_file

    expected = EXPECTED["training"]
    ended = autotts(*expected["arguments"], "--out", "training")
    assert ended.code == 0, ended.err
    assert "continuing from 1,280 macro-actions" in ended.out
    whole = load_file(here / "policy" / "policy.safetensors")
    resumed = load_file(here / "training" / "policy.safetensors")
    assert resumed.keys() == whole.keys()
    for name, weights in whole.items():
        assert resumed[name].shape == weights.shape
        assert torch.isfinite(resumed[name]).all()
    card: dict[str, Any] = load("training").card  # type: ignore[attr-defined]
    assert card["decisions"] == 1920
    assert card["history"][:2] == EXPECTED["policy-card"]["history"][:2]


def test_interrupted_discovery(autotts: Callable[..., Any], here: Path) -> None:
    """Its candidates are read; it is not resumed, because the search tunes otherwise now."""
    expected = EXPECTED["discovery"]
    journal = here / "discovery" / "journal.jsonl"
    before = journal.read_text("utf-8")
    assert len(before.splitlines()) == expected["kept"]
    assert list(Archive(here / "discovery")) == [
        entry["name"] for entry in expected["journal"][: expected["kept"]]
    ]
    ended = autotts(*expected["arguments"], "--out", "discovery")
    assert ended.code == 1
    assert ended.err == (
        "autotts: discovery contains another run with a different plan: choose another folder, or "
        "remove this one\n"
    )
    assert journal.read_text("utf-8") == before


def test_discovered_program(autotts: Callable[..., Any], here: Path) -> None:
    ended = autotts(
        "benchmark", "programs/discovered.py", "--env", "wide", *BENCHMARK, "--out", "wider"
    )
    assert ended.code == 0, ended.err
    assert rows(here / "wider") == EXPECTED["wider"]


@pytest.mark.slow
def test_published_import_plays(autotts: Callable[..., Any], here: Path) -> None:
    ended = autotts(
        "benchmark", "cmc", "--env", "published", *BENCHMARK, "--max-branches", 3, "--out", "narrow"
    )
    assert ended.code == 0, ended.err
    assert rows(here / "narrow") == EXPECTED["narrow"]


@pytest.mark.slow
@pytest.mark.parametrize("program", ["helpers", "patient"])
def test_untrusted_programs(autotts: Callable[..., Any], here: Path, program: str) -> None:
    """In a sandbox, the figures are those of a trusted program."""
    ended = autotts(
        *("benchmark", f"programs/{program}.py", "--env", "store", "--beta", "0,0.5,1"),
        *("--seeds", "0-2", "--max-branches", 6, "--untrusted", "--out", "sandboxed"),
    )
    assert ended.code == 0, ended.err
    expected = [row for row in EXPECTED["results"] if row["agent"] == program]
    assert rows(here / "sandboxed") == expected
