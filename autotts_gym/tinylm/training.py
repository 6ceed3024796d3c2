"""Training a tiny model, on one core and in minutes.

The first part of the training is on faultless single passes, which teach the arithmetic and the
format; the rest on what the fallible teacher writes. Some samples are cut at a random token and
closed with ``</think>answer:``, as a probe does, so that the model can be probed anywhere.

A training is a sequence of pools of samples, each drawn from its own seed. Its state is kept in
one file every few seconds, so a training that was killed goes on from there and ends with the
weights that it would have ended with.
"""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import yaml
from numpy.typing import NDArray

import autotts_gym
from autotts_gym.tinylm import task
from autotts_gym.tinylm import tiny_model as models
from autotts_gym.tinylm.teacher import ANSWER, FAULTLESS, Teacher
from autotts_gym.tinylm.vocabulary import END_ID, END_OF_THINKING_ID, PAD_ID, encode

if TYPE_CHECKING:
    import torch
    from transformers import Qwen3ForCausalLM

#: What the loss leaves out.
IGNORED: Final = -100
CARD: Final = "training.yaml"
CHECKPOINT: Final = "checkpoint.pt"
#: Said in every card, and to be said wherever the traces of such a model are shown.
WHAT: Final = (
    "A tiny model that was trained on the traces of a deliberately fallible teacher: what it "
    "writes are real samples of a language model, but not reasoning that emerged."
)
#: Lengths of batches are multiples of this, so that few different shapes occur.
_BUCKET: Final = 32


