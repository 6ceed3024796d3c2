"""``autotts tinylm``: training, continuing, questions and models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from autotts_gym.cli import main
from autotts_gym.tinylm import SIZES, model_path, questions
from autotts_gym.tinylm.trainer import CHECKPOINT, Trainer


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["tinylm", *arguments])
    return int(ended.value.code or 0)


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_writes_a_set_of_questions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "deep" / "chain.jsonl"
    assert run("questions", "chain", "--out", str(out)) == 0
    assert "wrote 60 questions" in capsys.readouterr().out
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert lines == [question._asdict() for question in questions("chain")]
    assert list(lines[0]) == ["id", "question", "answer"]


def test_an_unknown_set_of_questions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("questions", "chains", "--out", str(tmp_path / "no.jsonl")) == 1
    assert "unknown question set 'chains'" in capsys.readouterr().err


@pytest.mark.parametrize("size", SIZES)
def test_prints_the_path_of_a_model(size: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("path", size) == 0
    assert Path(capsys.readouterr().out.strip()) == model_path(size)


def test_trains_continues_and_does_not_overwrite(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "model"
    command = ("train", "--size", "small", "--out", str(out), "--tokens", "3000", "--seed", "5")

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "export", _interrupted)
        assert run(*command) == 130
    assert "run the same command to continue" in " ".join(capsys.readouterr().err.split())
    assert (out / CHECKPOINT).exists()
    assert run(*command) == 0
    output = capsys.readouterr().out
    assert "continuing from step" in output
    assert "trained small: 270,832 parameters" in output
    assert sorted(path.name for path in out.iterdir()) == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "training.yaml",
    ]
    card = yaml.safe_load((out / "training.yaml").read_text(encoding="utf-8"))
    assert card["command"] == "autotts tinylm train --size small --out DIR --tokens 3000 --seed 5"
    assert card["seed"] == 5

    assert run(*command) == 1
    assert "already contains a model" in " ".join(capsys.readouterr().err.split())


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_takes_either_tokens_or_minutes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path)
    assert run("train", "--out", out, "--tokens", "9", "--minutes", "1") == 2
    assert "not both" in capsys.readouterr().err
    assert run("train", "--out", out, "--minutes", "0") == 1
    assert "minutes must be above 0, got 0" in capsys.readouterr().err
