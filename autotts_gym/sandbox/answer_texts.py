"""The texts of all answers of a data set, encoded, for compiled code to copy into slots."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from autotts_gym.mdp.trace_dataset import TraceDataset
from autotts_gym.sandbox.memory_layout import TEXT_SIZE


class AnswerTexts(NamedTuple):
    """The texts.

    The one of answer code ``c`` of question ``q`` ends at ``ends[firsts[q] + c + 1]``, and begins
    where the one before ends.

    Attributes:
        data: uint8[bytes], one text after another.
        ends: int64[answers + 1], in bytes; the first is 0.
        firsts: int64[questions], number of the answers of earlier questions.
    """

    data: NDArray[np.uint8]
    ends: NDArray[np.int64]
    firsts: NDArray[np.int64]


def encode_answers(dataset: TraceDataset) -> AnswerTexts:
    """Encode the answers of a data set.

    Raises:
        ValueError: the answers of a question do not fit in a slot.
    """
    encoded: list[bytes] = []
    firsts: list[int] = []
    for question in range(len(dataset.branch_counts)):
        texts = [encode_answer(answer) for answer in dataset.answers(question)]
        if (size := sum(map(len, texts))) > TEXT_SIZE:
            raise ValueError(
                f"question {question}: the texts of its answers have {size} bytes; a sandbox "
                f"holds at most {TEXT_SIZE}"
            )
        firsts.append(len(encoded))
        encoded += texts
    return AnswerTexts(
        np.frombuffer(b"".join(encoded) or b"\0", np.uint8).copy(),
        np.cumsum([0, *map(len, encoded)], dtype=np.int64),
        np.array(firsts, np.int64),
    )


def encode_answer(text: str) -> bytes:
    """Encoding of answers in a slot. Model output can contain lone surrogates."""
    return text.encode("utf-8", "surrogatepass")