@dataclass(frozen=True)
class Recipe:
    """How a model is trained.

    Attributes:
        shape: of the network.
        teacher: who writes what is learned.
        tokens: of all batches together, padding not counted; at least 1.
        minutes: instead of ``tokens``, if given, how long to train, above 0. How far a training
            is then depends on the machine, and so do its weights.
        seed: of the weights and the samples.
        batch: tokens of a batch at most, padding counted.
        pool: samples that are drawn, sorted by length and cut into batches together.
        clean: share of the training that the faultless teacher writes for, first.
        probes: share of samples that are cut and closed as a probe.
        matrix_rate, other_rate: learning rates of Muon, for matrices, and of AdamW, for
            embeddings and norms, at their highest.
        warmup: steps in which the rates rise; then they fall as a cosine to a twentieth.
    """

    shape: models.Shape
    teacher: Teacher
    tokens: int
    minutes: float | None = None
    seed: int = 0
    batch: int = 4600
    pool: int = 640
    clean: float = 0.3
    probes: float = 0.35
    matrix_rate: float = 0.015
    other_rate: float = 0.008
    warmup: int = 50

    def __post_init__(self) -> None:
        """Raise ``ValueError`` for a length of training, a batch or a pool of nothing."""
        for name in ("tokens", "minutes", "batch", "pool"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be above 0, got {value!r}")


class Sample(NamedTuple):
    """Token ids, and which of them are to be learned."""

    ids: list[int]
    learned: list[bool]


class Progress(NamedTuple):
    """What a training reports after a step.

    ``share`` is how much is done, from 0 to 1; ``loss`` the mean of the last 50 steps, in nats a
    token.
    """

    step: int
    tokens: int
    share: float
    loss: float
    tokens_per_second: float
    seconds_left: float


def sample(teacher: Teacher, chain: task.Chain, probes: float, rng: np.random.Generator) -> Sample:
    """A training sample for a chain; with chance ``probes`` one cut at a random token.

    The question is not to be learned. Of a sample that was cut, neither is the ``</think>`` that
    closes it: the model would learn to stop anywhere.
    """
    trace = teacher.write(chain, rng)
    prompt = encode(chain.prompt)
    thinking: list[int] = []
    held: list[int] = []
    for piece in trace.pieces:
        ids = encode(piece.text)
        thinking += ids
        held += [piece.held] * len(ids)
    held.append(trace.answer)
    answer, cut = trace.answer, len(thinking)
    probed = rng.random() < probes
    if probed:
        cut = int(rng.integers(len(thinking) + 1))
        answer = held[cut]
    closing = [END_OF_THINKING_ID, *encode(f"{ANSWER}{answer:02}"), END_ID]
    learned = [False] * len(prompt) + [True] * (cut + len(closing))
    if probed:
        learned[len(prompt) + cut] = False
    return Sample([*prompt, *thinking[:cut], *closing], learned)


def chains(rng: np.random.Generator) -> Iterator[task.Chain]:
    """Chains without end, none of which is in a question set."""
    reserved = task.reserved()
    while True:
        chain = task.draw(rng)
        if chain.text not in reserved:
            yield chain


class Batch(NamedTuple):
    """Samples side by side: int64[samples, length] each; targets are the ids, or ``IGNORED``."""

    ids: NDArray[np.int64]
    targets: NDArray[np.int64]
    tokens: int


def batches(recipe: Recipe, pool: int, clean: bool) -> list[Batch]:
    """The batches of one pool of samples; the same arguments give the same ones."""
    rng = np.random.default_rng([recipe.seed, pool])
    teacher = FAULTLESS if clean else recipe.teacher
    drawn = [
        sample(teacher, chain, recipe.probes, rng)
        for chain, _ in zip(chains(rng), range(recipe.pool), strict=False)
    ]
    drawn.sort(key=lambda item: len(item.ids))
    made: list[Batch] = []
    last = len(drawn)
    while last:
        # From the longest down: the length of a batch is known before how many samples fit.
        length = -(-len(drawn[last - 1].ids) // _BUCKET) * _BUCKET
        first = max(0, last - max(1, recipe.batch // length))
        made.append(_side_by_side(drawn[first:last], length))
        last = first
    return [made[index] for index in rng.permutation(len(made))]


def _side_by_side(samples: list[Sample], length: int) -> Batch:
    ids = np.full((len(samples), length), PAD_ID, np.int64)
    targets = np.full((len(samples), length), IGNORED, np.int64)
    for row, item in enumerate(samples):
        count = len(item.ids)
        ids[row, :count] = item.ids
        targets[row, :count] = np.where(item.learned, item.ids, IGNORED)
    return Batch(ids, targets, sum(len(item.ids) for item in samples))


class Training:
    """A training under way, kept in a folder.

    Args:
        recipe: how to train.
        folder: where the checkpoint lies. If there is one, it is gone on from.

    Raises:
        ValueError: the checkpoint was made with another recipe; the message says what differs.
    """

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        import torch

        self.recipe = recipe
        self.checkpoint = folder / CHECKPOINT
        self.model = models.build(recipe.shape, recipe.seed)
        # On a CPU, plain attention takes half the time of the fused one, backward above all.
        self.model.set_attn_implementation("eager")
        matrices: list[torch.nn.Parameter] = []
        others: list[torch.nn.Parameter] = []
        for name, parameter in self.model.named_parameters():
            matrix = parameter.ndim == 2 and "embed" not in name
            (matrices if matrix else others).append(parameter)
        self._optimizers: list[torch.optim.Optimizer] = [
            torch.optim.Muon(matrices, lr=recipe.matrix_rate, weight_decay=0.0),
            torch.optim.AdamW(others, lr=recipe.other_rate, betas=(0.9, 0.95), weight_decay=0.0),
        ]
        self._rates = (recipe.matrix_rate, recipe.other_rate)
        self._pool = self._position = 0  # the pool of samples, and how many of its batches are done
        self._clean = True
        self._history: list[dict[str, float]] = []
        self.step = self.tokens = 0
        self.seconds = 0.0
        #: Of the last 50 steps.
        self.losses: list[float] = []
        if self.checkpoint.exists():
            self._load()

    @property
    def share(self) -> float:
        """How much of the training is done, from 0 to 1."""
        if self.recipe.minutes is not None:
            return min(1.0, self.seconds / (60 * self.recipe.minutes))
        return min(1.0, self.tokens / self.recipe.tokens)

    @property
    def done(self) -> bool:
        """Whether all of it is."""
        return self.share >= 1

    def run(
        self,
        report: Callable[[Progress], None] | None = None,
        save_every: float = 10.0,
        until: Callable[[], bool] | None = None,
    ) -> None:
        """Train until done, or until ``until`` says so after a step.

        Args:
            report: called after every step.
            save_every: seconds between two checkpoints. What came after the last one is done
                again, to the same result, if the process is interrupted or killed.
            until: see above.
        """
        start = saved = time.monotonic()
        before, share, tokens = self.seconds, self.share, self.tokens
        while not self.done:
            if self._position == 0:
                self._clean = self.share < self.recipe.clean
            pool = batches(self.recipe, self._pool, self._clean)
            while self._position < len(pool) and not self.done:
                self._train(pool[self._position])
                self._position += 1
                now = time.monotonic()
                self.seconds = before + now - start
                if self.step % 100 == 0:
                    self._history.append({"tokens": self.tokens, "loss": self._loss})
                if report is not None:
                    speed = (self.tokens - tokens) / max(now - start, 1e-9)
                    left = (now - start) * (1 - self.share) / max(self.share - share, 1e-9)
                    report(Progress(self.step, self.tokens, self.share, self._loss, speed, left))
                if now - saved > save_every:
                    self.save()
                    saved = now
                if until is not None and until():
                    self.save()
                    return
            if self._position == len(pool):
                self._pool, self._position = self._pool + 1, 0
        self.save()

    @property
    def _loss(self) -> float:
        return round(float(np.mean(self.losses)), 4)

    def _train(self, batch: Batch) -> None:
        import torch
        from torch.nn import functional

        rise = min(1.0, (self.step + 1) / self.recipe.warmup)
        factor = rise * (0.05 + 0.95 * (1 + math.cos(math.pi * self.share)) / 2)
        for optimizer, rate in zip(self._optimizers, self._rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate * factor
        ids, targets = torch.from_numpy(batch.ids), torch.from_numpy(batch.targets)
        with torch.autocast("cpu", torch.bfloat16):
            # Padding is on the right, where causal attention does not see it: no mask is needed.
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

    # --- what is kept ----------------------------------------------------------------------------

    def save(self) -> None:
        """Keep the state; a kill meanwhile leaves the last one."""
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
        partial = self.checkpoint.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self.checkpoint)

    def _load(self) -> None:
        import torch

        state = torch.load(self.checkpoint, weights_only=True)
        there, here = state["recipe"], asdict(self.recipe)
        if there != here:
            differing = ", ".join(
                f"{key} {there.get(key)!r} there, {value!r} here"
                for key, value in here.items()
                if there.get(key) != value
            )
            raise ValueError(
                f"{self.checkpoint} is of another training ({differing}): go on with that one, "
                "train into another folder, or delete the file"
            )
        self.model.load_state_dict(state["model"])
        for optimizer, kept in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        self.step, self.tokens, self._pool, self._position, self._clean = state["counters"]
        self.seconds = state["seconds"]
        self.losses, self._history = state["losses"], state["history"]

    def export(self, folder: Path, details: Mapping[str, Any] | None = None) -> None:
        """Write the model as it is now into a folder, and beside it the card of its training.

        Args:
            folder: is made if there is none.
            details: what the card is to begin with.
        """
        models.export(self.model, folder)
        card = {**(details or {}), **self.card()}
        text = yaml.safe_dump(card, sort_keys=False, allow_unicode=True)
        (folder / CARD).write_text(text, encoding="utf-8")

    def card(self) -> dict[str, Any]:
        """What there is to know about the training so far, as plain values."""
        recipe = asdict(self.recipe)
        del recipe["teacher"]
        return {
            "what": WHAT,
            "parameters": parameters(self.model),
            "seed": recipe.pop("seed"),
            "tokens": self.tokens,
            "steps": self.step,
            "wall_seconds": round(self.seconds, 1),
            "loss": self._loss if self.losses else None,
            "losses": self._history[:: 1 + len(self._history) // 20],
            "versions": {
                "autotts_gym": autotts_gym.__version__,
                "python": platform.python_version(),
                **{name: metadata.version(name) for name in ("torch", "transformers", "numpy")},
            },
            "recipe": recipe,
            "teacher": self.recipe.teacher.card(),
        }


def parameters(model: Qwen3ForCausalLM) -> int:
    """How many weights a model has; tied ones count once."""
    return sum(parameter.numel() for parameter in model.parameters())
