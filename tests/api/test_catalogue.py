"""Environments and controllers by name, by path, by value, and of other packages."""

from __future__ import annotations

from pathlib import Path

import pytest

import autotts_gym
from autotts_gym.api.catalogue import load_controllers, open_envs
from autotts_gym.controllers.errors import AgentError
from autotts_gym.traces.store import TraceError, TraceStore
from autotts_gym.traces.synthetic_traces import generate


def solve(episode):  # type: ignore[no-untyped-def]
    episode.branch()
    return episode.answer()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package with entry points of every group, on ``sys.path``."""
    folder = tmp_path / "site"
    (folder / "other_package" / "traces").mkdir(parents=True)
    (folder / "other_package" / "__init__.py").touch()
    (folder / "other_package" / "plugins.py").write_text(
        "from pathlib import Path\n"
        "FOLDER = Path(__file__).with_name('more')\n"
        "WRONG = 3\n"
        "def solve(episode):\n    episode.branch()\n    return episode.answer()\n"
        "def create(context):\n    return None\n",
        "utf-8",
    )
    information = folder / "other_package-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Name: other-package\nVersion: 1.0\n", "utf-8")
    (information / "entry_points.txt").write_text(
        "[autotts_gym.envs]\na = other_package.traces\nb = other_package.plugins:FOLDER\n"
        "[autotts_gym.controllers]\nother = other_package.plugins:solve\n"
        "[autotts_gym.proposers]\nother = other_package.plugins:create\n",
        "utf-8",
    )
    monkeypatch.syspath_prepend(str(folder))
    return folder / "other_package"


def test_environments_by_name_and_path(tmp_path: Path) -> None:
    assert isinstance(autotts_gym.load_env("tinylm/small/chain"), TraceStore)
    saved = generate(questions=1, branches=2, seed=1).save(tmp_path / "mine")
    assert saved.path is not None
    for path in (saved.path, str(saved.path)):
        assert autotts_gym.load_env(path).card.fingerprint == saved.card.fingerprint
    assert list(autotts_gym.load_envs("tinylm/small")) == [
        "tinylm/small/chain",
        "tinylm/small/chain-hard",
    ]
    assert list(autotts_gym.load_envs()) == ["qwen2.5-coder-0.5b/problems"]
    assert {"tinylm/small/chain", "synthetic-aime24"} <= set(autotts_gym.list_envs())


def test_name_of_several_environments() -> None:
    with pytest.raises(TraceError, match=r"'tinylm/small' names 2 environments: .*load_envs"):
        autotts_gym.load_env("tinylm/small")


def test_environments_in_any_form(tmp_path: Path) -> None:
    store = generate(questions=1, branches=2, seed=1)
    saved = store.save(tmp_path / "mine")
    name = f"store-{store.card.fingerprint[:8]}"
    assert list(open_envs(store)) == [name]
    assert list(open_envs(saved)) == ["mine"]
    assert list(open_envs([store, "tinylm/small"])) == [
        name,
        "tinylm/small/chain",
        "tinylm/small/chain-hard",
    ]
    assert list(open_envs({"it": store})) == ["it"]


def test_controllers() -> None:
    assert autotts_gym.load_controller("cmc").name == "cmc"
    assert autotts_gym.load_controller(solve).name == "solve"
    assert {"cmc", "self_consistency", "ppo/chain"} <= set(autotts_gym.list_controllers())
    agents = load_controllers(["cmc", solve, "cmc"])
    assert [agent.name for agent in agents] == ["cmc", "solve"]
    with pytest.raises(AgentError, match="there is no agent 'cmd'"):
        autotts_gym.load_controller("cmd")


def test_entry_points(package: Path) -> None:
    generate(questions=1, branches=2, seed=1).save(package / "traces" / "small")
    generate(questions=1, branches=2, seed=2).save(package / "more" / "group" / "large")
    assert {"small", "group/large"} <= set(autotts_gym.list_envs())
    assert autotts_gym.load_env("group/large").card.branches == 2
    assert "other" in autotts_gym.list_controllers()
    assert autotts_gym.load_controller("other").name == "other"

    from autotts_gym.discovery.proposer_registry import check_proposer_name

    assert check_proposer_name("other") == "other"


def test_bundled_environments_come_before_those_of_packages(package: Path) -> None:
    generate(questions=1, branches=2, seed=1).save(package / "traces" / "tinylm/small/chain")
    assert autotts_gym.load_env("tinylm/small/chain").card.questions == 60


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("other_package.plugins:WRONG", r"entry point a .*must be a module or a folder's path"),
        ("other_package.missing", r"entry point a .*cannot be loaded: ModuleNotFoundError"),
    ],
)
def test_a_broken_entry_point_does_not_hide_other_environments(
    value: str, message: str, package: Path
) -> None:
    entries = package.parent / "other_package-1.0.dist-info" / "entry_points.txt"
    entries.write_text(f"[autotts_gym.envs]\na = {value}\n", "utf-8")
    with pytest.warns(UserWarning, match=message):
        assert "tinylm/small/chain" in autotts_gym.list_envs()
