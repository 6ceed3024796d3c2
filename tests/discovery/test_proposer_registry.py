"""The registry of proposers: built-in ones, and those of other packages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest

from autotts_gym.discovery import proposer_registry as registry
from autotts_gym.discovery.objective import SearchSet
from autotts_gym.discovery.proposal import Candidate, Proposal
from autotts_gym.discovery.proposer_registry import ProposerOptions, SearchContext
from autotts_gym.discovery.proposers.command import CommandProposer
from autotts_gym.discovery.workspace import Workspace
from autotts_gym.traces.synthetic_traces import generate


class Fixed:
    """A proposer of another package."""

    def __init__(self, context: SearchContext) -> None:
        self.context = context

    def propose(self, round_number: int, history: Sequence[Candidate]) -> Iterator[Proposal]:
        yield Proposal(f"{round_number}-1", "", "fixed", error="no program")


@pytest.fixture
def context(tmp_path: Path) -> SearchContext:
    search = SearchSet({"made": generate(questions=2, branches=64, seed=0)}, seeds=1)
    options = ProposerOptions(command="true", attempts=2)
    return SearchContext(options, search, {}, Workspace(tmp_path))


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another package is installed. It also tries to replace a built-in proposer."""
    value = f"{__name__}:Fixed"

    def entry_points(**selected: Any) -> EntryPoints:
        entries = [EntryPoint(name, value, registry.GROUP) for name in ("fixed", "command")]
        return EntryPoints(entries).select(**selected)

    monkeypatch.setattr(registry, "entry_points", entry_points)
    monkeypatch.setattr(EntryPoint, "load", _load(EntryPoint.load, value))


def _load(load: Any, value: str) -> Any:
    """Loading for this file, which is not importable by its name."""
    return lambda entry: Fixed if entry.value == value else load(entry)


def test_names(installed: None) -> None:
    assert registry.proposer_names() == [
        "genetic",
        "regression",
        "command",
        "openai",
        "claude",
        "fixed",
    ]


def test_proposer_of_another_package(installed: None, context: SearchContext) -> None:
    proposer = registry.create_proposer("fixed", context)
    assert isinstance(proposer, Fixed)
    assert proposer.context is context
    assert isinstance(registry.create_proposer("command", context), CommandProposer)


def test_unknown_name(context: SearchContext) -> None:
    with pytest.raises(ValueError, match="unknown proposer 'missing': choose one of genetic, "):
        registry.create_proposer("missing", context)


def test_recorded_options() -> None:
    """They are part of run.json, whose format is fixed."""
    options = ProposerOptions(attempts=2, seed=5, model="m")
    assert registry.recorded_options("genetic", options, knob=False) == {
        "islands": 3,
        "keep": 6,
        "children": 2,
        "evaluations": 120,
        "finalists": 3,
        "knob": False,
        "seed": 5,
        "shrinkage": 0.01,
    }
    free = ProposerOptions(shrinkage=0.0)
    assert registry.recorded_options("genetic", free, knob=True)["shrinkage"] == 0.0
    assert registry.recorded_options("regression", options, knob=True) == {}
    patient = ProposerOptions(patient=True)
    assert registry.recorded_options("regression", patient, knob=True) == {"patient": True}
    assert registry.recorded_options("openai", options, knob=True) == {
        "command": "",
        "base_url": "",
        "model": "m",
    }
