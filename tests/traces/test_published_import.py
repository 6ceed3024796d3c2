"""Import of published files: validation, content, and atomicity."""

from __future__ import annotations

import copy
import errno
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autotts_gym.traces import registry
from autotts_gym.traces.published_import import import_published, read_published
from autotts_gym.traces.store import (
    NULL_ANSWERS,
    Branch,
    FrozenError,
    Question,
    TraceError,
    TraceStore,
)

ONE = {
    "question": "1 + 1?",
    "gold_answer": "2",
    "probe_freq": 500,
    "each_branch": [[["No", "3", "2"], 1612, "2"], [[], 17, "3"], [["2"], 900, "ERR"]],
    "final_answers_trace": ["2", "3", "ERR"],
}
TWO = {
    "question": "Was für ein Δ?\n",
    "gold_answer": "½",
    "probe_freq": 500,
    "each_branch": [[["½", ""], 1000, "½"], [["0.5"], 400, "½"], [["No"], 501, ""]],
    "final_answers_trace": ["½", "½", ""],
}
VALID: list[Any] = [ONE, TWO]


def put(folder: Path, content: Any, name: str = "model/bench.json") -> Path:
    """Write a trace file from bytes, or from a value as JSON."""
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return file


def decoded(store: TraceStore) -> list[Question]:
    return [store.question(row) for row in range(store.card.questions)]


def expected_questions(entries: list[dict[str, Any]]) -> list[Question]:
    """The content of a valid file, read directly."""
    return [
        Question(
            q["question"], q["gold_answer"], [Branch(*b) for b in q["each_branch"]], id=str(row)
        )
        for row, q in enumerate(entries)
    ]


def second(**changes: Any) -> list[Any]:
    """The valid file with its second question changed."""
    return [ONE, TWO | changes]


def branch(*changed: Any) -> list[Any]:
    """The valid file with branch 1 of question 1 changed (its repeated final answer too)."""
    branches = [TWO["each_branch"][0], list(changed), TWO["each_branch"][2]]  # type: ignore[index]
    return second(each_branch=branches, final_answers_trace=[b[-1] for b in branches])


def without(key: str) -> list[Any]:
    return [ONE, {k: v for k, v in TWO.items() if k != key}]


# --- validation ----------------------------------------------------------------------------------

KEYS = "question, gold_answer, probe_freq, each_branch, final_answers_trace"
CUT = "(the file ends there: is it complete?)"
TOKENS = "question 1, branch 1: tokens must be a positive integer below 2**31, got "
FREQ = "question 1: probe_freq: the interval must be a positive integer (tokens), got "
TRIPLE = "question 1, branch 1: must be a list [probe answers, tokens, final answer], got "

