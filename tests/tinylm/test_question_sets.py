"""The fixed question sets: strata, disjointness and stability."""

from __future__ import annotations

import hashlib

import pytest

from autotts_gym.tinylm import QUESTION_SETS, questions
from autotts_gym.tinylm.arithmetic_chain import parse_chain
from autotts_gym.tinylm.question_sets import reserved_questions


@pytest.mark.parametrize("name", QUESTION_SETS)
def test_a_set_has_sixty_questions_in_its_strata(name: str) -> None:
    found = questions(name)
    assert len(found) == 60
    assert len({question.id for question in found}) == 60
    assert len({question.question for question in found}) == 60
    for question in found:
        chain = parse_chain(question.question)
        assert chain.text == question.question
        assert chain.answer == question.answer
        (stratum,) = (s for s in QUESTION_SETS[name].strata if f"{name}-{s.name}-" in question.id)
        assert stratum.contains(chain)


def test_sets_are_disjoint_and_reserved_questions() -> None:
    search, held_out = ({q.question for q in questions(name)} for name in QUESTION_SETS)
    assert not search & held_out
    assert reserved_questions() == search | held_out


@pytest.mark.parametrize(
    ("name", "digest"), [("chain", "98d63f8c340c7276"), ("chain-hard", "ff7f86f2b87edd0e")]
)
def test_sets_are_unchanged(name: str, digest: str) -> None:
    # The bundled models were trained without exactly these questions.
    text = "\n".join(question.question for question in questions(name))
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == digest


def test_unknown_set() -> None:
    with pytest.raises(
        ValueError, match="unknown question set 'chian'; the sets are chain, chain-hard"
    ):
        questions("chian")
