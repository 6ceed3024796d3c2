"""Verdicts: the same on a tree, on its source, and on its source in a sandbox."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from autotts_gym.controllers.function_agent import agent_from_source
from autotts_gym.controllers.loader import load
from autotts_gym.discovery.evaluator import Evaluator, constants_of, evaluate
from autotts_gym.discovery.objective import BETAS, SearchSet
from autotts_gym.discovery.program_tree import source
from autotts_gym.discovery.proposal import Verdict
from autotts_gym.discovery.variation import seeds
from autotts_gym.traces.synthetic_traces import generate


@pytest.fixture(scope="module")
def search() -> SearchSet:
    stores = {f"made-{k}": generate(questions=4, branches=64, seed=k) for k in range(2)}
    return SearchSet(stores, seeds=2)


@pytest.fixture(scope="module")
def evaluator(search: SearchSet) -> Evaluator:
    return Evaluator(search)


def test_whoever_plays_it(evaluator: Evaluator) -> None:
    tree = seeds()["fading"]
    text = source(tree, "A program.")
    of_tree = evaluator.tree(tree)
    of_agent = evaluator.agent(agent_from_source(Path("program.py"), text.encode()))
    of_text = evaluator.source(text)
    for other in (of_agent, of_text):
        assert other.by_question == of_tree.by_question
        assert other.curve == of_tree.curve
        assert other.fault == of_tree.fault == ""
        assert other.diagnosis == of_tree.diagnosis != ""
        assert other.traces == of_tree.traces != ""
        assert other.size == constants_of(text)
    assert of_tree.score == pytest.approx(np.mean(of_tree.by_question))
    curve = of_tree.curve
    assert curve["beta"] == list(BETAS)
    for name in ("accuracy", "tokens", "sequential"):
        for value, (low, high) in zip(curve[name], curve[f"{name}_interval"], strict=True):
            assert low <= value <= high
        means = np.mean(curve[f"{name}_by_environment"], axis=1)
        assert means == pytest.approx(curve[name], abs=1e-5)


def test_nothing_is_told(search: SearchSet) -> None:
    verdict = Evaluator(search, telling=False).tree(seeds()["early"])
    assert verdict.by_question
    assert (verdict.diagnosis, verdict.traces) == ("", "")


ANSWERS = "    i = episode.branch()\n    episode.probe(i)\n    return episode.answer()\n"
REJECTED = {
    "no program": ("def solve(", "SyntaxError: .*line 1"),
    "no solve": ("x = 1\n", "no function solve"),
    "another knob": (f"def solve(episode, beta, width):\n{ANSWERS}", "solve"),
    "imports": (f"import os\n\n\ndef solve(episode, beta):\n{ANSWERS}", "line 1: .*os"),
    "no use of the knob": (f"def solve(episode, beta):\n{ANSWERS}", "beta"),
    "a knob that is none": (
        f"def solve(episode, beta):\n    width = beta\n{ANSWERS}",
        r"β spans 1\.0 times its cheapest tokens",
    ),
    "falls": (
        "def solve(episode, beta):\n    for _ in range(2 + int(8 * (1 - beta))):\n"
        "        episode.branch()\n    episode.probe_all()\n    return episode.answer()\n",
        "tokens fall from β = 0 to 0.25",
    ),
    "raises": (
        f"def solve(episode, beta):\n    if beta > 0.9:\n        raise ValueError('no')\n{ANSWERS}",
        "16 of 80 episodes failed, 16 of them with .*ValueError: no",
    ),
}


@pytest.mark.parametrize("name", REJECTED)
def test_rejected(evaluator: Evaluator, name: str) -> None:
    text, fault = REJECTED[name]
    verdict = evaluator.source(text)
    assert verdict.fault
    assert re.search(fault, verdict.fault), verdict.fault


def test_a_text_that_would_bring_a_parser_down(evaluator: Evaluator) -> None:
    verdict = evaluator.source(f"def solve(episode, beta):\n    return {'-' * 60_000}1\n")
    assert verdict.fault
    assert verdict.score == float("-inf")


def test_given_up(search: SearchSet) -> None:
    """A program that never ends is no use to anybody, and ends nothing else."""
    evaluator = Evaluator(search, time_limit=0.2)
    verdict = evaluator.source("def solve(episode, beta):\n    while beta < 2:\n        pass\n")
    assert verdict.fault.startswith("given up: ")
    assert verdict.score == float("-inf")


def test_by_name() -> None:
    text = load("cmc").source.decode()
    options = {"envs": ["tinylm/small/chain"], "questions": [3], "seeds": 1, "knob": False}
    found = [evaluate(text, untrusted=untrusted, **options) for untrusted in (True, False)]
    assert found[0] == found[1]
    assert isinstance(found[0], Verdict)
    assert len(found[0].by_question) == 1
    broken = evaluate("1 / 0\n\n\ndef solve(episode):\n    episode.answer()\n", **options)
    assert broken.fault