BAD: dict[str, tuple[Any, str]] = {
    # The bytes.
    "empty": (b"", f"malformed JSON at line 1, column 1: Expecting value {CUT}"),
    "syntax": (b'[\n {"a" 1}]', "malformed JSON at line 2, column 7: Expecting ':' delimiter"),
    "rest": (b"[] x", "malformed JSON at line 1, column 4: Extra data"),
    "cut in a list": (
        b'[{"question": "a",\n',
        f"malformed JSON at line 2, column 1: Expecting property name enclosed in double quotes "
        f"{CUT}",
    ),
    "cut in a string": (
        b'[{"question": "a',
        f"malformed JSON at line 1, column 15: Unterminated string starting at {CUT}",
    ),
    "cut in a character": (
        '["½'.encode()[:-1],
        "not UTF-8: byte 0xc2 at offset 2: unexpected end of data",
    ),
    "Latin-1": (b'["\xe9"]', "not UTF-8: byte 0xe9 at offset 2: invalid continuation byte"),
    "UTF-16": ("[]".encode("utf-16"), "not UTF-8: byte 0xff at offset 0: invalid start byte"),
    "surrogate bytes": (b'["\xed\xa0\x80"]', "not UTF-8: byte 0xed at offset 2"),
    "byte order mark": (b"\xef\xbb\xbf[]", "malformed JSON at line 1, column 1: Unexpected UTF-8"),
    "deep": (b"[" * 100_000, "JSON nested too deeply; a trace file has 5 levels"),
    "long integer": (
        b"[" + b"9" * 5000 + b"]",
        "an integer of 5000 digits (99999999...); too long for any field of a trace",
    ),
    "NaN": (b"[NaN]", "malformed JSON: NaN is not a JSON value"),
    "infinity": (second(extra=float("-inf")), "malformed JSON: -Infinity is not a JSON value"),
    # The questions.
    "object": ({"a": 1}, "must be a list of questions, got an object"),
    "null": (None, "must be a list of questions, got null"),
    "string": ("traces", "must be a list of questions, got a string"),
    "no questions": ([], "the list of questions is empty; at least one is needed"),
    "question a list": ([ONE, []], f"question 1: must be an object with {KEYS}, got a list"),
    "question a number": ([1.5], f"question 0: must be an object with {KEYS}, got a number"),
    "question true": ([True], f"question 0: must be an object with {KEYS}, got true"),
    "no keys": ([ONE, {}], f"question 1: lacks {KEYS}"),
    **{f"no {key}": (without(key), f"question 1: lacks {key}") for key in ONE},
    "text a number": (second(question=7), "question 1: its text must be a string, got int"),
    "gold a number": (
        second(gold_answer=204),
        "question 1: its gold answer must be a string, got int",
    ),
    "surrogate in the text": (
        second(question="ab\ud800"),
        r"question 1: its text is not valid Unicode: lone surrogate '\ud800' at character 2",
    ),
    "surrogate in the gold answer": (
        second(gold_answer="\udfff"),
        r"question 1: its gold answer is not valid Unicode: lone surrogate '\udfff'",
    ),
    # The interval.
    "interval 0": (second(probe_freq=0), f"{FREQ}0"),
    "interval negative": (second(probe_freq=-500), f"{FREQ}-500"),
    "interval true": (second(probe_freq=True), f"{FREQ}True"),
    "interval real": (second(probe_freq=500.0), f"{FREQ}500.0"),
    "interval string": (second(probe_freq="500"), f"{FREQ}'500'"),
    "interval huge": (second(probe_freq=2**31), f"{FREQ}2147483648"),
    "intervals": (
        second(probe_freq=250),
        "question 1: probe_freq is 250, but 500 in question 0; a file has one interval",
    ),
    # The branches.
    "branches an object": (
        second(each_branch={}),
        "question 1: each_branch must be a list, got an object",
    ),
    "finals null": (
        second(final_answers_trace=None),
        "question 1: final_answers_trace must be a list, got null",
    ),
    "no branches": (
        second(each_branch=[], final_answers_trace=[]),
        "question 1: has no branches; at least one is needed",
    ),
    "branch of two": (branch(["1"], 5), f"{TRIPLE}[['1'], 5]"),
    "branch of four": (branch(["1"], 5, "1", "1"), f"{TRIPLE}[['1'], 5, '1', '1']"),
    "branch an object": (
        second(each_branch=[TWO["each_branch"][0], {"0": 1}]),  # type: ignore[index]
        TRIPLE + "{'0': 1}",
    ),
    "tokens 0": (branch(["1"], 0, "1"), f"{TOKENS}0"),
    "tokens negative": (branch(["1"], -3, "1"), f"{TOKENS}-3"),
    "tokens true": (branch(["1"], True, "1"), f"{TOKENS}True"),
    "tokens real": (branch(["1"], 5.0, "1"), f"{TOKENS}5.0"),
    "tokens string": (branch(["1"], "5", "1"), f"{TOKENS}'5'"),
    "tokens null": (branch(["1"], None, "1"), f"{TOKENS}None"),
    "tokens huge": (branch(["1"], 2**31, "1"), f"{TOKENS}2147483648"),
    "probes a string": (
        branch("12", 5, "1"),
        "question 1, branch 1: probes must be a list of strings, got str",
    ),
    "probes null": (
        branch(None, 5, "1"),
        "question 1, branch 1: probes must be a list of strings, got NoneType",
    ),
    "probe a number": (
        branch(["1", 2], 5, "1"),
        "question 1, branch 1: answers must be strings, got 2",
    ),
    "probe null": (
        branch([None], 5, "1"),
        "question 1, branch 1: answers must be strings, got None",
    ),
    "final a number": (
        branch(["1"], 5, 1),
        "question 1, branch 1: answers must be strings, got 1",
    ),
    "surrogate in a probe": (
        branch(["1", "\udc00"], 5, "1"),
        r"question 1, branch 1: an answer is not valid Unicode: lone surrogate '\udc00'",
    ),
    "surrogate in a final answer": (
        branch(["1"], 5, "a\ud800b"),
        "question 1, branch 1: an answer is not valid Unicode",
    ),
    "key twice": (
        b'[{"question": "1?", "question": "2?"}]',
        "an object has the key 'question' twice",
    ),
    "finals fewer": (
        second(final_answers_trace=["½"]),
        "question 1: final_answers_trace has 1 answers for 3 branches",
    ),
    "finals differ": (
        second(final_answers_trace=["½", "1/2", "x"]),
        "question 1, branch 1: its final answer is '½', but '1/2' in final_answers_trace",
    ),
    "too many classes": (
        second(each_branch=[[[str(n) for n in range(2**15)], 9, ""]], final_answers_trace=[""]),
        "question 1: 32769 different answers; a question can have 32767",
    ),
}


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD.keys())
def test_bad_file(tmp_path: Path, content: Any, message: str) -> None:
    file = put(tmp_path, content)
    with pytest.raises(TraceError) as caught:
        import_published(file, "new", tmp_path / "envs")
    assert str(caught.value).startswith(f"{file}: {message}")
    assert len(str(caught.value)) < len(str(file)) + 300
    assert not (tmp_path / "envs").exists()


