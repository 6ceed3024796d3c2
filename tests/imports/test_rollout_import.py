"""Imports of files that the real programs wrote (``tests/fixtures/rollouts``), and of bad ones."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

import autotts_gym
from autotts_gym.answers.grading import grade
from autotts_gym.controllers.loader import load
from autotts_gym.imports.file_formats import recognise
from autotts_gym.tinylm import model_path
from autotts_gym.traces import registry
from autotts_gym.traces.store import FrozenError, TraceError, TraceStore

FILES = Path(__file__).parents[1] / "fixtures/rollouts"
ROWS = [json.loads(line) for line in (FILES / "questions.jsonl").read_text("utf-8").splitlines()]
TOKENIZER = str(model_path("medium"))

#: Format, file, branches of a question, and options, of files with the questions of ``ROWS``.
CHAINS: dict[str, tuple[str, str, int, dict[str, Any]]] = {
    "lm-eval": ("lm-eval", "samples_chain.jsonl", 3, {"tokenizer": TOKENIZER}),
    "inspect archive": ("inspect", "inspect.eval", 3, {}),
    "inspect JSON": ("inspect", "inspect.json", 1, {}),
    "verifiers 0.1": ("verifiers", "verifiers_01.jsonl", 3, {}),
    "verifiers": ("verifiers", "verifiers.jsonl", 3, {}),
    "batch": (
        "batch",
        "batch_outputs.jsonl",
        3,
        {"requests": FILES / "batch_requests.jsonl", "questions": FILES / "questions.jsonl"},
    ),
}


def imported(name: str, folder: Path, **more: Any) -> TraceStore:
    _, file, _, options = CHAINS[name]
    return autotts_gym.import_rollouts(
        FILES / file, "made", to=folder, **{"protocol": "tinylm", **options, **more}
    )


@pytest.mark.parametrize("name", CHAINS)
def test_files_of_real_programs(name: str, tmp_path: Path) -> None:
    kind, file, width, _ = CHAINS[name]
    assert recognise(FILES / file) == kind
    store = imported(name, tmp_path)
    assert store.card.details["imported"]["format"] == kind
    assert store.card.details["branches_per_question"] == width
    assert store.card.probes == 0
    assert len(store) == len(ROWS)
    asked = {row["question"].strip(): row["answer"] for row in ROWS}
    for question in store:
        text = question.text.removeprefix("q:").strip()
        assert question.gold == asked.pop(text)
        for branch in question.branches:
            # The texts are those of the model: a chain, the end of the reasoning, an answer.
            assert branch.text is not None
            found = re.findall("answer:([0-9]+)", branch.text.rpartition("</think>")[2])
            assert branch.final == (found[-1] if found else "No")
            assert 10 < branch.tokens <= store.card.interval
    assert not asked
    longest = max(branch.tokens for question in store for branch in question.branches)
    assert store.card.interval == longest
    correct = [b.final == q.gold for q in store for b in q.branches]
    assert any(correct)


def test_recorded_tokens_are_those_of_the_tokenizer(tmp_path: Path) -> None:
    """Servers count the token that ends a completion, and so does ``--tokenizer``."""
    from autotts_gym.imports.token_counts import load_counter

    count = load_counter(TOKENIZER)
    for name in ("inspect archive", "verifiers 0.1", "verifiers", "batch"):
        store = imported(name, tmp_path / name.replace(" ", ""))
        for question in store:
            for branch in question.branches:
                assert branch.tokens == count(branch.text or "", "cut" in branch.flags), name
    counted = imported("lm-eval", tmp_path / "lm").card.details["imported"]["tokens"]
    assert counted == "tokenizer medium"


def test_texts_of_a_collection_are_imported_as_they_were_collected(tmp_path: Path) -> None:
    (bundled,) = registry.open_stores("tinylm/medium/chain").values()
    rows = [
        {
            "id": question.id,
            "question": question.text,
            "answer": question.gold,
            "completions": [branch.text for branch in question.branches[:20]],
        }
        for question in bundled[:5]
    ]
    options = {"protocol": "tinylm", "tokenizer": TOKENIZER, "to": tmp_path}
    store = autotts_gym.import_rollouts(write(tmp_path, *rows), "made", **options)
    for before, after in zip(bundled[:5], store, strict=True):
        assert after.id == before.id
        for old, new in zip(before.branches[:20], after.branches, strict=True):
            assert (new.text, new.tokens) == (old.text, old.tokens)
            assert (new.final == after.gold) == (old.final == before.gold)


def test_scores_of_logs_agree(tmp_path: Path) -> None:
    """Inspect's scorer found the same answers; so did a filter of lm-evaluation-harness."""
    facts = imported("inspect archive", tmp_path).card.details["imported"]
    assert facts["scores"] == facts["scores_that_agree"] == 3 * len(ROWS)


