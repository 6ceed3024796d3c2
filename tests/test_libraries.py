"""Run the scripts of ``docs/libraries`` whose library is installed."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from autotts_gym.utils.user_folders import cache_folder

FOLDER = Path(__file__).parents[1] / "docs" / "libraries"

#: The modules that each script needs, besides those of this package's extras.
NEEDED = {
    "behaviour_cloning": ["minari", "h5py", "torch"],
    "cleanrl_ppo": ["torch"],
    "minari_dataset": ["minari", "h5py", "jax"],
    "mo_gymnasium_vector": ["mo_gymnasium"],
    "pufferlib_ppo": ["pufferlib", "pyro", "rich_argparse"],
    "rllib_masks": ["ray.rllib", "tree", "ormsgpack"],
    "sample_factory_appo": ["sample_factory"],
    "sb3_vector": ["sb3_contrib"],
    "tianshou_ppo": ["tianshou"],
    "torchrl_masks": ["torchrl"],
}


def is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the package that it belongs to
        return False


def test_every_script_is_tested_and_documented() -> None:
    assert sorted(NEEDED) == sorted(path.stem for path in FOLDER.glob("*.py"))
    page = (FOLDER.parent / "compatibility.md").read_text("utf-8")
    assert all(f"libraries/{name}.py" in page for name in NEEDED)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(NEEDED))
def test_script_runs(name: str, tmp_path: Path) -> None:
    missing = [module for module in NEEDED[name] if not is_installed(module)]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed")
    environment = {
        **os.environ,
        "HOME": str(tmp_path),  # libraries keep data sets there
        "AUTOTTS_CACHE": str(cache_folder() or tmp_path),  # compiled code of other tests
    }
    done = subprocess.run(
        [sys.executable, FOLDER / f"{name}.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "steps" in done.stdout