@pytest.mark.parametrize(
    ("name", "code"), [("nowhere.json", errno.ENOENT), ("folder.json", errno.EISDIR)]
)
def test_unreadable_file(tmp_path: Path, name: str, code: int) -> None:
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(TraceError) as caught:
        read_published(tmp_path / name)
    assert str(caught.value) == f"{tmp_path / name}: cannot be read: {os.strerror(code)}"


def test_nesting_near_the_recursion_limit(tmp_path: Path) -> None:
    """Values that can barely be parsed are too deep to be printed or compared."""
    limit = sys.getrecursionlimit()
    for depth in range(limit - 200, limit, 4):
        nested = "[" * depth + "]" * depth
        entry = json.dumps(branch(["1"], 5, "HERE")).replace('"HERE"', nested)
        file = put(tmp_path, entry.encode())
        with pytest.raises(TraceError, match=r"bench\.json: (question 1, branch 1|JSON nested)"):
            read_published(file)


# --- fuzzing -------------------------------------------------------------------------------------


def check_any(content: bytes) -> None:
    """The import has exactly the content of the JSON, or raises a TraceError and writes nothing."""
    with tempfile.TemporaryDirectory() as folder:
        file = put(Path(folder), content, "model/fuzzed.json")
        target = Path(folder) / "envs"
        target.mkdir()
        message = None
        try:
            stores = import_published(file, "new", target)
        except TraceError as error:
            message = str(error)
        if message is not None:
            assert str(file) in message
            assert list(target.iterdir()) == []
        else:
            entries = json.loads(content)
            assert list(stores) == ["new"]
            assert decoded(TraceStore.open(target / "new")) == expected_questions(entries)
            assert stores["new"].card.interval == entries[0]["probe_freq"]
            assert [path.name for path in target.iterdir()] == ["new"]


