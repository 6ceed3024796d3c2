"""The trainer of a tiny model: training loop, checkpoints, export and training card.

The first part of the training uses faultless single passes, which teach the arithmetic and the
format; the rest uses traces of the fallible teacher. The state is saved to a checkpoint every few
seconds. A training that was killed resumes from it and ends with the same weights as an
uninterrupted one.
"""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

import autotts_gym
from autotts_gym.tinylm import qwen3_model
from autotts_gym.tinylm.training_samples import IGNORED, Batch, Recipe, pool_batches
from autotts_gym.utils import bounded_yaml
from autotts_gym.utils.files import write_atomically, write_text

if TYPE_CHECKING:
    import torch

CARD: Final = "training.yaml"
CHECKPOINT: Final = "checkpoint.pt"
#: Part of every training card; to be shown wherever traces of such a model are shown.
DESCRIPTION: Final = (
    "A tiny model that was trained on the traces of a deliberately fallible teacher: its traces "
    "are real samples of a language model, but the reasoning was taught, not emergent."
)


class TrainingProgress(NamedTuple):
    """Progress after a training step.

    Attributes:
        step: number of steps so far.
        tokens: tokens so far, without padding.
        fraction_done: from 0 to 1.
        loss: mean loss of the last 50 steps, nats per token.
        tokens_per_second: speed since :meth:`Trainer.train` was called.
        seconds_left: estimated time left.
    """

    step: int
    tokens: int
    fraction_done: float
    loss: float
    tokens_per_second: float
    seconds_left: float