def test_documents_are_read_once_for_several_filters(tmp_path: Path) -> None:
    lines = (FILES / "samples_chain.jsonl").read_text("utf-8").splitlines()
    assert len(lines) == 2 * len(ROWS)
    assert {json.loads(line)["filter"] for line in lines} == {"first", "vote"}
    assert imported("lm-eval", tmp_path).card.branches == 3 * len(ROWS)


def test_a_task_without_texts(tmp_path: Path) -> None:
    with pytest.raises(TraceError) as caught:
        autotts_gym.import_rollouts(FILES / "samples_odd.jsonl", "odd", to=tmp_path)
    message = f"{FILES / 'samples_odd.jsonl'}: line 1: 'resps' must be one list of texts, got "
    assert str(caught.value).startswith(message)
    assert "only tasks with output_type: generate_until have texts" in str(caught.value)


def test_multiple_choice_and_reasoning_of_inspect(tmp_path: Path) -> None:
    store = autotts_gym.import_rollouts(FILES / "inspect_choices.eval", "sky", to=tmp_path)
    (question,) = store
    assert question.id == "7"
    assert "What is the colour of the sky?" in question.text
    assert "A) red" in question.text
    assert "B) blue" in question.text
    assert question.gold == "B"
    assert [branch.final for branch in question.branches] == ["B", "A"]
    assert question.branches[0].text == "<think>\nThe sky is blue.\n</think>\n\nANSWER: B"
    facts = store.card.details["imported"]
    assert facts["extractors"] == ["choice"]
    assert facts["scores"] == facts["scores_that_agree"] == 2
    assert {branch.tokens for branch in question.branches} == {12}


def test_failed_requests_are_left_out(tmp_path: Path) -> None:
    rows = map(json.loads, (FILES / "batch_outputs.jsonl").read_text("utf-8").splitlines())
    failed = [row for row in rows if row["error"] or row["response"]["status_code"] != 200]
    assert len(failed) == 1
    facts = imported("batch", tmp_path).card.details["imported"]
    assert facts["left_out"] == {"requests that failed": 1}


def test_batches_without_questions_or_requests(tmp_path: Path) -> None:
    store = imported("batch", tmp_path / "a", questions=None)
    assert store.tables.golds == [""] * len(ROWS)
    assert store.tables.texts == [row["question"] for row in ROWS]
    store = imported("batch", tmp_path / "b", requests=None)
    assert store.tables.golds == [row["answer"] for row in ROWS]
    with pytest.raises(TraceError, match=r"line 1: the question of custom_id '.*' is unknown"):
        imported("batch", tmp_path / "c", questions=None, requests=None)
    other = tmp_path / "other.jsonl"
    other.write_text('{"id": "none", "question": "?", "answer": "1"}\n', "utf-8")
    with pytest.raises(TraceError, match=r"line 1: custom_id '.*' fits no question of --questions"):
        imported("batch", tmp_path / "c", questions=other)


def test_the_card_has_no_paths(tmp_path: Path) -> None:
    for name in CHAINS:
        folder = tmp_path / name.replace(" ", "")
        imported(name, folder)
        card = (folder / "made/card.yaml").read_text("utf-8")
        assert str(FILES.parent) not in card
        assert str(Path(TOKENIZER).parent) not in card