@st.composite
def broken_bytes(draw: st.DrawFn) -> bytes:
    ascii_only = draw(st.booleans())
    content = bytearray(json.dumps(VALID, ensure_ascii=ascii_only, indent=1).encode())
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(0, len(content) - 1)))
        match draw(st.sampled_from(["flip", "truncate", "insert", "delete"])):
            case "flip" if content:
                content[at] ^= 1 << draw(st.integers(0, 7))
            case "truncate":
                del content[at:]
            case "insert":
                content[at:at] = draw(st.binary(min_size=1, max_size=4))
            case "delete":
                del content[at : at + draw(st.integers(1, 40))]
    return bytes(content)


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, 1, -1, 2**31 - 1, 2**31, 2**63, 10**700, 0.5, 1e999, float("nan")]),
    st.text(st.characters(codec=None, categories=["L", "N", "Cs"]), max_size=3),
    st.sampled_from(["", "No", "½", "\ud800"]),
)
JSON = st.recursive(
    ODD,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) in a JSON value."""
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from places(value[key])


@st.composite
def broken_structure(draw: st.DrawFn) -> bytes:
    entries: Any = copy.deepcopy(VALID)
    for _ in range(draw(st.integers(1, 3))):
        everywhere = list(places(entries))
        if not everywhere:
            break
        container, key = draw(st.sampled_from(everywhere))
        match draw(st.sampled_from(["replace", "delete", "insert", "copy"])):
            case "replace":
                container[key] = draw(JSON)
            case "delete":
                del container[key]
            case "insert" if isinstance(container, list):
                container.insert(key, draw(JSON))
            case "insert":
                container[draw(st.text(max_size=3))] = draw(JSON)
            case "copy":
                other, place = draw(st.sampled_from(everywhere))
                container[key] = copy.deepcopy(other[place])
    return json.dumps(entries).encode()


@settings(max_examples=150, deadline=None)
@given(broken_bytes())
def test_any_bytes(content: bytes) -> None:
    check_any(content)


@settings(max_examples=250, deadline=None)
@given(broken_structure())
def test_any_structure(content: bytes) -> None:
    check_any(content)


# --- content -------------------------------------------------------------------------------------


def test_one_file(tmp_path: Path) -> None:
    file = put(tmp_path, [entry | {"more": [1.5, None]} for entry in VALID])
    stores = import_published(file, "group/one", tmp_path / "envs")
    assert list(stores) == ["group/one"]
    store = stores["group/one"]
    assert store.path == tmp_path / "envs/group/one"
    assert decoded(store) == expected_questions(VALID)
    assert store.tables.nulls[1] == [answer in NULL_ANSWERS for answer in store.tables.answers[1]]
    assert decoded(read_published(file)) == expected_questions(VALID)
    assert read_published(file).card == store.card


def test_largest_values(tmp_path: Path) -> None:
    most = [[[str(n) for n in range(2**15 - 1)], 2**31 - 1, "0"]]
    entry = ONE | {"probe_freq": 2**31 - 1, "each_branch": most, "final_answers_trace": ["0"]}
    store = import_published(put(tmp_path, [entry]), "new", tmp_path)["new"]
    assert decoded(store) == expected_questions([entry])


def test_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", {"autotts_gym": "1.2.3"}.__getitem__)
    file = put(tmp_path, VALID)
    card = import_published(file, "new", tmp_path)["new"].card
    assert (card.interval, card.questions, card.branches, card.probes) == (500, 2, 6, 8)
    assert (card.depth, card.synthetic) == (4, False)
    assert card.details == {
        "model": "model",
        "benchmark": "bench",
        "source": "bench.json",
        "source_sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "branches_per_question": 3,
        "null_answers": ["", "ERR", "No"],
        "imported_with": "1.2.3",
    }


def test_same_file_same_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = put(tmp_path / "here", VALID), put(tmp_path / "there", VALID)
    monkeypatch.chdir(there.parent)
    for name, file in ("a", here), ("b", Path(there.name)), ("c", Path("../model/bench.json")):
        import_published(file, name, tmp_path)
    cards = {(tmp_path / name / "card.yaml").read_text("utf-8") for name in "abc"}
    assert len(cards) == 1
    assert str(tmp_path) not in cards.pop()


def test_card_without_a_version_and_with_different_widths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(_: str) -> str:
        raise metadata.PackageNotFoundError

    monkeypatch.setattr(metadata, "version", version)
    one = ONE | {"each_branch": [[[], 5, "2"]], "final_answers_trace": ["2"]}
    details = read_published(put(tmp_path, [one, TWO])).card.details
    assert details["imported_with"] == "unknown"
    assert "branches_per_question" not in details


@pytest.mark.skipif(sys.platform != "linux", reason="file names are Unicode elsewhere")
def test_file_name_that_is_not_unicode(tmp_path: Path) -> None:
    file = put(tmp_path, VALID, os.fsdecode(b"m\xff/b\xfe.json"))
    details = import_published(file, "new", tmp_path)["new"].card.details
    assert (details["model"], details["source"]) == ("m�", "b�.json")


# --- folders of files ----------------------------------------------------------------------------


def test_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "release"
    for number, name in enumerate(["B-1.7/y.json", "A/z.v2.json", "A/y.json"]):
        put(source, [ONE | {"question": str(number)}], name)
    for name in ("top.json", "A/deep/x.json", "A/notes.txt", ".cache/x.json", "A/._y.json"):
        put(source, b"never read", name)
    (source / "A/folder.json").mkdir()
    monkeypatch.setattr(registry, "user_folder", lambda: tmp_path / "user")
    monkeypatch.delenv("AUTOTTS_ENVS", raising=False)
    events: list[tuple[str, int, int]] = []

    stores = import_published(source, "pub", progress=lambda *event: events.append(event))

    assert list(stores) == ["pub/A/y", "pub/A/z.v2", "pub/B-1.7/y"]
    assert [store.question(0).text for store in stores.values()] == ["2", "1", "0"]
    assert events == [
        (str(source / name), done, 3)
        for done, name in enumerate(["A/y.json", "A/z.v2.json", "B-1.7/y.json"], 1)
    ]
    assert stores["pub/A/z.v2"].card.details["model"] == "A"
    assert stores["pub/A/z.v2"].card.details["benchmark"] == "z.v2"
    resolved = {name: path for name, path in registry.listing().items() if name.startswith("pub/")}
    assert resolved == {name: tmp_path / "user" / name for name in stores}


@pytest.mark.parametrize("name", ["top.json", "a/b/deep.json", "a/notes.txt"])
def test_folder_without_trace_files(tmp_path: Path, name: str) -> None:
    put(tmp_path / "release", VALID, name)
    with pytest.raises(TraceError) as caught:
        import_published(tmp_path / "release", "new", tmp_path / "envs")
    assert str(caught.value) == (
        f"{tmp_path / 'release'}: no trace files; expected files <model>/<benchmark>.json"
    )
    assert not (tmp_path / "envs").exists()


@pytest.mark.parametrize("name", ["A/my file.json", "Ä/y.json", "A/-.json"])
def test_folder_with_an_invalid_name(tmp_path: Path, name: str) -> None:
    put(tmp_path / "release", VALID, "A/x.json")
    file = put(tmp_path / "release", VALID, name)
    with pytest.raises(TraceError, match="is not a valid environment name") as caught:
        import_published(tmp_path / "release", "new", tmp_path / "envs")
    assert str(caught.value).startswith(f"{file}: 'new/{name.removesuffix('.json')}'")


@pytest.mark.parametrize("name", ["", "/abs", "a//b", "../up", "a/", "a b", "a\n"])
def test_invalid_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(TraceError, match="is not a valid environment name"):
        import_published(put(tmp_path, VALID), name, tmp_path / "envs")
    assert not (tmp_path / "envs").exists()


# --- atomicity -----------------------------------------------------------------------------------


def interrupt(file: str, done: int, total: int) -> None:
    if done == 2:
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("last", "progress", "raised"),
    [(b"[", None, TraceError), (VALID, interrupt, KeyboardInterrupt)],
    ids=["bad file", "interrupted"],
)
def test_failure_leaves_nothing(
    tmp_path: Path,
    last: Any,
    progress: Callable[[str, int, int], None] | None,
    raised: type[BaseException],
) -> None:
    source, there = tmp_path / "release", tmp_path / "there"
    put(source, VALID, "A/x.json")
    put(source, last, "B/x.json")
    there.mkdir()
    with pytest.raises(raised):
        import_published(source, "a/b/new", there / "envs", progress)
    assert list(there.iterdir()) == []

    # Existing folders and their content stay.
    kept = import_published(put(tmp_path, VALID), "a/kept", there)["a/kept"]
    with pytest.raises(raised):
        import_published(source, "a/b/new", there, progress)
    assert [path.name for path in (there / "a").iterdir()] == ["kept"]
    assert decoded(kept) == expected_questions(VALID)


@pytest.mark.parametrize("what", ["store", "group", "file", "dangling link"])
def test_taken_name(tmp_path: Path, what: str) -> None:
    target = tmp_path / "envs/taken"
    match what:
        case "store":
            import_published(put(tmp_path, VALID), "taken", tmp_path / "envs")
        case "group":
            import_published(put(tmp_path, VALID), "taken/a/b", tmp_path / "envs")
        case "file":
            put(tmp_path, b"", "envs/taken")
        case _:
            target.parent.mkdir()
            target.symlink_to("nowhere")
    before = sorted(tmp_path.rglob("*"))
    # Raised before the source is read.
    with pytest.raises(FrozenError, match="taken exists already, and stores are frozen"):
        import_published(tmp_path / "nowhere", "taken", tmp_path / "envs")
    assert sorted(tmp_path.rglob("*")) == before


def test_name_inside_a_store(tmp_path: Path) -> None:
    import_published(put(tmp_path, VALID), "taken", tmp_path)
    with pytest.raises(FrozenError, match=r"inside the store .*taken, and that is frozen"):
        import_published(put(tmp_path, VALID), "taken/more", tmp_path)


def test_name_in_an_existing_group(tmp_path: Path) -> None:
    import_published(put(tmp_path, VALID), "group/a", tmp_path)
    import_published(put(tmp_path, VALID), "group/b", tmp_path)
    assert sorted(path.name for path in (tmp_path / "group").iterdir()) == ["a", "b"]


# --- the published files -------------------------------------------------------------------------


@pytest.fixture
def release() -> Path:
    beside = Path(__file__).parents[2].parent / "shared/data/autotts_release"
    folder = Path(os.environ.get("AUTOTTS_PUBLISHED") or beside)
    if not folder.is_dir():
        pytest.skip(f"no published trace files: {folder} is not a folder (set AUTOTTS_PUBLISHED)")
    return folder


def test_published_file(release: Path, tmp_path: Path) -> None:
    file = sorted(release.glob("*/*.json"))[0]
    store = import_published(file, "new", tmp_path)["new"]
    entries = json.loads(file.read_bytes())
    assert decoded(store) == expected_questions(entries)
    assert store.card.interval == entries[0]["probe_freq"]


def test_published_group(release: Path, tmp_path: Path) -> None:
    stores = import_published(release, "published", tmp_path)
    files = sorted(release.glob("*/*.json"))
    assert list(stores) == [f"published/{file.parent.name}/{file.stem}" for file in files]
    assert len({store.card.fingerprint for store in stores.values()}) == len(files)
    for store, file in zip(stores.values(), files, strict=True):
        branches = sum(len(entry["each_branch"]) for entry in json.loads(file.read_bytes()))
        assert len(store.tables.lengths) == store.card.branches == branches
