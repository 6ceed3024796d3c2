"""Evaluations: equal for a tree, its source in this process, and its source in a sandbox."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from autotts_gym.controllers.function_agent import agent_from_source
from autotts_gym.controllers.loader import load
from autotts_gym.discovery.code_generation import generate_source
from autotts_gym.discovery.evaluator import Evaluator, evaluate, program_size
from autotts_gym.discovery.objective import BETAS, SearchSet
from autotts_gym.discovery.proposal import Evaluation
from autotts_gym.discovery.variation import seed_programs
from autotts_gym.traces.synthetic_traces import generate


@pytest.fixture(scope="module")
def search() -> SearchSet:
    stores = {f"made-{k}": generate(questions=4, branches=64, seed=k) for k in range(2)}
    return SearchSet(stores, seeds=2)


@pytest.fixture(scope="module")
def evaluator(search: SearchSet) -> Evaluator:
    return Evaluator(search)


@pytest.mark.slow
def test_tree_source_and_sandbox_agree(evaluator: Evaluator) -> None:
    tree = seed_programs()["fading"]
    text = generate_source(tree, "A program.")
    of_tree = evaluator.evaluate_tree(tree)
    of_agent = evaluator.evaluate_agent(agent_from_source(Path("program.py"), text.encode()))
    of_text = evaluator.evaluate_source(text)
    for other in (of_agent, of_text):
        assert other.by_question == of_tree.by_question
        assert other.curve == of_tree.curve
        assert other.rejection == of_tree.rejection == ""
        assert other.diagnosis == of_tree.diagnosis != ""
        assert other.transcripts == of_tree.transcripts != ""
        assert other.size == program_size(text)
    assert of_tree.score == pytest.approx(np.mean(of_tree.by_question))
    curve = of_tree.curve
    assert curve["beta"] == list(BETAS)
    for name in ("accuracy", "tokens", "sequential"):
        for value, (low, high) in zip(curve[name], curve[f"{name}_interval"], strict=True):
            assert low <= value <= high
        means = np.mean(curve[f"{name}_by_environment"], axis=1)
        assert means == pytest.approx(curve[name], abs=1e-5)


@pytest.mark.parametrize(
    ("source", "size"),
    [
        ("X = 1\nY = -2.5\nZ = True\n", 3),
        ("X = 'eight by'\n", 1),
        ("X = 'eight byt'\nY = b'123456789'\n", 4),
        ("X = 'π' * 3\n", 2),
        (f"X = {10**400}\n", 21),
        ("X = f'12345678{Y}12345678'\n", 2),
        ("X = None\nY = ''\n", 0),
        ("'A docstring.'\n\n\ndef f():\n    'Another one.'\n    'not one'\n", 1),
    ],
)
def test_size_counts_what_constants_can_hold(source: str, size: int) -> None:
    assert program_size(source) == size


def test_without_diagnostics(search: SearchSet) -> None:
    evaluation = Evaluator(search, diagnostics=False).evaluate_tree(seed_programs()["early"])
    assert evaluation.by_question
    assert (evaluation.diagnosis, evaluation.transcripts) == ("", "")


ANSWERS = "    i = episode.branch()\n    episode.probe(i)\n    return episode.answer()\n"
REJECTED = {
    "no program": ("def solve(", "SyntaxError: .*line 1"),
    "no solve": ("x = 1\n", "no function solve"),
    "another knob": (f"def solve(episode, beta, width):\n{ANSWERS}", "solve"),
    "imports": (f"import os\n\n\ndef solve(episode, beta):\n{ANSWERS}", "line 1: .*os"),
    "an unused knob": (f"def solve(episode, beta):\n{ANSWERS}", "beta"),
    "a knob without effect": (
        f"def solve(episode, beta):\n    width = beta\n{ANSWERS}",
        "tokens hardly rise from β = 0 to 0.25",
    ),
    "tokens that fall": (
        "def solve(episode, beta):\n    for _ in range(2 + int(8 * (1 - beta))):\n"
        "        episode.branch()\n    episode.probe_all()\n    return episode.answer()\n",
        "tokens fall from β = 0 to 0.25",
    ),
    "an error": (
        f"def solve(episode, beta):\n    if beta > 0.9:\n        raise ValueError('no')\n{ANSWERS}",
        "16 of 80 episodes failed, 16 of them with .*ValueError: no",
    ),
}


@pytest.mark.parametrize("name", REJECTED)
def test_rejected(evaluator: Evaluator, name: str) -> None:
    text, reason = REJECTED[name]
    evaluation = evaluator.evaluate_source(text)
    assert evaluation.rejection
    assert re.search(reason, evaluation.rejection), evaluation.rejection


def test_source_that_crashes_the_parser(evaluator: Evaluator) -> None:
    evaluation = evaluator.evaluate_source(
        f"def solve(episode, beta):\n    return {'-' * 60_000}1\n"
    )
    assert evaluation.rejection
    assert evaluation.score == float("-inf")


def test_endless_program(search: SearchSet) -> None:
    """A program that never ends is rejected."""
    evaluator = Evaluator(search, time_limit=0.2)
    evaluation = evaluator.evaluate_source(
        "def solve(episode, beta):\n    while beta < 2:\n        pass\n"
    )
    assert evaluation.rejection.startswith("given up: ")
    assert evaluation.score == float("-inf")


def test_evaluate_by_environment_name() -> None:
    text = load("cmc").source.decode()
    options = {"envs": ["tinylm/small/chain"], "questions": [3], "seeds": 1, "knob": False}
    evaluations = [evaluate(text, untrusted=untrusted, **options) for untrusted in (True, False)]
    assert evaluations[0] == evaluations[1]
    assert isinstance(evaluations[0], Evaluation)
    assert len(evaluations[0].by_question) == 1
    broken = evaluate("1 / 0\n\n\ndef solve(episode):\n    episode.answer()\n", **options)
    assert broken.rejection
