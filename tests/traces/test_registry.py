"""Registry: lookup of names and paths, groups, and unknown environments."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from autotts_gym.traces import registry
from autotts_gym.traces.store import Branch, Question, TraceError, TraceStore


def save(folder: Path, gold: str = "a") -> Path:
    """Save a small store, identified by its gold answer."""
    TraceStore.from_branches([Question("q", gold, [Branch(["a"], 10, "a")])], 500).save(folder)
    return folder


def golds(environment: str | os.PathLike[str]) -> dict[str, str]:
    stores = registry.open_stores(environment)
    return {name: store.question(0).gold for name, store in stores.items()}


@dataclass
class Places:
    """The lookup folders, empty at first; ``extra`` is AUTOTTS_ENVS."""

    extra: tuple[Path, Path]
    user: Path
    bundled: Path


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    there = Places((tmp_path / "one", tmp_path / "two"), tmp_path / "user", tmp_path / "envs")
    monkeypatch.setenv("AUTOTTS_ENVS", os.pathsep.join(["", *map(str, there.extra), ""]))
    monkeypatch.setattr(registry, "user_folder", lambda: there.user)
    monkeypatch.setattr(registry, "bundled", {"envs": there.bundled}.__getitem__)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    return there


# --- lookup of names -----------------------------------------------------------------------------


def test_order_of_lookup(places: Places) -> None:
    order = [*places.extra, places.user, places.bundled]
    assert registry.folders() == order
    for folder in reversed(order):
        save(folder / "x", gold=folder.name)
        assert golds("x") == {"x": folder.name}
        assert registry.listing() == {"x": folder / "x"}


def test_no_extra_folders(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AUTOTTS_ENVS")
    assert registry.folders() == [places.user, places.bundled]


def test_user_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(registry, "user_data_path", lambda *_, **__: tmp_path)
    assert registry.user_folder() == tmp_path / "envs"


def test_bundled_in_a_checkout_and_installed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert registry.bundled("nothing") == Path(registry.__file__).parents[2] / "nothing"
    (tmp_path / "agents").mkdir()
    monkeypatch.setattr("autotts_gym.__path__", [str(tmp_path)])
    assert registry.bundled("agents") == tmp_path / "agents"


# --- groups --------------------------------------------------------------------------------------


def test_group(places: Places) -> None:
    names = ["pub/A/x", "pub/A/y", "pub/B/x"]
    for name in reversed(names):
        save(places.user / name, gold=name)
    save(places.user / "public")
    assert golds("pub") == {name: name for name in names}
    assert golds("pub/A") == {name: name for name in names[:2]}
    assert golds("pub/B/x") == {"pub/B/x": "pub/B/x"}
    assert list(registry.resolve("pub")) == names
    assert list(registry.listing()) == [*names, "public"]


def test_first_folder_with_the_group_is_used(places: Places) -> None:
    save(places.extra[1] / "pub/A")
    save(places.user / "pub/B")
    (places.extra[0] / "pub").mkdir(parents=True)  # empty, so it is skipped
    assert registry.resolve("pub") == {"pub/A": places.extra[1] / "pub/A"}
    assert registry.resolve("pub/B") == {"pub/B": places.user / "pub/B"}
    assert list(registry.listing()) == ["pub/A", "pub/B"]


def test_hidden_and_unfinished_folders_are_skipped(places: Places) -> None:
    for name in ("pub/A", "pub/.A-half", "pub/__pycache__/A"):
        save(places.user / name)
    (places.user / "pub/notes.txt").write_text("")
    assert list(registry.resolve("pub")) == ["pub/A"]
    assert list(registry.listing()) == ["pub/A"]


# --- paths ---------------------------------------------------------------------------------------


def test_path_of_a_store_and_of_a_folder_of_stores(tmp_path: Path, places: Places) -> None:
    a, b = save(tmp_path / "my stores/a", "1"), save(tmp_path / "my stores/deep/b", "2")
    assert golds(a) == golds(str(a)) == {a.as_posix(): "1"}
    assert golds(a.parent) == {a.as_posix(): "1", b.as_posix(): "2"}
    assert registry.listing() == {}


def test_name_takes_precedence_over_path(places: Places) -> None:
    save(Path("x"), "path")
    assert golds("x") == {"x": "path"}
    save(places.bundled / "x", "name")
    assert golds("x") == {"x": "name"}
    assert golds("./x") == {"x": "path"}
    assert golds(Path("x").absolute()) == {Path("x").absolute().as_posix(): "path"}


# --- opening -------------------------------------------------------------------------------------


def test_store_is_opened_once(places: Places) -> None:
    folder = save(places.user / "x")
    by_name, by_path = registry.open_stores("x")["x"], registry.open_stores(folder)
    assert registry.open_stores("x")["x"] is by_name
    assert next(iter(by_path.values())) is by_name


def test_replaced_store_is_reopened(places: Places) -> None:
    folder = save(places.user / "x", "old")
    assert golds("x") == {"x": "old"}
    folder.rename(places.user / "away")
    save(folder, "new")
    os.utime(folder / "card.yaml", ns=(0, 0))  # the clock may be too coarse for this test
    assert golds("x") == {"x": "new"}


def test_invalid_store(places: Places) -> None:
    (save(places.user / "x") / "card.yaml").write_text("- 1")
    with pytest.raises(TraceError, match=r"card\.yaml: must be a mapping, not list"):
        registry.open_stores("x")


# --- unknown environments ------------------------------------------------------------------------


def test_unknown_environment(places: Places) -> None:
    with pytest.raises(TraceError) as caught:
        registry.resolve("aime")
    assert str(caught.value) == "there is no environment 'aime', by name or by path; known: none"
    save(places.bundled / "z")
    save(places.user / "pub/A")
    for unknown in ("aime", "pub/B", "./pub", str(places.user / "nowhere")):
        with pytest.raises(TraceError) as caught:
            registry.open_stores(unknown)
        assert str(caught.value) == (
            f"there is no environment {unknown!r}, by name or by path; known: pub/A, z"
        )


@pytest.mark.parametrize("name", ["x", "synthetic-aime24", "pub/Qwen3-0.6B/aime24", "a_b.c", "7"])
def test_valid_name(name: str) -> None:
    registry.check_name(name)


@pytest.mark.parametrize(
    "name",
    ["", "/a", "a/", "a//b", ".a", "a/.b", "..", "a/../b", "-a", "a b", "a\\b", "a\n", "ä", "C:a"],
)
def test_invalid_name(name: str) -> None:
    with pytest.raises(TraceError) as caught:
        registry.check_name(name)
    assert str(caught.value) == (
        f"{name!r} is not a valid environment name: use letters, digits, '.', '_' and '-', "
        "with '/' between the parts of a group"
    )
