"""The top level: lazy names, and suggestions for misspelt keywords."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import gymnasium as gym
import pytest

import autotts_gym


def test_every_name_resolves_and_is_listed() -> None:
    assert set(autotts_gym.__all__) <= set(dir(autotts_gym))
    for name in autotts_gym.__all__:
        assert callable(getattr(autotts_gym, name))
    with pytest.raises(AttributeError, match=r"module 'autotts_gym' has no attribute 'benchmrk'"):
        autotts_gym.benchmrk  # noqa: B018


def test_import_loads_nothing_heavy() -> None:
    script = (
        "import sys, autotts_gym\n"
        "heavy = {'numba', 'pyarrow', 'scipy', 'torch', 'matplotlib', 'rich', 'pandas'}\n"
        "heavy |= {'aiohttp', 'httpx'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
        "print(sorted(name for name in sys.modules if name.startswith('autotts_gym.')))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["[]", "['autotts_gym._deprecated']"]


@pytest.mark.parametrize(
    ("function", "arguments", "keyword", "meant"),
    [
        ("benchmark", {"bates": 1}, "bates", "betas"),
        ("train", {"total_timestep": 1}, "total_timestep", "total_timesteps"),
        ("discover", {"round": 1}, "round", "rounds"),
        ("collect", {"max_token": 1}, "max_token", "max_tokens"),
        ("simulate", {"rate": 1}, "rate", "rates"),
        ("calibrate", {"second": 1}, "second", "seconds"),
        ("solve", {"base_ulr": 1}, "base_ulr", "base_url"),
        ("load_env", {"envs": 1}, "envs", "env"),
        ("load_controller", {"controler": 1}, "controler", "controller"),
    ],
)
def test_misspelt_keywords(
    function: str, arguments: dict[str, Any], keyword: str, meant: str
) -> None:
    message = (
        f"{function}() got an unexpected keyword argument {keyword!r}; did you mean {meant!r}?"
    )
    with pytest.raises(TypeError, match=re.escape(message)):
        getattr(autotts_gym, function)(**arguments)


@pytest.mark.parametrize(
    ("env", "arguments", "meant"),
    [
        ("AutoTTS-v0", {"bta": 0.5}, "beta"),
        ("AutoTTS-Decisions-v0", {"max_branch": 2}, "max_branches"),
        ("AutoTTS-Live-v0", {"base_ulr": ""}, "base_url"),
    ],
)
def test_misspelt_options_of_environments(env: str, arguments: dict[str, Any], meant: str) -> None:
    message = f"unexpected keyword argument {next(iter(arguments))!r}; did you mean {meant!r}?"
    with pytest.raises(TypeError, match=re.escape(message)):
        gym.make(env, **arguments)


def test_a_keyword_that_is_like_no_other() -> None:
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'xyz'; it takes env$"):
        autotts_gym.load_env(xyz=1)  # type: ignore[call-arg]