@pytest.mark.parametrize("file", sorted(path.name for path in FILES.iterdir()))
def test_fixtures_name_no_machine(file: str) -> None:
    content = (FILES / file).read_bytes()
    if file.endswith(".eval"):
        from autotts_gym.imports import inspect_logs

        with (FILES / file).open("rb") as archive:
            import zipfile

            members = zipfile.ZipFile(archive).infolist()
            content = b"".join(inspect_logs._decompress(archive, each) for each in members)
    assert not re.search(rb"/(?:home|root|tmp|work|usr|opt)/", content), file
    assert len(content) < 200_000


# --- playing -------------------------------------------------------------------------------------


def test_controllers_read_whole_branches(tmp_path: Path) -> None:
    """Self-consistency answers the plurality, and pays for all tokens of all branches."""
    store = imported("inspect archive", tmp_path)
    env = gym.make("AutoTTS-v0", env=str(store.path), max_branches=3)
    for row, question in enumerate(store):
        options = {"question": row, "branch_order": [0, 1, 2], "beta": 0.5}
        played = load("self_consistency").play(env, seed=0, **options)
        (leader, most), *others = Counter(b.final for b in question.branches).most_common()
        assert played["tokens"] == sum(branch.tokens for branch in question.branches)
        if all(count < most for _, count in others):
            assert played["correct"] == (leader == question.gold)


# --- errors --------------------------------------------------------------------------------------


