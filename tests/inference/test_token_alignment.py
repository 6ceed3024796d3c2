"""Alignment of tokens with the text that they decode to."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotts_gym.inference.engine import Generated
from autotts_gym.inference.protocol import Protocol
from autotts_gym.inference.token_alignment import token_starts


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufffd"), max_size=20))
def test_tokens_of_one_byte(text: str) -> None:
    pieces = [bytes([byte]).decode("utf-8", "replace") for byte in text.encode()]
    expected = [k for k, character in enumerate(text) for _ in character.encode()]
    assert token_starts(text, pieces) == expected


@given(st.lists(st.text(max_size=4), max_size=8))
def test_tokens_of_whole_characters(pieces: list[str]) -> None:
    text = "".join(pieces)
    assert token_starts(text, pieces) == [len("".join(pieces[:k])) for k in range(len(pieces))]


@given(st.text(max_size=10), st.lists(st.text(max_size=3), max_size=8))
def test_any_pieces(text: str, pieces: list[str]) -> None:
    starts = token_starts(text, pieces)
    assert len(starts) == len(pieces)
    assert starts == sorted(starts)
    assert all(0 <= start <= len(text) for start in starts)


PROTOCOL = Protocol.from_dict(
    "test",
    {
        "prompt": {"text": "{question}"},
        "probe": {"suffix": "\\boxed{", "max_tokens": 20},
        "answers": ["boxed"],
    },
)


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("答案}", ["\ufffd"] * 6 + ["}"]),
        ("答案} ok", ["\ufffd\ufffd", "\ufffd", "案", "}", " ok"]),
        ("12}", ["1", "2", "}"]),
        (" 12}", ["1", "2", "}"]),  # pieces of some tokenizers lack the space
    ],
)
def test_confidence_is_that_of_the_tokens_of_the_answer(text: str, pieces: list[str]) -> None:
    inside = [k for k, piece in enumerate(pieces) if piece not in ("}", " ok")]
    logprobs = [math.log(0.99)] * len(pieces)
    logprobs[inside[-1]] = math.log(0.01)
    probe = PROTOCOL.read_probe(Generated([0] * len(pieces), text, "stop", logprobs, pieces))
    answer_logprobs = [logprobs[k] for k in inside]
    least = math.exp(sum(answer_logprobs) / len(inside))
    # The closing brace belongs to the answer or not; the unlikely token always does.
    assert least - 1e-9 <= probe.confidence < 0.55
