"""The vocabulary: one reading for every text, and the same one in the saved tokenizer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotts_gym.tinylm.task import draw
from autotts_gym.tinylm.teacher import Teacher
from autotts_gym.tinylm.vocabulary import (
    END,
    END_ID,
    END_OF_THINKING_ID,
    IDS,
    PAD_ID,
    SIZE,
    TOKENS,
    decode,
    encode,
    tokenizer,
)


def test_has_64_tokens_each_once() -> None:
    assert len(TOKENS) == len(set(TOKENS)) == len(IDS) == SIZE == 64


@given(st.lists(st.integers(0, SIZE - 1)))
def test_ids_and_text_are_inverse_both_ways(ids: list[int]) -> None:
    text = decode(ids)
    assert encode(text) == ids
    assert decode(encode(text)) == text


def test_the_end_of_thinking_and_of_the_sequence_are_a_token_each() -> None:
    assert encode("</think>") == [END_OF_THINKING_ID]
    assert encode(END) == [END_ID]


def test_a_step_is_seven_tokens() -> None:
    assert len(encode("b+6=36;")) == 7


def test_says_what_it_cannot_spell() -> None:
    with pytest.raises(ValueError, match=r"no 'z' \(at character 3\)"):
        encode("a=3z")
    with pytest.raises(ValueError, match="64 is no token id; there are 0 to 63"):
        decode([1, 64])


def test_the_saved_tokenizer_reads_and_writes_the_same(tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    tokenizer().save_pretrained(tmp_path)
    loaded = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    assert len(loaded) == SIZE
    assert (loaded.eos_token_id, loaded.pad_token_id) == (END_ID, PAD_ID)
    rng = np.random.default_rng(0)
    texts = [decode(rng.integers(0, SIZE, 40).tolist()) for _ in range(100)]
    for _ in range(20):
        chain = draw(rng)
        texts.append(chain.prompt + Teacher().write(chain, rng).text + END)
    for text in texts:
        ids = encode(text)
        assert loaded.encode(text) == ids
        assert loaded.decode(ids, skip_special_tokens=False) == text
