"""The controllers that a gateway serves."""

from __future__ import annotations

from pathlib import Path

import pytest

from autotts_gym.controllers.errors import AgentError
from autotts_gym.controllers.loader import find
from autotts_gym.gateway.controller_list import ControllerList


def test_a_controller_that_is_given_twice_is_served_once() -> None:
    given = ["self_consistency", "cmc", "self_consistency", str(find("cmc"))]
    controllers = ControllerList(given)
    assert list(controllers) == ["self_consistency", "cmc"]
    assert controllers.default == "self_consistency"


def test_different_controllers_with_one_name(tmp_path: Path) -> None:
    other = tmp_path / "cmc.py"
    other.write_text("def solve(episode):\n    episode.answer(episode.branch())\n")
    with pytest.raises(AgentError, match=r"two different controllers are called 'cmc'") as raised:
        ControllerList(["cmc", str(other)])
    assert str(find("cmc")) in str(raised.value)
    assert str(other) in str(raised.value)
