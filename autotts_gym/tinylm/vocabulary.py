"""The vocabulary of 64 that the tiny models read and write.

Digits, letters and punctuation are a token each; so are a dozen words and ``</think>``. No text
that the vocabulary can spell has two readings: ``encode`` and ``decode`` are inverse to each
other, both ways, and agree with the tokenizer that is saved beside a model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD: Final = "<pad>"
END: Final = "<end>"
UNKNOWN: Final = "<unk>"
_SPECIAL: Final = (PAD, END, UNKNOWN, "<think>", "</think>")
#: None can be spelled with the letters below, or reading a text back would be ambiguous.
_WORDS: Final = (
    *("first", "redo", "recheck", "so", "was", "wait"),
    *("not", "hmm", "ok", "quick", "careful", "answer"),
)
#: The letters that steps go by, and the q before a question.
_CHARACTERS: Final = "0123456789abcdefghijklq:;=+-*?,. \n"
_SPELLED: Final = (*_SPECIAL, *_WORDS, *_CHARACTERS)

SIZE: Final = 64
#: Every token, by id; the last are not used.
TOKENS: Final = (*_SPELLED, *(f"<unused-{n}>" for n in range(SIZE - len(_SPELLED))))
IDS: Final = {token: number for number, token in enumerate(TOKENS)}
PAD_ID: Final = IDS[PAD]
END_ID: Final = IDS[END]
END_OF_THINKING_ID: Final = IDS["</think>"]

#: Words before the letters that they start with.
_PATTERN: Final = "|".join(re.escape(token) for token in (*_WORDS, *_CHARACTERS))
_LONG: Final = "|".join(re.escape(token) for token in TOKENS if len(token) > 1)
_READ: Final = re.compile(f"{_LONG}|.", re.DOTALL)


def encode(text: str) -> list[int]:
    """The ids of a text.

    Raises:
        ValueError: the vocabulary cannot spell it; the message says where.
    """
    try:
        return [IDS[token] for token in _READ.findall(text)]
    except KeyError as problem:
        wrong = problem.args[0]
        raise ValueError(
            f"{text!r}: the vocabulary has no {wrong!r} (at character {text.index(wrong)})"
        ) from None


def decode(ids: Iterable[int]) -> str:
    """The text of ids, special tokens included; ``encode`` reads it back.

    Raises:
        ValueError: an id is not from 0 to 63.
    """
    ids = list(ids)
    for number in ids:
        if not 0 <= number < SIZE:
            raise ValueError(f"{number} is no token id; there are 0 to {SIZE - 1}")
    return "".join(TOKENS[number] for number in ids)


def tokenizer() -> PreTrainedTokenizerFast:
    """The same as a transformers tokenizer, which vLLM loads from a model's folder.

    It reads what the vocabulary cannot spell as ``<unk>`` instead of raising.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    plain: Any = Tokenizer(models.WordLevel(IDS, unk_token=UNKNOWN))
    plain.pre_tokenizer = pre_tokenizers.Split(Regex(_PATTERN), behavior="isolated")
    plain.decoder = decoders.Fuse()
    extra = [token for token in TOKENS if token.startswith("<")]
    plain.add_special_tokens([AddedToken(token, normalized=False) for token in extra])
    return PreTrainedTokenizerFast(
        tokenizer_object=plain,
        pad_token=PAD,
        eos_token=END,
        unk_token=UNKNOWN,
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
    )
