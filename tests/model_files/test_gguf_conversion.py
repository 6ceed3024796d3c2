"""Conversion of GGUF files: the converted model computes what the original one computes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf_files import SPECIAL, random_model, vocabulary, write_gguf

from autotts_gym.model_files.gguf_architecture import ARCHITECTURES
from autotts_gym.model_files.gguf_conversion import convert_gguf
from autotts_gym.model_files.gguf_header import GgufError


def logits(model: Any, tokens: int = 40) -> np.ndarray:
    """Logits of a fixed text; long enough for wrong positions to show."""
    import torch

    ids = torch.arange(tokens)[None] * 7 % model.config.vocab_size
    with torch.inference_mode():
        return model(ids).logits[0].float().numpy()


def load(folder: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_float32_is_exact(architecture: str, tied: bool, tmp_path: Path) -> None:
    model = random_model(architecture, tied=tied)
    convert_gguf(write_gguf(tmp_path / "tiny.gguf", model), tmp_path / "converted")
    converted = load(tmp_path / "converted")
    assert type(converted).__name__ == ARCHITECTURES[architecture].model_class
    assert converted.config.tie_word_embeddings == tied
    np.testing.assert_array_equal(logits(converted), logits(model))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("quantization", ["F16", "Q8_0", "Q4_1"])
def test_quantized_weights_are_close(architecture: str, quantization: str, tmp_path: Path) -> None:
    model = random_model(architecture)
    path = write_gguf(tmp_path / "tiny.gguf", model, quantization=quantization)
    source = convert_gguf(path, tmp_path / "converted")
    assert source["tensors"][quantization] == 3 * 7 + 2  # the matrices
    exact, close = logits(model), logits(load(tmp_path / "converted"))
    error = np.linalg.norm(close - exact) / np.linalg.norm(exact)
    assert 0 < error < {"F16": 1e-3, "Q8_0": 0.03, "Q4_1": 0.3}[quantization]


def test_smaller_types_and_several_files(tmp_path: Path) -> None:
    model = random_model("llama")
    path = write_gguf(tmp_path / "tiny.gguf", model)
    seen: list[tuple[int, int]] = []
    convert_gguf(
        path,
        tmp_path / "converted",
        dtype="bfloat16",
        shard_bytes=100_000,
        progress=lambda done, total: seen.append((done, total)),
    )
    total = len(list(model.named_parameters()))
    assert seen == [(done, total) for done in range(total + 1)]
    files = sorted(file.name for file in (tmp_path / "converted").glob("*.safetensors"))
    assert len(files) > 1
    index = json.loads((tmp_path / "converted/model.safetensors.index.json").read_text())
    assert sorted(set(index["weight_map"].values())) == files
    assert index["metadata"]["total_size"] == 2 * sum(p.numel() for p in model.parameters())
    converted = dict(load(tmp_path / "converted").named_parameters())
    for name, parameter in model.named_parameters():
        expected = parameter.bfloat16().float().detach()
        np.testing.assert_array_equal(converted[name].detach(), expected, err_msg=name)


def test_records_where_the_files_come_from(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", random_model("llama"))
    source = convert_gguf(path, tmp_path / "a")
    assert source == json.loads((tmp_path / "a/source.json").read_text("utf-8"))
    assert source["name"] == "Tiny random model"
    assert source["licence"] == "apache-2.0"
    assert source["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert source["file"] == "tiny.gguf"
    assert source["tensors"] == {"F32": 30}
    assert "float32" in source["converted"]
    given = convert_gguf(path, tmp_path / "b", name="Mine", licence="MIT", url="https://x.org/y")
    assert (given["name"], given["licence"], given["url"]) == ("Mine", "MIT", "https://x.org/y")
    for file in (tmp_path / "a").iterdir():
        assert file.stat().st_mode & 0o777 == 0o644, file


def test_configuration_of_generation(tmp_path: Path) -> None:
    metadata = {"tokenizer.ggml.eot_token_id": 0}
    path = write_gguf(tmp_path / "tiny.gguf", random_model("llama"), metadata=metadata)
    convert_gguf(path, tmp_path / "converted")
    content = json.loads((tmp_path / "converted/generation_config.json").read_text())
    assert content == {"bos_token_id": 1, "pad_token_id": 0, "eos_token_id": [2, 0]}


def test_does_not_replace_a_folder(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", random_model("llama"))
    (tmp_path / "converted").mkdir()
    with pytest.raises(FileExistsError, match="converted exists already"):
        convert_gguf(path, tmp_path / "converted")
    assert not list((tmp_path / "converted").iterdir())


def test_an_interrupted_conversion_leaves_nothing(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", random_model("llama"))

    def interrupt(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert_gguf(path, tmp_path / "new" / "converted", progress=interrupt)
    assert [file.name for file in tmp_path.iterdir()] == ["tiny.gguf"]


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        (
            {"general.architecture": "mamba"},
            "the architecture 'mamba' is not supported; supported are llama, qwen2, qwen3",
        ),
        ({"llama.block_count": 4}, "has no layer 3; it states 4 layers"),
        ({"llama.block_count": 2}, "9 tensors that llama models do not have, such as 'blk.2."),
        ({"llama.block_count": None}, "its metadata has no llama.block_count"),
        ({"llama.block_count": "three"}, "llama.block_count must be of type int"),
        ({"llama.embedding_length": 0}, "llama.embedding_length is out of range: 0"),
        ({"llama.feed_forward_length": 97}, "tensor blk.0.ffn_gate.weight has the shape"),
        ({"llama.attention.key_length": 15}, "heads of 15 components"),
        ({"llama.expert_count": 8}, "mixtures of experts are not supported"),
        ({"llama.rope.scaling.type": "yarn"}, "scaled positions (yarn) are not supported"),
        ({"split.count": 3}, "is one of 3 parts"),
        ({"tokenizer.ggml.model": "llama"}, "the tokenizer 'llama' is not supported"),
        ({"tokenizer.ggml.pre": "viking"}, "the pre-tokenizer 'viking' is not supported"),
        ({"tokenizer.ggml.eos_token_id": 1 << 20}, "eos_token_id is 1048576"),
        ({"tokenizer.ggml.merges": ["a b c"]}, "tokenizer.ggml.merges are invalid"),
    ],
)
def test_unsupported_files(metadata: dict[str, Any], expected: str, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", random_model("llama"), metadata=metadata)
    with pytest.raises(GgufError) as refused:
        convert_gguf(path, tmp_path / "converted")
    assert str(refused.value).startswith(f"{path}: ")
    assert expected in str(refused.value)
    assert not (tmp_path / "converted").exists()


def test_truncated_weights(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", random_model("llama"))
    path.write_bytes(path.read_bytes()[:-20_000])
    with pytest.raises(GgufError, match=r"is truncated: tensor '.*' ends at byte"):
        convert_gguf(path, tmp_path / "converted")


def test_unknown_types(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", random_model("llama"))
    with pytest.raises(ValueError, match="unknown type 'int4'; the types are float32, bfloat16"):
        convert_gguf(path, tmp_path / "converted", dtype="int4")


@pytest.mark.slow
@pytest.mark.vllm
@pytest.mark.xdist_group("vllm")
def test_vllm_loads_the_folder(tmp_path: Path) -> None:
    """Greedy tokens of vLLM and of transformers on the original model are the same."""
    import torch

    from autotts_gym.inference.engine import Request
    from autotts_gym.inference.http_engine import ServerEngine
    from autotts_gym.inference.run_sync import run_sync
    from autotts_gym.inference.vllm_server import serve
    from autotts_gym.tinylm.bundled_envs import set_cpu_defaults

    set_cpu_defaults()
    model = random_model("llama", head=32)  # the smallest that vLLM has on a CPU
    convert_gguf(write_gguf(tmp_path / "tiny.gguf", model), tmp_path / "converted")
    messages = [{"role": "user", "content": "the sum of 12 and 345"}]

    async def generate(url: str) -> tuple[list[int], list[int]]:
        engine = ServerEngine(url)
        try:
            prompt = await engine.encode_chat(messages, {})
            (generated,) = await engine.complete([Request(prompt, max_tokens=12)])
        finally:
            await engine.close()
        return prompt, generated.tokens

    arguments = {"dtype": "float32", "enforce_eager": True, "max_model_len": 256}
    with serve(tmp_path / "converted", enable_chunked_prefill=False, **arguments) as url:
        prompt, generated = run_sync(generate(url))
    tokens = vocabulary()[0]
    assert tokens[prompt[0]] == SPECIAL[1]
    expected = list(prompt)
    with torch.inference_mode():
        for _ in generated:
            expected.append(int(model(torch.tensor([expected])).logits[0, -1].argmax()))
    assert generated == expected[len(prompt) :]
