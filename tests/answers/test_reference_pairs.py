"""Pairs of answers whose verdict is known, in both directions and through every door."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from autotts_gym import grade
from autotts_gym.answers.answer_pairs import answers_equal
from autotts_gym.answers.classes import answer_classes, fitting_class

FIXTURES = Path(__file__).parents[1] / "fixtures" / "answers"


def _pairs(name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((FIXTURES / name).read_text("utf-8"))
    return rows


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pairs.json", "more_pairs.json"])
def test_verdicts(name: str) -> None:
    pairs = _pairs(name)
    wrong = [p for p in pairs if answers_equal(p["gold"], p["answer"]) != p["equal"]]
    wrong += [p for p in pairs if answers_equal(p["answer"], p["gold"]) != p["equal"]]
    assert not wrong


@pytest.mark.parametrize("name", ["pairs.json", "more_pairs.json"])
def test_every_door_has_the_same_verdict(name: str) -> None:
    """Graded, collected with the gold answer, and recorded live after it."""
    for pair in _pairs(name):
        gold, answer, equal = pair["gold"], pair["answer"], pair["equal"]
        assert grade(gold, answer) == equal, pair
        classes = answer_classes([gold, answer], gold)
        assert (classes[answer] == gold) == (equal or gold == answer), pair
        assert (fitting_class(answer, [[gold]]) == 0) == equal, pair
