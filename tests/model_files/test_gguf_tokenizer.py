"""Tokenizers of GGUF files: the same tokens as the tokenizers that they were made from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from gguf_files import CHAT_TEMPLATE, SPECIAL, random_model, vocabulary, write_gguf
from hypothesis import given
from hypothesis import strategies as st

from autotts_gym.model_files.gguf_header import GgufHeader, read_header
from autotts_gym.model_files.gguf_tokenizer import PRE_TOKENIZERS, build_tokenizer, save_tokenizer

_TEXTS = st.text(alphabet=st.sampled_from("the answer 0123456789.'s\n\t é数😀ABC<|>_"), max_size=40)


def header_of(folder: Path, pre: str, metadata: dict[str, Any] | None = None) -> GgufHeader:
    path = write_gguf(folder / f"{pre}.gguf", random_model("llama"), pre=pre, metadata=metadata)
    return read_header(path)


@pytest.fixture(scope="module", params=PRE_TOKENIZERS)
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return build_tokenizer(header_of(tmp_path_factory.mktemp("gguf"), request.param))


@given(text=_TEXTS)
def test_decoding_gives_the_text_back(tokenizer: Any, text: str) -> None:
    ids = tokenizer.encode(text).ids
    normal = tokenizer.normalizer.normalize_str(text) if tokenizer.normalizer else text
    assert tokenizer.decode(ids, skip_special_tokens=False) == normal


@pytest.fixture(scope="module")
def qwen2(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """Ours, and the class of transformers with the same vocabulary."""
    from transformers import Qwen2Tokenizer

    tokens, merges = vocabulary()
    theirs = Qwen2Tokenizer(
        vocab={token: i for i, token in enumerate(tokens)},
        merges=[tuple(merge.split(" ")) for merge in merges],
        unk_token=None,
        additional_special_tokens=list(SPECIAL),
    )
    return build_tokenizer(header_of(tmp_path_factory.mktemp("gguf"), "qwen2")), theirs


@given(text=_TEXTS)
def test_qwen2_has_the_tokens_of_transformers(qwen2: tuple[Any, Any], text: str) -> None:
    ours, theirs = qwen2
    assert ours.encode(text).ids == theirs.encode(text, add_special_tokens=False)


def test_digits_of_smollm_are_separate_tokens(tmp_path: Path) -> None:
    encoded = build_tokenizer(header_of(tmp_path, "smollm")).encode("is 1234")
    assert encoded.tokens[-5:] == ["Ġ", "1", "2", "3", "4"]


def test_saved_with_chat_template_and_special_tokens(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    header = header_of(tmp_path, "smollm", {"tokenizer.ggml.add_bos_token": True})
    (tmp_path / "saved").mkdir()
    save_tokenizer(header, tmp_path / "saved")
    loaded = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert (loaded.bos_token_id, loaded.eos_token_id, loaded.pad_token_id) == (1, 2, 0)
    assert loaded.chat_template == CHAT_TEMPLATE
    assert loaded.encode("the") == [1, *build_tokenizer(header).encode("the").ids[1:]]
    chat = loaded.apply_chat_template(
        [{"role": "user", "content": "the sum"}], tokenize=False, add_generation_prompt=True
    )
    assert chat == "<|im_start|>user\nthe sum<|im_end|>\n<|im_start|>assistant\n"
    ids = loaded.encode(chat, add_special_tokens=False)
    assert [i for i in ids if i < len(SPECIAL)] == [1, 2, 1]
    assert loaded.decode(ids, skip_special_tokens=True) == "user\nthe sum\nassistant\n"
