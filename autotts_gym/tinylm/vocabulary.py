"""The 64-token vocabulary of the tiny models: encoding, decoding, and the transformers tokenizer.

Every digit, letter and punctuation mark is a token; so are a dozen words and ``</think>``.
Tokenization is unambiguous: ``encode`` and ``decode`` are inverse functions and agree with the
tokenizer that is saved with a model.
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
_SPECIAL_TOKENS: Final = (PAD, END, UNKNOWN, "<think>", "</think>")
#: None of these can be spelled with the characters below, so that tokenization is unambiguous.
_WORDS: Final = (
    *("first", "redo", "recheck", "so", "was", "wait"),
    *("not", "hmm", "ok", "quick", "careful", "answer"),
)
#: Labels of the steps, the q before a question, digits and punctuation.
_CHARACTERS: Final = "0123456789abcdefghijklq:;=+-*?,. \n"
_USED_TOKENS: Final = (*_SPECIAL_TOKENS, *_WORDS, *_CHARACTERS)

VOCABULARY_SIZE: Final = 64
#: Every token, by id; the last ones are unused.
TOKENS: Final = (
    *_USED_TOKENS,
    *(f"<unused-{n}>" for n in range(VOCABULARY_SIZE - len(_USED_TOKENS))),
)
TOKEN_IDS: Final = {token: number for number, token in enumerate(TOKENS)}
PAD_ID: Final = TOKEN_IDS[PAD]
END_ID: Final = TOKEN_IDS[END]
END_OF_THINKING_ID: Final = TOKEN_IDS["</think>"]

#: Words come before the letters that they start with.
_SPLIT_PATTERN: Final = "|".join(re.escape(token) for token in (*_WORDS, *_CHARACTERS))
_LONG_TOKENS: Final = "|".join(re.escape(token) for token in TOKENS if len(token) > 1)
_TOKEN_PATTERN: Final = re.compile(f"{_LONG_TOKENS}|.", re.DOTALL)


def encode(text: str) -> list[int]:
    """Return the token ids of a text.

    Raises:
        ValueError: the text has a character outside the vocabulary; the message gives its position.
    """
    try:
        return [TOKEN_IDS[token] for token in _TOKEN_PATTERN.findall(text)]
    except KeyError as error:
        token = error.args[0]
        raise ValueError(
            f"{text!r}: the vocabulary has no {token!r} (at character {text.index(token)})"
        ) from None


def decode(ids: Iterable[int]) -> str:
    """Return the text of token ids, special tokens included; ``encode`` is the inverse.

    Raises:
        ValueError: an id is not from 0 to 63.
    """
    ids = list(ids)
    for number in ids:
        if not 0 <= number < VOCABULARY_SIZE:
            raise ValueError(f"{number} is not a token id; ids are 0 to {VOCABULARY_SIZE - 1}")
    return "".join(TOKENS[number] for number in ids)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Build the vocabulary as a transformers tokenizer, which vLLM loads from a model's folder.

    Characters outside the vocabulary become ``<unk>`` instead of an error.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokenizer: Any = Tokenizer(models.WordLevel(TOKEN_IDS, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_SPLIT_PATTERN), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    special = [token for token in TOKENS if token.startswith("<")]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        unk_token=UNKNOWN,
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
    )
