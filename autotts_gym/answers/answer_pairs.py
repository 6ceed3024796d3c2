r"""``answers_equal``: the equality of answers that everything in this package uses.

See ``docs/answers.md`` for the normal form.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, Literal, get_args

from autotts_gym.answers.equality import equal_answers
from autotts_gym.answers.math_process import equal_by_math_verify
from autotts_gym.answers.reading import read_answer
from autotts_gym.answers.tokens import join, tokenize
from autotts_gym.answers.values import Answer, Named, Quantity, Text

#: When two answers are equal: if their values are, or only if they are written alike too.
Equality = Literal["value", "form"]

#: Version of the rules of equality and extraction; it changes when a verdict may change.
RULES_VERSION: Final = 1

#: Formulas that are left to math-verify.
_CALCULUS: Final = re.compile(r"\\(?:sum|prod|int|iint|oint|lim|det)(?![A-Za-z])")
_NAME: Final = re.compile(r"^[A-Za-z](?:_[a-z0-9])?=")
_MAX_CALCULUS: Final = 400


@lru_cache(maxsize=50_000)
def answers_equal(gold: str, answer: str, equality: Equality = "value") -> bool:
    r"""Whether two answers are equal: ``\frac{1}{2}`` and ``0.5``, ``(B)`` and ``B``.

    Symmetric; in doubt False. Never raises, and takes a bounded time.

    Args:
        gold: an answer.
        answer: another answer.
        equality: ``"form"`` for questions that ask for a form, such as lowest terms: equal answers
            have the same numbers, operations, units and names. ``\frac{1}{2}`` is ``1/2`` then,
            and not ``2/4`` or ``0.5``.
    """
    one, other = read_answer(gold), read_answer(answer)
    if equality == "form":
        return one == other
    if equal_answers(one, other):
        return True
    if not (_is_calculus(one) or _is_calculus(other)):
        return False
    if not (_is_formula(one) and _is_formula(other)):
        return False
    formulas = sorted(_NAME.sub("", join(tokenize(text))) for text in (gold, answer))
    if any(len(formula) > _MAX_CALCULUS for formula in formulas):
        return False
    return equal_by_math_verify(*formulas)


def check_equality(equality: object) -> Equality:
    """Return a valid equality.

    Raises:
        ValueError: it is none.
    """
    for valid in get_args(Equality):
        if equality == valid:
            return valid  # type: ignore[no-any-return]
    raise ValueError(f"equality must be 'value' or 'form', got {equality!r:.80}")


def _is_calculus(answer: Answer) -> bool:
    return isinstance(answer, Text) and not answer.prose and bool(_CALCULUS.search(answer.form))


def _is_formula(answer: Answer) -> bool:
    if isinstance(answer, Named):
        return _is_formula(answer.value)
    if isinstance(answer, Quantity):
        return answer.unit is None
    return _is_calculus(answer)
