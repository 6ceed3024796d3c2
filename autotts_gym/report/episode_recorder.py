"""``EpisodeRecorder``, which records the steps of an episode, and their packed format."""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import gymnasium as gym

from autotts_gym.gym_envs.autotts_env import AutoTTSEnv
from autotts_gym.mdp import actions


class TooManyActionsError(RuntimeError):
    """An episode has more actions than in the results."""


class EpisodeRecorder(gym.Wrapper[Any, Any, Any, Any]):
    """Records the steps of an episode.

    Attributes:
        action_limit: number of actions after which a step raises ``TooManyActionsError``.
        actions: ids of the actions.
        spent, clock: visible tokens after each action.
        shown: for each PROBE, the class that it revealed, and the depth of the end if it revealed
            the end (otherwise 0).
    """

    def __init__(self, env: AutoTTSEnv) -> None:
        super().__init__(env)
        self.auto = env
        self.width = env.max_branches
        self.action_limit = 0
        self._clear()

    def _clear(self) -> None:
        self.actions: list[int] = []
        self.spent: list[int] = []
        self.clock: list[int] = []
        self.shown: list[tuple[int, int]] = []

    def reset(self, **arguments: Any) -> Any:
        self._clear()
        return self.env.reset(**arguments)

    def step(self, action: Any) -> Any:
        if len(self.actions) >= self.action_limit:
            raise TooManyActionsError
        transition = self.env.step(action)
        self.actions.append(int(action))
        self.spent.append(self.auto.spent)
        self.clock.append(self.auto.clock)
        name, branch = actions.decode(int(action), self.width)
        if name == "PROBE":
            seen = transition[0]
            depth = int(seen["branch_revealed"][branch]) if seen["branch_finished"][branch] else 0
            self.shown.append((int(seen["branch_latest"][branch]), depth))
        return transition


def pack(recorder: EpisodeRecorder, notes: Sequence[tuple[int, str, float]], gold: str) -> str:
    """Pack an episode as text: base64 of a zlib stream of a JSON object.

    The object contains the answers by class (``answers``, ``nulls``), ``gold``, and four lists:
    ``actions``, ``spent`` and ``clock`` as differences between consecutive actions, which compress
    well, and ``shown``. ``notes`` contains (actions so far, value) pairs by name; a value that is
    not finite is null.
    """
    classes = range(1 + max((answer for answer, _ in recorder.shown), default=-1))
    by_name: dict[str, list[tuple[int, float | None]]] = {}
    for step, name, value in notes:
        rounded = float(f"{value:.6g}") if math.isfinite(value) else None
        by_name.setdefault(name, []).append((step, rounded))
    content = {
        "answers": [recorder.auto.answer_text(c) for c in classes],
        "nulls": [int(recorder.auto.is_null(c)) for c in classes],
        "gold": gold,
        "actions": _differences(recorder.actions),
        "spent": _differences(recorder.spent),
        "clock": _differences(recorder.clock),
        "shown": recorder.shown,
        "notes": by_name,
    }
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode()


def _differences(values: Sequence[int]) -> list[int]:
    return [after - before for before, after in pairwise([0, *values])]
