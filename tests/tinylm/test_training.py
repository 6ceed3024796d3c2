"""Training: what is learned from a sample, that it learns, and that nothing is lost by a kill."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from transformers import Qwen3ForCausalLM

from autotts_gym.tinylm import task, training
from autotts_gym.tinylm.teacher import Teacher
from autotts_gym.tinylm.tiny_model import Shape
from autotts_gym.tinylm.training import (
    CARD,
    IGNORED,
    Progress,
    Recipe,
    Training,
    batches,
    parameters,
    sample,
)
from autotts_gym.tinylm.vocabulary import END_ID, END_OF_THINKING_ID, PAD_ID, decode, encode

MINUSCULE = Recipe(Shape(32, 64, 1, 2, 1, 16), Teacher(), 60_000, batch=1200, pool=40, warmup=5)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    # Tests run side by side, and sums must come out the same.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_a_whole_sample_is_learned_but_for_its_question() -> None:
    rng = np.random.default_rng(0)
    chain = task.draw(rng)
    ids, learned = sample(Teacher(), chain, 0.0, rng)
    prompt = len(encode(chain.prompt))
    assert decode(ids).startswith(f"{chain.prompt}")
    assert ids[-1] == END_ID
    assert learned == [False] * prompt + [True] * (len(ids) - prompt)


def test_of_a_probe_the_token_that_closes_it_is_not_learned() -> None:
    rng = np.random.default_rng(0)
    teacher = Teacher()
    cuts = set()
    for _ in range(1500):
        chain = task.parse("a=30;b+6;c*2;d*5?")
        ids, learned = sample(teacher, chain, 1.0, rng)
        prompt = len(encode(chain.prompt))
        end = ids.index(END_OF_THINKING_ID)
        assert not any(learned[:prompt])
        assert [*range(prompt, len(ids))] == [
            position for position in range(len(ids)) if learned[position] or position == end
        ]
        assert not learned[end]
        thinking, closing = decode(ids[prompt:end]), decode(ids[end:])
        # Before the first result, unless the first step is left out, as the next name tells.
        if "=" not in thinking and "first:c" not in thinking:
            assert closing == f"</think>answer:{chain.answer}<end>"
        cuts.add(end - prompt)
    assert {0, 1, 2, 3} <= cuts


def test_batches_hold_every_sample_once_within_the_limit() -> None:
    made = batches(MINUSCULE, 3, clean=False)
    assert sum(len(batch.ids) for batch in made) == MINUSCULE.pool
    for batch in made:
        assert batch.ids.shape == batch.targets.shape
        assert batch.ids.size <= MINUSCULE.batch
        assert batch.ids.shape[1] % 32 == 0
        assert (batch.ids != PAD_ID).sum() == batch.tokens
        learned = batch.targets != IGNORED
        np.testing.assert_array_equal(batch.targets[learned], batch.ids[learned])
        assert not learned[batch.ids == PAD_ID].any()
    for again, batch in zip(batches(MINUSCULE, 3, clean=False), made, strict=True):
        np.testing.assert_array_equal(again.ids, batch.ids)
    others = batches(MINUSCULE, 4, clean=False)
    assert {row.tobytes() for batch in made for row in batch.ids}.isdisjoint(
        row.tobytes() for batch in others for row in batch.ids
    )


def test_never_trains_on_a_question_of_a_set(monkeypatch: pytest.MonkeyPatch) -> None:
    reserved = task.parse(task.questions("chain")[0].question)
    drawn = iter([reserved, task.parse("a=30;b+6;c*2;d*5?")])
    monkeypatch.setattr(task, "draw", lambda rng: next(drawn))
    assert next(training.chains(np.random.default_rng(0))).text == "a=30;b+6;c*2;d*5?"


def test_learns_and_says_how_far_it_is(tmp_path: Path) -> None:
    reports: list[Progress] = []
    under_way = Training(MINUSCULE, tmp_path)
    under_way.run(reports.append)
    assert under_way.done
    assert reports[0].loss > 3.5  # log 64 is 4.2
    assert reports[-1].loss < 2.4
    assert reports[-1].share == 1
    assert reports[-1].tokens == under_way.tokens >= MINUSCULE.tokens
    assert reports[-1].seconds_left == 0
    assert reports[-1].tokens_per_second > 0
    assert [report.step for report in reports] == [*range(1, under_way.step + 1)]

    under_way.export(tmp_path / "model", {"size": "minuscule"})
    card = yaml.safe_load((tmp_path / "model" / CARD).read_text(encoding="utf-8"))
    assert card["size"] == "minuscule"
    assert card["parameters"] == parameters(under_way.model)
    assert card["tokens"] == under_way.tokens
    assert card["recipe"]["shape"]["hidden"] == 32
    assert card["teacher"]["errors"] == 1.0
    saved = Qwen3ForCausalLM.from_pretrained(tmp_path / "model")
    assert saved.dtype == torch.bfloat16
    weights = saved.state_dict()
    for name, weight in under_way.model.state_dict().items():
        torch.testing.assert_close(weights[name], weight.to(torch.bfloat16), rtol=0, atol=0)


def test_a_killed_training_ends_with_the_same_weights(tmp_path: Path) -> None:
    recipe = replace(MINUSCULE, tokens=25_000)
    whole = Training(recipe, tmp_path / "whole")
    whole.run()

    killed = Training(recipe, tmp_path / "killed")

    def kill(at: Progress) -> None:
        # In the middle of the second pool, a few steps after the last checkpoint.
        if at.step == 12:
            killed.save()
        if at.step == 15:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        killed.run(kill, save_every=1e9)
    # What a kill in the middle of a save leaves behind.
    (tmp_path / "killed" / "checkpoint.partial").write_bytes(b"half")
    resumed = Training(recipe, tmp_path / "killed")
    assert resumed.step == 12
    resumed.run()
    assert resumed.step == whole.step > 15
    assert resumed.tokens == whole.tokens
    for one, other in zip(
        whole.model.state_dict().values(), resumed.model.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other)


def test_trains_for_minutes_instead(tmp_path: Path) -> None:
    brief = Training(replace(MINUSCULE, minutes=0.005), tmp_path)
    brief.run()
    assert brief.seconds >= 0.3
    assert brief.share == 1


def test_another_recipe_does_not_go_on_from_a_checkpoint(tmp_path: Path) -> None:
    Training(MINUSCULE, tmp_path).run(until=lambda: True)
    assert Training(MINUSCULE, tmp_path).step == 1
    with pytest.raises(ValueError, match=r"another training \(seed 0 there, 1 here\)"):
        Training(replace(MINUSCULE, seed=1), tmp_path)


@pytest.mark.parametrize("name", ["tokens", "minutes", "batch", "pool"])
def test_refuses_a_training_of_nothing(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be above 0, got 0"):
        replace(MINUSCULE, **{name: 0})
