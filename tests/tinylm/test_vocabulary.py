"""The vocabulary: unambiguous tokenization, and agreement with the saved tokenizer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotts_gym.tinylm.arithmetic_chain import random_chain
from autotts_gym.tinylm.teacher import Teacher
from autotts_gym.tinylm.vocabulary import (
    END,
    END_ID,
    END_OF_THINKING_ID,
    PAD_ID,
    TOKEN_IDS,
    TOKENS,
    VOCABULARY_SIZE,
    build_tokenizer,
    decode,
    encode,
)


def test_64_distinct_tokens() -> None:
    assert len(TOKENS) == len(set(TOKENS)) == len(TOKEN_IDS) == VOCABULARY_SIZE == 64


@given(st.lists(st.integers(0, VOCABULARY_SIZE - 1)))
def test_encode_and_decode_are_inverse(ids: list[int]) -> None:
    text = decode(ids)
    assert encode(text) == ids
    assert decode(encode(text)) == text


def test_end_markers_are_single_tokens() -> None:
    assert encode("</think>") == [END_OF_THINKING_ID]
    assert encode(END) == [END_ID]


def test_a_step_is_seven_tokens() -> None:
    assert len(encode("b+6=36;")) == 7


def test_unknown_characters_and_ids() -> None:
    with pytest.raises(ValueError, match=r"no 'z' \(at character 3\)"):
        encode("a=3z")
    with pytest.raises(ValueError, match="64 is not a token id; ids are 0 to 63"):
        decode([1, 64])


def test_saved_tokenizer_agrees(tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    build_tokenizer().save_pretrained(tmp_path)
    loaded = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    assert len(loaded) == VOCABULARY_SIZE
    assert (loaded.eos_token_id, loaded.pad_token_id) == (END_ID, PAD_ID)
    rng = np.random.default_rng(0)
    texts = [decode(rng.integers(0, VOCABULARY_SIZE, 40).tolist()) for _ in range(100)]
    for _ in range(20):
        chain = random_chain(rng)
        texts.append(chain.prompt + Teacher().write_trace(chain, rng).text + END)
    for text in texts:
        ids = encode(text)
        assert loaded.encode(text) == ids
        assert loaded.decode(ids, skip_special_tokens=False) == text