class Trainer:
    """Trains a tiny model and keeps its state in a folder.

    Args:
        recipe: the hyperparameters.
        folder: folder of the checkpoint. The training resumes from a checkpoint that exists.

    Raises:
        ValueError: the checkpoint was made with another recipe; the message lists the differences.

    Attributes:
        model: the network, in float32.
        checkpoint: path of the checkpoint.
        step: number of training steps so far.
        tokens: training tokens so far, without padding.
        seconds: training time so far.
        losses: losses of the last 50 steps, nats per token.
    """

    def __init__(self, recipe: Recipe, folder: str | os.PathLike[str]) -> None:
        import torch

        self.recipe = recipe
        self.checkpoint = Path(folder) / CHECKPOINT
        self.model = qwen3_model.build_model(recipe.shape, recipe.seed)
        # On a CPU, eager attention takes half the time of the fused one, mainly in the backward
        # pass.
        self.model.set_attn_implementation("eager")
        matrices: list[torch.nn.Parameter] = []
        others: list[torch.nn.Parameter] = []
        for name, parameter in self.model.named_parameters():
            is_matrix = parameter.ndim == 2 and "embed" not in name
            (matrices if is_matrix else others).append(parameter)
        self._optimizers: list[torch.optim.Optimizer] = [
            torch.optim.Muon(matrices, lr=recipe.matrix_rate, weight_decay=0.0),
            torch.optim.AdamW(others, lr=recipe.other_rate, betas=(0.9, 0.95), weight_decay=0.0),
        ]
        self._peak_rates = (recipe.matrix_rate, recipe.other_rate)
        self._pool = 0  # number of the current pool of samples
        self._position = 0  # number of its batches that are done
        self._clean = True
        self._history: list[dict[str, float]] = []
        self.step = self.tokens = 0
        self.seconds = 0.0
        self.losses: list[float] = []
        if self.checkpoint.exists():
            self._load()

    @property
    def fraction_done(self) -> float:
        """Fraction of the training that is done, from 0 to 1."""
        if self.recipe.minutes is not None:
            return min(1.0, self.seconds / (60 * self.recipe.minutes))
        return min(1.0, self.tokens / self.recipe.tokens)

    @property
    def done(self) -> bool:
        """Whether the training is complete."""
        return self.fraction_done >= 1

    def train(
        self,
        progress: Callable[[TrainingProgress], None] | None = None,
        save_every: float = 10.0,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        """Train until the training is complete.

        Args:
            progress: called after every step.
            save_every: seconds between two checkpoints. A process that is killed repeats the steps
                after the last checkpoint, with the same result.
            should_stop: called after every step; True saves a checkpoint and returns.
        """
        start = saved = time.monotonic()
        seconds_before, done_before, tokens_before = self.seconds, self.fraction_done, self.tokens
        while not self.done:
            if self._position == 0:
                self._clean = self.fraction_done < self.recipe.clean
            batches = pool_batches(self.recipe, self._pool, self._clean)
            while self._position < len(batches) and not self.done:
                self._train_step(batches[self._position])
                self._position += 1
                now = time.monotonic()
                elapsed = now - start
                self.seconds = seconds_before + elapsed
                if self.step % 100 == 0:
                    self._history.append({"tokens": self.tokens, "loss": self._mean_loss})
                if progress is not None:
                    progress(self._progress(elapsed, done_before, tokens_before))
                if now - saved > save_every:
                    self.save()
                    saved = now
                if should_stop is not None and should_stop():
                    self.save()
                    return
            if self._position == len(batches):
                self._pool, self._position = self._pool + 1, 0
        self.save()

    def _progress(self, elapsed: float, done_before: float, tokens_before: int) -> TrainingProgress:
        done = self.fraction_done
        return TrainingProgress(
            step=self.step,
            tokens=self.tokens,
            fraction_done=done,
            loss=self._mean_loss,
            tokens_per_second=(self.tokens - tokens_before) / max(elapsed, 1e-9),
            seconds_left=elapsed * (1 - done) / max(done - done_before, 1e-9),
        )

    @property
    def _mean_loss(self) -> float:
        return round(float(np.mean(self.losses)), 4)

    def _train_step(self, batch: Batch) -> None:
        import torch
        from torch.nn import functional

        warmup = min(1.0, (self.step + 1) / self.recipe.warmup)
        factor = warmup * (0.05 + 0.95 * (1 + math.cos(math.pi * self.fraction_done)) / 2)
        for optimizer, rate in zip(self._optimizers, self._peak_rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate * factor
        ids, targets = torch.from_numpy(batch.ids), torch.from_numpy(batch.targets)
        with torch.autocast("cpu", torch.bfloat16):
            # Padding is on the right and attention is causal, so no mask is needed.
            logits = self.model(input_ids=ids[:, :-1], use_cache=False).logits
        loss = functional.cross_entropy(
            logits.flatten(0, 1).float(), targets[:, 1:].flatten(), ignore_index=IGNORED
        )
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self._optimizers:
            optimizer.step()
            optimizer.zero_grad()
        self.step += 1
        self.tokens += batch.tokens
        self.losses = [*self.losses[-49:], float(loss.detach())]

    # --- checkpoint, export and card -------------------------------------------------------------

    def save(self) -> None:
        """Save a checkpoint atomically: a process killed meanwhile leaves the previous one."""
        import torch

        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        state = {
            "recipe": asdict(self.recipe),
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
            "counters": [self.step, self.tokens, self._pool, self._position, self._clean],
            "seconds": self.seconds,
            "losses": self.losses,
            "history": self._history,
        }
        write_atomically(self.checkpoint, lambda path: torch.save(state, path))

    def _load(self) -> None:
        import torch

        state = torch.load(self.checkpoint, weights_only=True)
        saved, given = state["recipe"], asdict(self.recipe)
        if saved != given:
            differences = ", ".join(
                f"{key} is {saved.get(key)!r}, now {value!r}"
                for key, value in given.items()
                if saved.get(key) != value
            )
            raise ValueError(
                f"{self.checkpoint}: made with another recipe ({differences}); use that recipe, "
                "another folder, or delete the checkpoint"
            )
        self.model.load_state_dict(state["model"])
        for optimizer, optimizer_state in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(optimizer_state)
        self.step, self.tokens, self._pool, self._position, self._clean = state["counters"]
        self.seconds = state["seconds"]
        self.losses, self._history = state["losses"], state["history"]

    def export(
        self, folder: str | os.PathLike[str], details: Mapping[str, Any] | None = None
    ) -> None:
        """Write the current model and its training card into a folder.

        Args:
            folder: target folder; created if needed.
            details: entries that the card starts with.
        """
        qwen3_model.export_model(self.model, folder)
        card = {**(details or {}), **self.card()}
        text = bounded_yaml.dump(card)
        write_text(Path(folder) / CARD, text)

    def card(self) -> dict[str, Any]:
        """Return a description of the training so far, as plain values."""
        recipe = asdict(self.recipe)
        del recipe["teacher"]
        return {
            "what": DESCRIPTION,
            "parameters": qwen3_model.count_parameters(self.model),
            "seed": recipe.pop("seed"),
            "tokens": self.tokens,
            "steps": self.step,
            "wall_seconds": round(self.seconds, 1),
            "loss": self._mean_loss if self.losses else None,
            "losses": self._history[:: 1 + len(self._history) // 20],
            "versions": {
                "autotts_gym": autotts_gym.__version__,
                "python": platform.python_version(),
                **{name: metadata.version(name) for name in ("torch", "transformers", "numpy")},
            },
            "recipe": recipe,
            "teacher": self.recipe.teacher.card(),
        }
