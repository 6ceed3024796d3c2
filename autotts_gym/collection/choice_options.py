"""Multiple choice: finding the options of a row, and the letter of its gold answer.

Options are a list (``["red", "blue"]``), a list with labels (``{"text": [...], "label": [...]}``,
as in ARC), a mapping from labels to texts, JSON text of any of these, columns ``A``, ``B``, ``C``,
..., or ``Correct Answer`` beside ``Incorrect Answer 1``, ... (GPQA; the order is shuffled then, the
same way each time).
"""

from __future__ import annotations

import json
import random
import re
import reprlib
import string
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from autotts_gym.answers.extraction import extract_answer
from autotts_gym.answers.grading import gold_answer
from autotts_gym.traces.store import TraceError

#: Common names of the field with the options; case does not matter.
OPTION_FIELDS: Final = ("options", "choices")
#: The letters that options get, as the extractor ``choice`` reads them.
_LETTERS: Final = string.ascii_uppercase[:10]
_CORRECT: Final = "correct answer"
_INCORRECT: Final = re.compile(r"incorrect answer \d+")


class Options(NamedTuple):
    """The options of a question.

    Attributes:
        texts: their texts, in order.
        labels: what the row calls them, such as ``1`` or ``A``; as many, or none.
        gold: index of the right one, if the row says it by their arrangement.
    """

    texts: Sequence[str]
    labels: Sequence[str] = ()
    gold: int | None = None


def find_options(row: Mapping[str, Any], field: str | None, seed: str) -> Options | None:
    """The options of a row; None if it has none.

    Args:
        row: the row.
        field: its field with the options, if there is one.
        seed: text that determines the order, where the row has none.

    Raises:
        TraceError: the field does not hold options.
    """
    if field is not None and row.get(field) not in (None, "", []):
        return _checked(_from_field(row[field]), row[field])
    columns = {name.strip().lower(): name for name in row if isinstance(name, str)}
    if _CORRECT in columns:
        texts = [row[name] for lower, name in columns.items() if _INCORRECT.fullmatch(lower)]
        if texts:
            texts = [row[columns[_CORRECT]], *texts]
            order = list(range(len(texts)))
            random.Random(seed).shuffle(order)
            options = Options([texts[k] for k in order], gold=order.index(0))
            return _checked(options, texts)
    letters = [letter for letter in _LETTERS if isinstance(row.get(letter), str)]
    if letters[:2] == ["A", "B"] and letters == list(_LETTERS[: len(letters)]):
        return _checked(Options([row[letter] for letter in letters], letters), letters)
    return None


def _from_field(value: Any) -> Options:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise TraceError(_malformed(value)) from None
    if isinstance(value, Mapping):
        if "text" in value:
            return Options(value["text"], value.get("label") or ())
        return Options(list(value.values()), list(value))
    return Options(value)


def _checked(options: Options, value: Any) -> Options:
    texts: Any = options.texts
    labels = options.labels
    if not isinstance(texts, Sequence) or isinstance(texts, str):
        raise TraceError(_malformed(value))
    plain = [str(text) if type(text) in (int, float) else text for text in texts]
    if not all(isinstance(text, str) and text.strip() for text in plain):
        raise TraceError(_malformed(value))
    if not 2 <= len(plain) <= len(_LETTERS):
        raise TraceError(f"has {len(plain)} options; from 2 to {len(_LETTERS)} are possible")
    if labels and len(labels) != len(plain):
        raise TraceError(f"has {len(plain)} options and {len(labels)} labels")
    return Options([t.strip() for t in plain], [str(x).strip() for x in labels], options.gold)


def _malformed(value: Any) -> str:
    return f"options must be a list of at least two texts, got {reprlib.repr(value)}"


def with_options(text: str, options: Options) -> str:
    """The question followed by its options, one a line, unless it lists them already."""
    lines = [f"{letter}) {option}" for letter, option in zip(_LETTERS, options.texts, strict=False)]
    if all(re.search(rf"(?m)^\W*{line[0]}[).:]\s*{re.escape(line[3:])}", text) for line in lines):
        return text
    return "\n".join([text.rstrip(), "", *lines])


def gold_letter(gold: Any, options: Options) -> str:
    """The letter of the right option.

    Args:
        gold: the row's answer: the text, the label or the letter of an option, or its index from 0;
            None or an empty text if there is none.
        options: the options.

    Returns:
        The letter; empty if there is no answer.

    Raises:
        TraceError: the answer is none of the options.
    """
    if options.gold is not None:
        return _LETTERS[options.gold]
    if gold is None or gold == "":
        return ""
    index = _index_of(gold, options)
    if index is None or not 0 <= index < len(options.texts):
        raise TraceError(
            f"answer {reprlib.repr(gold)} is none of its {len(options.texts)} options; expected "
            "the text, the letter or the index (from 0) of one"
        )
    return _LETTERS[index]


def _index_of(gold: Any, options: Options) -> int | None:
    if type(gold) is int:
        return gold
    text = gold_answer(str(gold)).strip()
    for names in (options.texts, options.labels):
        if list(names).count(text) == 1:
            return list(names).index(text)
    if text.isascii() and text.isdigit():
        return int(text)
    found = extract_answer(text, ["choice"])
    if found.null:
        return None
    return _LETTERS.index(found.answer.upper())
