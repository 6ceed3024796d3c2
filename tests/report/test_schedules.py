"""The schedule of an agent at every β."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from autotts_gym.controllers.agent import Agent
from autotts_gym.controllers.loader import load
from autotts_gym.report.schedules import BETAS, schedule_of

HEAD = "from typing import NamedTuple\nimport numpy as np\n"
SOLVE = "\ndef solve(episode, beta):\n    return episode.answer()\n"


def test_cmc_has_twelve_parameters() -> None:
    found = schedule_of(load("cmc"))
    assert found is not None
    assert len(found.fields) == len(found.comments) == 12
    half = dict(zip(found.fields, found.values[50], strict=True))
    assert (half["initial"], half["ceiling"], half["stop"]) == ("5", "34", "0.91")
    assert found.comments[found.fields.index("ceiling")] == "maximum number of branches"
    assert all(found.comments)


def test_values_are_those_of_the_function() -> None:
    agent = load("cmc")
    found = schedule_of(agent)
    assert found is not None
    assert BETAS[0] == 0
    assert BETAS[50] == 0.5
    assert BETAS[-1] == 1
    for beta, values in zip(BETAS, found.values, strict=True):
        plan = agent.solve.__globals__["schedule"](beta)
        assert [type(value)(text) for value, text in zip(plan, values, strict=True)] == list(plan)
        assert not any("np." in text for text in values)


Write = Callable[..., Agent]


def test_comments_of_the_fields(controller: Write) -> None:
    found = schedule_of(
        controller(
            HEAD
            + "class Other(NamedTuple):\n    a: int  # not this\n"
            + "class Plan(NamedTuple):\n"
            + '    """Text."""\n'
            + "    # not this\n"
            + "    a: int  # this, and: that\n"
            + "    b: float = 0.5\n"
            + "    c: str = '#'  # c's\n"
            + "def schedule(beta):\n    a = 1  # not this\n"
            + "    return Plan(np.int64(3), np.float64(beta) / 3, 'x')\n"
            + SOLVE
        )
    )
    assert found is not None
    assert found.fields == ["a", "b", "c"]
    assert found.comments == ["this, and: that", "", "c's"]
    assert found.values[100] == ["3", "0.3333333333333333", "'x'"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "schedule = 3\n",
        "def schedule(beta, more):\n    return 1\n",
        "def schedule(beta):\n    return (1, 2)\n",
        "def schedule(beta):\n    return {'a': beta}\n",
    ],
)
def test_agents_without_a_schedule(text: str, controller: Write) -> None:
    assert schedule_of(controller(HEAD + text + SOLVE)) is None


def test_a_published_program_has_no_schedule(controller: Write) -> None:
    text = "class OptimalController:\n    def solve(self, question):\n        return '1'\n"
    assert schedule_of(controller(text)) is None


def test_a_schedule_that_fails(controller: Write) -> None:
    agent = controller(HEAD + "def schedule(beta):\n    return 1 / (beta - 0.5)\n" + SOLVE)
    with pytest.raises(ValueError, match="the schedule of agent fails: ZeroDivisionError"):
        schedule_of(agent)
