"""Schedules of agents: the parameters that β determines, at 101 values of β.

An agent declares a schedule with a function ``schedule(beta)`` in its file that returns a
``NamedTuple``. It is evaluated here, so that the page contains values and no formulas.
"""

from __future__ import annotations

import inspect
import io
import tokenize
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from autotts_gym.controllers.agent import Agent

#: β = 0, 0.01, ..., 1.
BETAS: Final = tuple(k / 100 for k in range(101))


@dataclass(frozen=True)
class Schedule:
    """An agent's schedule over ``BETAS``.

    Attributes:
        fields: names of the parameters.
        comments: the comment of each parameter in the file; empty if there is none.
        values: for every β, the ``repr`` of each parameter.
    """

    fields: list[str]
    comments: list[str]
    values: list[list[str]]


def schedule_of(agent: Agent) -> Schedule | None:
    """Return the schedule of an agent, or None if its file declares none.

    Raises:
        ValueError: the schedule fails for some β.
    """
    function = getattr(getattr(agent, "solve", None), "__globals__", {}).get("schedule")
    if not inspect.isfunction(function) or len(inspect.signature(function).parameters) != 1:
        return None
    try:
        plans = [function(beta) for beta in BETAS]
    except (Exception, SystemExit) as error:
        raise ValueError(
            f"the schedule of {agent.name} fails: {type(error).__name__}: {error}"
        ) from error
    first = plans[0]
    fields = getattr(first, "_fields", None)
    if fields is None or any(type(plan) is not type(first) for plan in plans):
        return None
    comments = _comments(agent.source, type(first).__name__)
    return Schedule(
        list(fields),
        [comments.get(field, "") for field in fields],
        [[_repr(value) for value in plan] for plan in plans],
    )


def _repr(value: Any) -> str:
    """Return the ``repr`` of a number, as a Python number if it is a NumPy scalar."""
    return repr(value.item() if isinstance(value, np.generic) else value)


def _comments(source: bytes, name: str) -> dict[str, str]:
    """Return the comments at the ends of the lines of a class's fields, by field."""
    comments: dict[str, str] = {}
    inside, field = False, ""
    for token in tokenize.tokenize(io.BytesIO(source).readline):
        first = token.line.split()
        if first[:1] == ["class"]:
            inside = first[1].startswith((f"{name}(", f"{name}:"))
        if token.type == tokenize.NAME and token.line[: token.start[1]].isspace():
            field = token.string
        if inside and token.type == tokenize.COMMENT and not token.line.lstrip().startswith("#"):
            comments.setdefault(field, token.string.lstrip("# "))
    return comments
