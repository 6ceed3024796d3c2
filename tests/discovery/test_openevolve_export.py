"""What OpenEvolve is given: files that it can run, and verdicts as its numbers."""

from __future__ import annotations

import runpy
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import yaml

from autotts_gym.discovery import prompts
from autotts_gym.discovery.evaluator import evaluate
from autotts_gym.discovery.openevolve_export import REJECTED, export, metrics, result
from autotts_gym.discovery.proposal import Evaluation
from autotts_gym.discovery.source_checks import check


def test_what_is_exported_runs(tmp_path: Path) -> None:
    envs = ["tinylm/small/chain"]
    paths = export(tmp_path / "made", envs=envs, questions=range(3), seeds=2)
    initial, evaluator, config = paths
    source = initial.read_text("utf-8")
    assert check(source) == ""
    found = runpy.run_path(str(evaluator))["evaluate"](str(initial))
    numbers = found if isinstance(found, dict) else found.metrics
    verdict = evaluate(source, envs=envs, questions=range(3), seeds=2, untrusted=False)
    assert numbers == metrics(verdict)
    assert numbers["combined_score"] == verdict.score
    assert numbers["accuracy"] == pytest.approx(np.mean(verdict.curve["accuracy"]))
    settings = yaml.safe_load(config.read_text("utf-8"))
    assert settings["prompt"]["system_message"] == prompts.task()


def test_what_is_rejected_is_worth_less_than_anything() -> None:
    for verdict in (
        Evaluation(0.9, "no knob"),
        Evaluation(float("-inf")),
        Evaluation(float("nan")),
    ):
        assert metrics(verdict) == {"combined_score": REJECTED, "accepted": 0.0}
    assert REJECTED < -1


def test_feedback_is_an_artifact(monkeypatch: pytest.MonkeyPatch) -> None:
    """With OpenEvolve's own class where it is installed; its form stands in for it here."""
    module = types.ModuleType("openevolve.evaluation_result")
    module.EvaluationResult = types.SimpleNamespace  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "openevolve", types.ModuleType("openevolve"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    found = result(Evaluation(0.5, "β spans nothing", diagnosis="It waits."))
    assert found.metrics["accepted"] == 0.0
    assert "Rejected: β spans nothing" in found.artifacts["feedback"]
    assert "It waits." in found.artifacts["feedback"]


def test_no_environment(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one environment"):
        export(tmp_path, envs=[])
