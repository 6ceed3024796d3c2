"""What an agent's β decides: its ``schedule`` at a hundred and one β.

An agent whose file has a function ``schedule(beta)`` that returns a ``NamedTuple`` tells by it what
the knob means. It is evaluated here, so that a page shows what Python says and holds no formula.
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
        fields: the parameters' names.
        comments: what the file says beside each; empty where it says nothing.
        values: for every β, each parameter as Python writes it.
    """

    fields: list[str]
    comments: list[str]
    values: list[list[str]]


def schedule_of(agent: Agent) -> Schedule | None:
    """An agent's schedule, or None where its file has none.

    Raises:
        ValueError: there is one, but it fails for some β.
    """
    function = getattr(getattr(agent, "solve", None), "__globals__", {}).get("schedule")
    if not inspect.isfunction(function) or len(inspect.signature(function).parameters) != 1:
        return None
    try:
        found = [function(beta) for beta in BETAS]
    except (Exception, SystemExit) as error:
        raise ValueError(
            f"the schedule of {agent.name} fails: {type(error).__name__}: {error}"
        ) from error
    first = found[0]
    fields = getattr(first, "_fields", None)
    if fields is None or any(type(plan) is not type(first) for plan in found):
        return None
    comments = _comments(agent.source, type(first).__name__)
    return Schedule(
        list(fields),
        [comments.get(field, "") for field in fields],
        [[_written(value) for value in plan] for plan in found],
    )


def _written(value: Any) -> str:
    """A number as Python writes it, whether it is numpy's or not."""
    return repr(value.item() if isinstance(value, np.generic) else value)


def _comments(source: bytes, name: str) -> dict[str, str]:
    """The comments that end the lines of a class's fields, by field."""
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
