"""The structure of the package: layers, cycles, names of modules, and the list of packages."""

from __future__ import annotations

import configparser
import graphlib
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "autotts_gym"

#: Folders of content, which are installed with the package but hold no library code.
CONTENT = ("agents", "envs", "templates")


def modules() -> list[Path]:
    """The library's modules, relative to the package."""
    paths = (path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))
    return sorted(path for path in paths if not {*path.parts} & {*CONTENT})


def test_imports_go_down_the_layers() -> None:
    """The contracts of ``pyproject.toml``, which ``make lint`` checks as well."""
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_import_cycles() -> None:
    graph = grimp.build_graph("autotts_gym", exclude_type_checking_imports=True, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    ordered = list(graphlib.TopologicalSorter(imports).static_order())  # CycleError names a cycle
    assert set(ordered) == set(graph.modules)


def test_no_two_modules_have_the_same_name() -> None:
    """Except commands: ``cli/NAME.py`` implements ``autotts NAME``."""
    paths = defaultdict(list)
    for path in modules():
        if path.parts[0] != "cli" and not path.stem.startswith("__"):
            paths[path.stem].append(path.as_posix())
    assert {name: found for name, found in paths.items() if len(found) > 1} == {}


def test_every_package_is_installed() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", "utf-8")
    listed = config["options"]["packages"].split()
    assert len(listed) == len(set(listed))
    folders = {".".join(("autotts_gym", *path.parent.parts)) for path in modules()}
    content = {"autotts_gym.agents", "autotts_gym.envs", "autotts_gym.controllers.templates"}
    assert set(listed) == folders | content
    for package in set(listed) - content:
        assert (ROOT.joinpath(*package.split(".")) / "__init__.py").is_file(), package
