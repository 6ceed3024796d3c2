"""Tests of the export to OpenEvolve: files, metrics and artifacts."""

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
from autotts_gym.discovery.openevolve_export import REJECTED_SCORE, export, metrics, result
from autotts_gym.discovery.proposal import Evaluation
from autotts_gym.discovery.source_checks import check


@pytest.mark.slow
def test_exported_evaluator(tmp_path: Path) -> None:
    envs = ["tinylm/small/chain"]
    paths = export(tmp_path / "made", envs=envs, questions=range(3), seeds=2)
    initial, evaluator, config = paths
    source = initial.read_text("utf-8")
    assert check(source) == ""
    returned = runpy.run_path(str(evaluator))["evaluate"](str(initial))
    values = returned if isinstance(returned, dict) else returned.metrics
    evaluation = evaluate(source, envs=envs, questions=range(3), seeds=2, untrusted=False)
    assert values == metrics(evaluation)
    assert values["combined_score"] == evaluation.score
    assert values["accuracy"] == pytest.approx(np.mean(evaluation.curve["accuracy"]))
    settings = yaml.safe_load(config.read_text("utf-8"))
    assert settings["prompt"]["system_message"] == prompts.task()


def test_score_of_rejected_programs() -> None:
    for evaluation in (
        Evaluation(0.9, "no knob"),
        Evaluation(float("-inf")),
        Evaluation(float("nan")),
    ):
        assert metrics(evaluation) == {"combined_score": REJECTED_SCORE, "accepted": 0.0}
    assert REJECTED_SCORE < -1


def test_feedback_is_an_artifact(monkeypatch: pytest.MonkeyPatch) -> None:
    """A class with the same attributes replaces OpenEvolve's ``EvaluationResult``."""
    module = types.ModuleType("openevolve.evaluation_result")
    module.EvaluationResult = types.SimpleNamespace  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "openevolve", types.ModuleType("openevolve"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    returned = result(Evaluation(0.5, "β spans nothing", diagnosis="It waits."))
    assert returned.metrics["accepted"] == 0.0
    assert "Rejected: β spans nothing" in returned.artifacts["feedback"]
    assert "It waits." in returned.artifacts["feedback"]


def test_no_environments(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one environment"):
        export(tmp_path, envs=[])
