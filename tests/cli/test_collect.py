"""``autotts collect``: output, files and error messages."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import scripted_server
from scripted_server import ScriptedServer

from autotts_gym.cli.options import parse_engine_arguments
from autotts_gym.traces.store import TraceStore

#: A valid call, to which tests add options.
PLAN = ("--branches", 2, "--interval", 20, "--max-tokens", 60, "--temperature", 0)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as made:
        yield made


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    path = tmp_path / "few.jsonl"
    rows = [{"id": t, "question": t, "answer": "$57$"} for t in ("plain 1", "never", "empty")]
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    return path


@pytest.fixture
def collect(
    autotts: Callable[..., Any], server: ScriptedServer, questions: Path, tmp_path: Path
) -> Callable[..., Any]:
    """Run the call with more options; those that are None are omitted."""
    protocol = scripted_server.protocol_file(tmp_path)

    def run(*more: object, **options: object) -> Any:
        asked = {"questions": questions, "name": "few", "base_url": server.url}
        asked |= {"protocol": protocol, **options}
        arguments = [
            part
            for name, value in asked.items()
            if value is not None
            for part in (f"--{name.replace('_', '-')}", value)
        ]
        return autotts("collect", *PLAN, *arguments, *more)

    return run


def error(ended: Any) -> str:
    """The error message, which must be one line."""
    assert ended.code == 1
    assert ended.out == ""
    *before, line = ended.err.strip().splitlines()
    assert len(before) <= 1
    assert line.startswith("autotts: ")
    return str(line)


def test_collects(collect: Callable[..., Any], user_envs: Path, server: ScriptedServer) -> None:
    ended = collect()
    assert ended.code == 0
    assert ended.err == ""
    lines = ended.out.strip().splitlines()
    assert lines[0].startswith("collected few: 3 questions, 6 branches, ")
    assert lines[1] == "flagged branches: 4 cut at the token limit, 2 empty, 2 without an answer"
    assert lines[2] == f"the sampled data in {user_envs / '.few.collecting'} is no longer needed"
    card = TraceStore.open(user_envs / "few").card
    assert card.interval == 20
    details = card.details
    assert details["model"] == "scripted"
    assert details["benchmark"] == "few"
    assert details["engine"] == "vllm server"
    assert details["engine_version"] == "0.32.0"
    assert details["sampling"]["temperature"] == 0
    assert not card.synthetic
    # The environment can be opened.
    assert TraceStore.open(user_envs / "few").question(0).gold == "57"


def test_texts_and_another_folder(collect: Callable[..., Any], tmp_path: Path) -> None:
    ended = collect("--texts", to=tmp_path / "deep", benchmark="other")
    assert ended.code == 0
    store = TraceStore.open(tmp_path / "deep" / "few")
    assert (store.branch_texts() or [""])[0].count("</think>answer:") <= 1
    assert store.card.details["benchmark"] == "other"
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == [
        ".few.collecting",
        "few",
    ]


def test_merge_is_accepted_and_has_no_effect(collect: Callable[..., Any], tmp_path: Path) -> None:
    ended = collect("--merge", to=tmp_path / "there")
    assert ended.code == 0
    assert "--merge is deprecated and has no effect" in ended.err


def test_the_key_is_sent(
    collect: Callable[..., Any], server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.api_key = "secret"
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert "/models: status 401: Unauthorized" in error(collect())
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    assert collect().code == 0


def test_an_existing_environment_is_not_overwritten(
    collect: Callable[..., Any], server: ScriptedServer
) -> None:
    assert collect().code == 0
    count = len(server.asked)
    assert "few exists already, and stores are frozen: choose another name" in error(collect())
    assert len(server.asked) == count


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "../b"}, "'../b'"),
        ({"questions": "missing.jsonl"}, "missing.jsonl: cannot be read: No such file"),
        ({"questions": "questions.txt"}, "questions.txt: unknown type of question file; expected"),
        (
            {"base_url": None},
            "give --model to run vLLM in this process, or --base-url for a server",
        ),
        (
            {"base_url": "localhost:8000"},
            "'localhost:8000' is not a base URL such as http://127.0.0.1",
        ),
        ({"engine": "max_model_len=9"}, "--engine is for vLLM in this process; it cannot be used"),
        ({"protocol": "qwen"}, "there is no protocol 'qwen': give the path of a .yaml file, or"),
        ({"protocol": None}, "no protocol matches the model 'scripted'; choose one with"),
        ({"protocol": "gone.yaml"}, "gone.yaml: cannot be read: "),
        ({"model": "other"}, "serves scripted, not 'other'"),
        ({"branches": 0}, "branches must be an integer of at least 1, got 0"),
        ({"interval": 0}, "the interval must be a positive integer (tokens), got 0"),
        ({"max_tokens": -5}, "max_tokens must be an integer of at least 1, got -5"),
        ({"temperature": -0.1}, "temperature must be from 0 to 100, got -0.1"),
        ({"top_p": 0}, "top_p must be above 0 and at most 1, got 0.0"),
        ({"top_k": -1}, "top_k must be an integer of at least 0, got -1"),
        ({"seed": -1}, "seed must be an integer of at least 0, got -1"),
        ({"patience": 0}, "patience must be above 0 seconds, got 0.0"),
        ({"stall": -1}, "stall must be above 0 seconds, got -1.0"),
        ({"concurrency": 0}, "concurrency must be at least 1, got 0"),
        ({"id_field": "number"}, "no field 'number'; the fields are id, question, answer"),
        ({"split": "test"}, "a file has no split 'test'; only datasets have splits"),
    ],
)
def test_errors(
    collect: Callable[..., Any],
    server: ScriptedServer,
    user_envs: Path,
    options: dict[str, Any],
    message: str,
) -> None:
    assert message in error(collect(**options))
    assert not server.paid
    assert not (user_envs / "few").exists()


def test_an_option_that_is_not_a_number(collect: Callable[..., Any]) -> None:
    ended = collect(branches="many")
    assert ended.code == 2
    assert "Invalid value for '--branches'" in ended.err


def test_other_settings(
    collect: Callable[..., Any], server: ScriptedServer, user_envs: Path
) -> None:
    server.plan = lambda asked: "404" if asked.kind == "probe" else None
    message = error(collect())
    assert message.startswith("autotts: question '")
    assert "status 404: scripted 404" in message
    server.plan = scripted_server.healthy
    message = error(collect(interval=30))
    assert (
        f"{user_envs / '.few.collecting'}: started with other settings: interval 20 (now 30)"
        in (message)
    )
    assert collect().code == 0


def test_several_servers(collect: Callable[..., Any], server: ScriptedServer) -> None:
    with ScriptedServer() as other:
        assert collect("--base-url", other.url, concurrency=1).code == 0
        traces = [sum(a.kind == "trace" for a in s.asked) for s in (server, other)]
    assert sum(traces) == 6


def test_arguments_of_the_engine() -> None:
    assert parse_engine_arguments(
        ["max_model_len=8192", "dtype=float32", "enforce_eager=true"]
    ) == {
        "max_model_len": 8192,
        "dtype": "float32",
        "enforce_eager": True,
    }
    assert parse_engine_arguments(["served=a=b", "none="]) == {"served": "a=b", "none": None}
    for wrong in ("max_model_len", "max-model-len=5", "=5"):
        with pytest.raises(
            ValueError, match="give an argument as NAME=VALUE, such as max_model_len=8192"
        ):
            parse_engine_arguments([wrong])
    with pytest.raises(ValueError, match=r"'x=\[': the value is not YAML: "):
        parse_engine_arguments(["x=["])


def test_engine_arguments_are_parsed_before_vllm_starts(collect: Callable[..., Any]) -> None:
    ended = collect("--engine", "max_model_len", base_url=None, model="nowhere")
    assert "'max_model_len': give an argument as NAME=VALUE" in error(ended)


def test_the_card_says_where_the_questions_come_from(
    collect: Callable[..., Any], user_envs: Path, questions: Path
) -> None:
    source = {"generator": "some-gym", "seed": 3, "kinds": [{"name": "sums", "level": {"n": 2}}]}
    path = questions.with_name("few.source.json")
    path.write_text(json.dumps(source), "utf-8")
    assert collect().code == 0
    assert TraceStore.open(user_envs / "few").card.details["questions_source"] == source


def test_a_damaged_source_ends_before_anything_is_sampled(
    collect: Callable[..., Any], questions: Path, server: ScriptedServer
) -> None:
    questions.with_name("few.source.json").write_text("[]", "utf-8")
    assert "few.source.json: must be a JSON object" in error(collect())
    assert not server.asked


def test_the_card_says_where_the_model_comes_from(
    collect: Callable[..., Any], user_envs: Path, tmp_path: Path
) -> None:
    source = {"name": "Tiny", "licence": "apache-2.0", "sha256": "ab" * 32}
    folder = tmp_path / "tiny-model"
    folder.mkdir()
    (folder / "source.json").write_text(json.dumps(source), "utf-8")
    with ScriptedServer(names=(str(folder),)) as server:
        assert collect(base_url=server.url).code == 0
    details = TraceStore.open(user_envs / "few").card.details
    assert details["model"] == "tiny-model"
    assert details["model_source"] == source
