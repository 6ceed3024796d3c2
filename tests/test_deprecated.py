"""Names of version 0.1 keep working for one version, with a warning that names the new one."""

from __future__ import annotations

import importlib
import inspect
import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

from autotts_gym import _deprecated
from autotts_gym.mdp.trace_dataset import EpisodeConfig

FOLDER = Path(__file__).parent / "fixtures" / "v0_1"


def _names(file: str) -> dict[str, list[str]]:
    """Module-level names by module: an indented line belongs to the last line that is not."""
    names: dict[str, list[str]] = {}
    module = ""
    for line in (FOLDER / file).read_text("utf-8").splitlines():
        if line.startswith(" "):
            names[module].append(line.strip())
        else:
            module = line.strip()
            names[module] = []
    return names


#: Every public module and module-level name of version 0.1.0.
PUBLIC = _names("public_names.txt")

#: Those that were internal although they had no underscore, and are not kept.
PRIVATE = _names("private_names.txt")

RENAMES = _deprecated.table()


def resolve(dotted: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return _deprecated._resolve(dotted)


@pytest.mark.parametrize("module", PUBLIC)
def test_every_old_name_resolves(module: str) -> None:
    """As before, or to the new object with a warning that names it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        old = importlib.import_module(module)
    is_moved = not hasattr(old, "__file__")
    assert is_moved == (RENAMES.modules.get(module, module) != module)
    for name in PUBLIC[module]:
        if name in PRIVATE.get(module, ()):
            continue
        new = RENAMES.names.get(module, {}).get(name)
        if not is_moved and (new is None or name in vars(old)):
            with warnings.catch_warnings():
                warnings.simplefilter("error", DeprecationWarning)
                getattr(old, name)
            continue
        new = new or f"{RENAMES.modules[module]}.{name}"
        with pytest.warns(DeprecationWarning, match="is deprecated") as caught:
            found = getattr(old, name)
        assert str(caught[0].message) == (
            f"{module}.{name} is deprecated and will be removed in autotts_gym 0.3; use {new}"
        )
        assert Path(caught[0].filename).name == Path(__file__).name
        assert found is resolve(new)


def test_private_names_were_public_once() -> None:
    for module, names in PRIVATE.items():
        assert set(names) <= set(PUBLIC[module])


@pytest.mark.parametrize("module", sorted({*RENAMES.members, *RENAMES.keywords}))
def test_every_renamed_member_and_keyword_exists(module: str) -> None:
    importlib.import_module(module)
    for owner, old, new in RENAMES.members[module]:
        found = resolve(f"{module}.{owner}")
        assert old in vars(found)
        fields = getattr(found, "__dataclass_fields__", {})
        annotated = getattr(found, "__annotations__", {})
        assigned = f"self.{new}" in Path(sys.modules[module].__file__ or "").read_text("utf-8")
        assert hasattr(found, new) or new in fields or new in annotated or assigned, (owner, new)
    for function, old, new in RENAMES.keywords[module]:
        parameters = inspect.signature(resolve(f"{module}.{function}")).parameters
        assert new in parameters, (function, old, new)
        assert old not in parameters


def test_importing_an_old_module_warns_where_it_is_imported() -> None:
    for name in [name for name in sys.modules if name == "autotts_gym.vector_env"]:
        del sys.modules[name]
    with pytest.warns(DeprecationWarning, match="is deprecated") as caught:
        from autotts_gym.vector_env import AutoTTSVectorEnv  # type: ignore[import-not-found]
    from autotts_gym.gym_envs import vector_env

    assert AutoTTSVectorEnv is vector_env.AutoTTSVectorEnv
    assert {Path(warning.filename).name for warning in caught} == {Path(__file__).name}
    assert str(caught[0].message).startswith("autotts_gym.vector_env is deprecated")
    assert str(caught[0].message).endswith("use autotts_gym.gym_envs.vector_env")


def test_old_modules_have_nothing_else() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        old = importlib.import_module("autotts_gym.env")
    with pytest.raises(AttributeError, match=r"'autotts_gym\.env' has no attribute 'AutoTTS'"):
        old.AutoTTS  # noqa: B018
    assert "AutoTTSEnv" in dir(old)
    with pytest.raises(ModuleNotFoundError, match=r"autotts_gym\.environment"):
        importlib.import_module("autotts_gym.environment")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_old_entry_points_and_pickles() -> None:
    env = gym.make(gym.envs.registration.EnvSpec("Old-v0", "autotts_gym.env:AutoTTSEnv"))
    assert type(env.unwrapped).__module__ == "autotts_gym.gym_envs.autotts_env"
    assert pickle.loads(b"cautotts_gym.mdp.replay\nTerms\n.") is EpisodeConfig


@pytest.mark.slow
def test_present_modules_use_no_old_names() -> None:
    script = (
        "import pkgutil, importlib, autotts_gym\n"
        "for module in pkgutil.walk_packages(autotts_gym.__path__, 'autotts_gym.'):\n"
        "    if '.envs' in module.name or '.agents' in module.name or 'template' in module.name:\n"
        "        continue\n"
        "    if not module.name.endswith('__main__'):\n"
        "        importlib.import_module(module.name)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error:autotts_gym.:DeprecationWarning", "-c", script],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
