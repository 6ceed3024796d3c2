"""The search / held-out split of a set of environments."""

from __future__ import annotations

from pathlib import Path

import pytest

from autotts_gym.traces import splits
from autotts_gym.traces.published_import import import_published
from autotts_gym.traces.splits import SET, split_of
from autotts_gym.traces.store import TraceError

FILE = (
    '[{"question": "?", "gold_answer": "2", "probe_freq": 500, '
    '"each_branch": [[["2"], 612, "2"]], "final_answers_trace": ["2"]}]'
)


def make_folder(folder: Path, name: str) -> Path:
    path = folder / name
    path.mkdir(parents=True)
    return path


def test_set_defines_the_splits(tmp_path: Path) -> None:
    (tmp_path / SET).write_text("search: ['*/a', c]\nheld-out: ['*/b']\n")
    names = {"m/a": "search", "n/a": "search", "m/b": "held-out", "c": "search", "m/d": ""}
    assert {name: split_of(make_folder(tmp_path, name)) for name in names} == names


def test_nearest_set_is_used(tmp_path: Path) -> None:
    (tmp_path / SET).write_text("search: ['*/*']\n")
    near = make_folder(tmp_path, "group/a")
    assert split_of(near) == "search"
    (tmp_path / "group" / SET).write_text("held-out: [a]\n")
    assert split_of(near) == "held-out"


def test_without_a_set_there_is_no_split(tmp_path: Path) -> None:
    assert split_of(make_folder(tmp_path, "a")) == ""
    assert split_of(None) == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("search: [a", "cannot be read"),
        ("- a", "must list the environments"),
        ("held_out: [a]", "must list the environments"),
        ("search: a", "must list the environments"),
        ("search: [1]", "must list the environments"),
        ("search: ['*']\nheld-out: [a]", "has a both in search and in held-out"),
    ],
)
def test_invalid_set(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / SET).write_text(text)
    with pytest.raises(TraceError, match=f"{SET}: {message}"):
        split_of(make_folder(tmp_path, "a"))


def test_dump_round_trip(tmp_path: Path) -> None:
    (tmp_path / SET).write_text(splits.dump(["a"], ["b", "c"]))
    names = {"a": "search", "b": "held-out", "c": "held-out"}
    assert {name: split_of(make_folder(tmp_path, name)) for name in names} == names


def published(folder: Path) -> Path:
    for model in ("M", "N"):
        for benchmark in ("easy", "hard"):
            file = folder / model / f"{benchmark}.json"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(FILE)
    return folder


def test_import_writes_the_splits(tmp_path: Path) -> None:
    stores = import_published(
        published(tmp_path / "in"), "group", tmp_path / "envs", search=["*/easy"]
    )
    assert {name: split_of(store.path) for name, store in stores.items()} == {
        "group/M/easy": "search",
        "group/M/hard": "held-out",
        "group/N/easy": "search",
        "group/N/hard": "held-out",
    }


def test_import_with_a_pattern_without_match(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"matches 'easy'; it has M/easy, M/hard, N/easy"):
        import_published(published(tmp_path / "in"), "group", tmp_path / "envs", search=["easy"])
    assert not (tmp_path / "envs" / "group").exists()
