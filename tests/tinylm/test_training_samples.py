"""Training samples: what the loss includes, batching, and reserved questions."""

from __future__ import annotations

import numpy as np
import pytest

from autotts_gym.tinylm import questions, training_samples
from autotts_gym.tinylm.arithmetic_chain import parse_chain, random_chain
from autotts_gym.tinylm.qwen3_model import ModelShape
from autotts_gym.tinylm.teacher import Teacher
from autotts_gym.tinylm.training_samples import (
    IGNORED,
    Recipe,
    draw_sample,
    pool_batches,
    training_chains,
)
from autotts_gym.tinylm.vocabulary import END_ID, END_OF_THINKING_ID, PAD_ID, decode, encode

RECIPE = Recipe(ModelShape(32, 64, 1, 2, 1, 16), Teacher(), 60_000, batch=1200, pool=40, warmup=5)


def test_the_loss_leaves_out_the_question() -> None:
    rng = np.random.default_rng(0)
    chain = random_chain(rng)
    ids, learned = draw_sample(Teacher(), chain, 0.0, rng)
    prompt = len(encode(chain.prompt))
    assert decode(ids).startswith(f"{chain.prompt}")
    assert ids[-1] == END_ID
    assert learned == [False] * prompt + [True] * (len(ids) - prompt)


def test_the_loss_leaves_out_the_closing_token_of_a_probe() -> None:
    rng = np.random.default_rng(0)
    teacher = Teacher()
    cuts = set()
    for _ in range(1500):
        chain = parse_chain("a=30;b+6;c*2;d*5?")
        ids, learned = draw_sample(teacher, chain, 1.0, rng)
        prompt = len(encode(chain.prompt))
        end = ids.index(END_OF_THINKING_ID)
        assert not any(learned[:prompt])
        assert [*range(prompt, len(ids))] == [
            position for position in range(len(ids)) if learned[position] or position == end
        ]
        assert not learned[end]
        thinking, closing = decode(ids[prompt:end]), decode(ids[end:])
        # Before the first result, unless the first step is skipped (the text then goes on with c).
        if "=" not in thinking and "first:c" not in thinking:
            assert closing == f"</think>answer:{chain.answer}<end>"
        cuts.add(end - prompt)
    assert {0, 1, 2, 3} <= cuts


def test_batches_contain_every_sample_once_within_the_limit() -> None:
    batches = pool_batches(RECIPE, 3, clean=False)
    assert sum(len(batch.ids) for batch in batches) == RECIPE.pool
    for batch in batches:
        assert batch.ids.shape == batch.targets.shape
        assert batch.ids.size <= RECIPE.batch
        assert batch.ids.shape[1] % 32 == 0
        assert (batch.ids != PAD_ID).sum() == batch.tokens
        learned = batch.targets != IGNORED
        np.testing.assert_array_equal(batch.targets[learned], batch.ids[learned])
        assert not learned[batch.ids == PAD_ID].any()
    for again, batch in zip(pool_batches(RECIPE, 3, clean=False), batches, strict=True):
        np.testing.assert_array_equal(again.ids, batch.ids)
    others = pool_batches(RECIPE, 4, clean=False)
    assert {row.tobytes() for batch in batches for row in batch.ids}.isdisjoint(
        row.tobytes() for batch in others for row in batch.ids
    )


def test_questions_of_a_set_are_never_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    reserved = parse_chain(questions("chain")[0].question)
    drawn = iter([reserved, parse_chain("a=30;b+6;c*2;d*5?")])
    monkeypatch.setattr(training_samples, "random_chain", lambda rng: next(drawn))
    assert next(training_chains(np.random.default_rng(0))).text == "a=30;b+6;c*2;d*5?"


@pytest.mark.parametrize("name", ["tokens", "minutes", "batch", "pool"])
def test_recipe_rejects_zero(name: str) -> None:
    values = {"tokens": 60_000, name: 0}
    with pytest.raises(ValueError, match=f"{name} must be above 0, got 0"):
        Recipe(RECIPE.shape, RECIPE.teacher, **values)