def write(folder: Path, *rows: dict[str, Any], name: str = "rows.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


GOOD: dict[str, Any] = {"question": "?", "answer": "2", "completions": ["2"], "tokens": [3]}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([GOOD, GOOD | {"answer": "3"}], "line 2: the same question has another gold answer in "),
        (
            [GOOD | {"id": 1}, GOOD | {"id": 1, "question": "??"}],
            "line 2: the id '1' has another question in ",
        ),
        ([GOOD | {"tokens": None}], "line 1: the number of tokens is not recorded: name the"),
        ([GOOD | {"completions": ["\ud800"]}], "line 1: a text is not valid Unicode"),
    ],
)
def test_invalid_files(tmp_path: Path, rows: list[dict[str, Any]], message: str) -> None:
    path = write(tmp_path, *rows)
    with pytest.raises(TraceError) as caught:
        autotts_gym.import_rollouts(path, "made", to=tmp_path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"question": "?"\n', "line 1: malformed JSON at column 17: "),
        (b'{"question": "?", "question": "!"}\n', "line 1: an object has the key 'question' twice"),
        (b"[1]\n", "line 1: must be an object with named fields, got [1]"),
        (b'{"a": "\xff"}\n', "line 1: not UTF-8: byte 0xff at offset 7"),
        (b"[" * 100_000, "JSON nested too deeply"),
        (b"", "no question field"),
    ],
)
def test_damaged_files(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    for kind in ("lm-eval", "batch", "verifiers", "completions", None):
        if not content and kind not in ("completions", None):
            continue
        with pytest.raises(TraceError) as caught:
            autotts_gym.import_rollouts(path, "made", format=kind, to=tmp_path)
        assert str(caught.value).startswith(f"{path}: "), kind
        if content or kind is None:
            expected = "contains no rows" if not content else message
            assert expected in str(caught.value), kind


@pytest.mark.parametrize("kind", ["lm-eval", "batch", "verifiers", "inspect"])
def test_files_without_completions(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"samples": []}' if kind == "inspect" else "\n", "utf-8")
    with pytest.raises(TraceError, match="no completions"):
        autotts_gym.import_rollouts(path, "made", format=kind, to=tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "pickle"}, "the format 'pickle' is not one of rollouts: lm-eval, batch"),
        ({"format": "published"}, "the format 'published' is not one of rollouts"),
        ({"extractors": ["boxes"]}, "no extractor is called 'boxes'"),
        ({"extractors": ["boxed"], "protocol": "chat"}, "give extractors or a protocol, not both"),
        ({"interval": 3}, "an interval is for traces with probes"),
        ({"protocol": "nosuch"}, "there is no protocol 'nosuch'"),
        ({"tokenizer": "./nowhere"}, "tokenizer './nowhere': cannot be loaded"),
        ({"name": "../x"}, "is not a valid environment name"),
    ],
)
def test_invalid_options(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    path = write(tmp_path, GOOD)
    arguments = {"name": "made", "to": tmp_path / "envs", **options}
    with pytest.raises(ValueError, match=re.escape(message)):
        autotts_gym.import_rollouts(path, **arguments)
    assert not (tmp_path / "envs").exists()


def test_a_tokenizer_needs_transformers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    path = write(tmp_path, GOOD)
    with pytest.raises(TraceError, match="counting tokens needs the package transformers"):
        autotts_gym.import_rollouts(path, "made", tokenizer=TOKENIZER, to=tmp_path)


def test_existing_environments_stay(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    made = autotts_gym.import_rollouts(path, "made", to=tmp_path)
    with pytest.raises(FrozenError):
        autotts_gym.import_rollouts(write(tmp_path, GOOD, GOOD), "made", to=tmp_path)
    assert TraceStore.open(tmp_path / "made").card == made.card


def test_several_files_are_one_environment(tmp_path: Path) -> None:
    one = write(tmp_path, GOOD, name="one.jsonl")
    two = write(tmp_path, GOOD | {"completions": ["3"]}, GOOD | {"question": "!"}, name="two.jsonl")
    store = autotts_gym.import_rollouts([one, two], "made", to=tmp_path)
    assert [[b.final for b in question.branches] for question in store] == [["2", "3"], ["2"]]
    assert store.card.details["source"] == ["one.jsonl", "two.jsonl"]
    assert "branches_per_question" not in store.card.details


def test_answers_are_graded_as_everywhere(tmp_path: Path) -> None:
    texts = [r"\boxed{\frac{1}{2}}", "The answer is 0.5.", "It is 3/6", "No idea", ""]
    row = {"question": "?", "answer": "0.5", "completions": texts, "tokens": [5] * 5}
    store = autotts_gym.import_rollouts(write(tmp_path, row), "made", to=tmp_path)
    (question,) = store
    assert [branch.final == question.gold for branch in question.branches] == [
        *[True] * 3,
        *[False] * 2,
    ]
    for branch in question.branches[:3]:
        assert grade("0.5", list(branch.raw or ())[-1])
    flags = ["", "", "", "unanswered", "empty unanswered"]
    assert [branch.flags for branch in question.branches] == flags


Command = Callable[..., Any]  # see conftest.py


def test_command(autotts: Command, tmp_path: Path, user_envs: Path) -> None:
    path = write(tmp_path, GOOD | {"completions": ["2", "x"], "tokens": [3, 4]})
    done = autotts("import", path, "--name", "mine", "--extractors", "number")
    assert done.code == 0, done.err
    assert done.out.splitlines() == [
        "imported mine (completions): 1 questions, 2 branches, 7 tokens, no probes",
        "accuracy of a branch 50.0%; answers found by number",
        "branches: 1 without an answer",
    ]
    assert TraceStore.open(user_envs / "mine").card.branches == 2
    played = ["benchmark", "self_consistency", "--env", "mine", "--max-branches", "2"]
    for command in (["envs"], ["describe", "mine"], played):
        shown = autotts(*command)
        assert shown.code == 0, shown.err
    bad = autotts("import", write(tmp_path, {"a": 1}), "--name", "other")
    assert bad.code == 1
    assert "no question field (question, problem, prompt, text); name it with" in bad.err
    assert "--search is for a folder" in autotts("import", path, "--name", "b", "--search", "x").err
    assert (
        "expected one of published" in autotts("import", path, "--name", "b", "--format", "x").err
    )
