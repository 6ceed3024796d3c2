"""The trainer: it lowers the loss, exports the model, and resumes from a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from transformers import Qwen3ForCausalLM

from autotts_gym.tinylm.qwen3_model import ModelShape, count_parameters
from autotts_gym.tinylm.teacher import Teacher
from autotts_gym.tinylm.trainer import CARD, Trainer, TrainingProgress
from autotts_gym.tinylm.training_samples import Recipe

MINUSCULE = Recipe(
    ModelShape(32, 64, 1, 2, 1, 16), Teacher(), 60_000, batch=1200, pool=40, warmup=5
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    # Tests run in parallel, and floating-point sums must be the same each time.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_loss_falls_and_progress_is_reported(tmp_path: Path) -> None:
    reports: list[TrainingProgress] = []
    trainer = Trainer(MINUSCULE, tmp_path)
    trainer.train(reports.append)
    assert trainer.done
    assert reports[0].loss > 3.5  # log 64 is 4.2
    assert reports[-1].loss < 2.4
    assert reports[-1].fraction_done == 1
    assert reports[-1].tokens == trainer.tokens >= MINUSCULE.tokens
    assert reports[-1].seconds_left == 0
    assert reports[-1].tokens_per_second > 0
    assert [report.step for report in reports] == [*range(1, trainer.step + 1)]

    trainer.export(tmp_path / "model", {"size": "minuscule"})
    card = yaml.safe_load((tmp_path / "model" / CARD).read_text(encoding="utf-8"))
    assert card["size"] == "minuscule"
    assert card["parameters"] == count_parameters(trainer.model)
    assert card["tokens"] == trainer.tokens
    assert card["recipe"]["shape"]["hidden"] == 32
    assert card["teacher"]["errors"] == 1.0
    saved = Qwen3ForCausalLM.from_pretrained(tmp_path / "model")
    assert saved.dtype == torch.bfloat16
    weights = saved.state_dict()
    for name, weight in trainer.model.state_dict().items():
        torch.testing.assert_close(weights[name], weight.to(torch.bfloat16), rtol=0, atol=0)


def test_resumed_training_ends_with_the_same_weights(tmp_path: Path) -> None:
    recipe = replace(MINUSCULE, tokens=25_000)
    whole = Trainer(recipe, tmp_path / "whole")
    whole.train()

    killed = Trainer(recipe, tmp_path / "killed")

    def kill(at: TrainingProgress) -> None:
        # In the second pool, a few steps after the last checkpoint.
        if at.step == 12:
            killed.save()
        if at.step == 15:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        killed.train(kill, save_every=1e9)
    # A process killed while saving leaves a partial file.
    (tmp_path / "killed" / "checkpoint.partial").write_bytes(b"half")
    resumed = Trainer(recipe, tmp_path / "killed")
    assert resumed.step == 12
    resumed.train()
    assert resumed.step == whole.step > 15
    assert resumed.tokens == whole.tokens
    for one, other in zip(
        whole.model.state_dict().values(), resumed.model.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other)


def test_length_in_minutes(tmp_path: Path) -> None:
    brief = Trainer(replace(MINUSCULE, minutes=0.005), tmp_path)
    brief.train()
    assert brief.seconds >= 0.3
    assert brief.fraction_done == 1


def test_checkpoint_of_another_recipe_is_rejected(tmp_path: Path) -> None:
    Trainer(MINUSCULE, tmp_path).train(should_stop=lambda: True)
    assert Trainer(MINUSCULE, tmp_path).step == 1
    with pytest.raises(ValueError, match=r"another recipe \(seed is 0, now 1\)"):
        Trainer(replace(MINUSCULE, seed=1), tmp_path)
