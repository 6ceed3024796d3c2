"""``autotts model``: conversion of GGUF files."""

from __future__ import annotations

from pathlib import Path

import pytest
from gguf_files import random_model, write_gguf

from autotts_gym.cli import main


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["model", *arguments])
    return int(ended.value.code or 0)


def test_converts_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", random_model("qwen2"))
    command = ("from-gguf", str(path), "--out", str(tmp_path / "model"), "--dtype", "bfloat16")
    assert run(*command) == 0
    out = capsys.readouterr().out
    assert "converted Tiny random model (licence apache-2.0)" in out
    assert "qwen2, bfloat16" in out
    assert {file.name for file in (tmp_path / "model").iterdir()} >= {
        *("config.json", "generation_config.json", "model.safetensors"),
        *("source.json", "tokenizer.json", "tokenizer_config.json"),
    }
    assert run(*command) == 1
    assert f"{tmp_path}/model exists already" in capsys.readouterr().err


def test_names_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "no.gguf").write_bytes(b"not a model")
    assert run("from-gguf", str(tmp_path / "no.gguf"), "--out", str(tmp_path / "model")) == 1
    assert "no.gguf: is not a GGUF file" in capsys.readouterr().err
    assert run("from-gguf", str(tmp_path / "missing"), "--out", str(tmp_path / "model")) == 1
    assert f"{tmp_path}/missing" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()
