"""Training samples of a tiny model, and the recipe that says how they are drawn and learned.

Some samples are cut at a random token and closed with ``</think>answer:``, as a probe does, so that
the model can be probed anywhere. Samples are drawn in pools, each from its own seed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from autotts_gym.tinylm.arithmetic_chain import Chain, random_chain
from autotts_gym.tinylm.question_sets import reserved_questions
from autotts_gym.tinylm.qwen3_model import ModelShape
from autotts_gym.tinylm.teacher import ANSWER_PREFIX, FAULTLESS, Teacher
from autotts_gym.tinylm.vocabulary import END_ID, END_OF_THINKING_ID, PAD_ID, encode

#: Target value of tokens that the loss leaves out.
IGNORED: Final = -100
#: Batch lengths are multiples of this number of tokens, so that few different shapes occur.
_LENGTH_STEP: Final = 32


@dataclass(frozen=True)
class Recipe:
    """Hyperparameters of a training.

    Attributes:
        shape: dimensions of the network.
        teacher: writer of the training traces.
        tokens: length of the training, tokens without padding; at least 1.
        minutes: length of the training in minutes, above 0, instead of ``tokens``. The resulting
            weights then depend on the speed of the machine.
        seed: random seed of the weights and of the samples.
        batch: maximum size of a batch, tokens with padding.
        pool: number of samples that are drawn, sorted by length and cut into batches together.
        clean: fraction of the training, at its start, that uses the faultless teacher.
        probes: fraction of samples that are cut and closed as a probe.
        matrix_rate: peak learning rate of Muon, for weight matrices.
        other_rate: peak learning rate of AdamW, for embeddings and norms.
        warmup: steps of linear warm-up; a cosine decay to a twentieth of the peak follows.

    Raises:
        ValueError: ``tokens``, ``minutes``, ``batch`` or ``pool`` is not above 0.
    """

    shape: ModelShape
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
        for name in ("tokens", "minutes", "batch", "pool"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be above 0, got {value!r}")


class Sample(NamedTuple):
    """Token ids of a sample, and for each whether the loss includes it."""

    ids: list[int]
    learned: list[bool]


class Batch(NamedTuple):
    """Padded samples.

    Attributes:
        ids: int64[samples, length].
        targets: int64[samples, length]; the ids, or ``IGNORED``.
        tokens: number of tokens without padding.
    """

    ids: NDArray[np.int64]
    targets: NDArray[np.int64]
    tokens: int


def draw_sample(
    teacher: Teacher, chain: Chain, probe_fraction: float, rng: np.random.Generator
) -> Sample:
    """Draw a training sample for a chain; with probability ``probe_fraction`` cut as a probe.

    The loss leaves out the question. In a sample that was cut, it also leaves out the closing
    ``</think>``: otherwise the model would learn to stop anywhere.
    """
    trace = teacher.write_trace(chain, rng)
    prompt = encode(chain.prompt)
    thinking: list[int] = []
    probe_answers: list[int] = []
    for piece in trace.pieces:
        ids = encode(piece.text)
        thinking += ids
        probe_answers += [piece.probe_answer] * len(ids)
    probe_answers.append(trace.answer)
    answer, cut = trace.answer, len(thinking)
    is_probe = rng.random() < probe_fraction
    if is_probe:
        cut = int(rng.integers(len(thinking) + 1))
        answer = probe_answers[cut]
    closing = [END_OF_THINKING_ID, *encode(f"{ANSWER_PREFIX}{answer:02}"), END_ID]
    learned = [False] * len(prompt) + [True] * (cut + len(closing))
    if is_probe:
        learned[len(prompt) + cut] = False
    return Sample([*prompt, *thinking[:cut], *closing], learned)


def training_chains(rng: np.random.Generator) -> Iterator[Chain]:
    """Yield an endless sequence of chains, none of which is in a question set."""
    reserved = reserved_questions()
    while True:
        chain = random_chain(rng)
        if chain.text not in reserved:
            yield chain


def pool_batches(recipe: Recipe, pool: int, clean: bool) -> list[Batch]:
    """Return the batches of one pool of samples; deterministic in its arguments.

    Args:
        recipe: the hyperparameters.
        pool: number of the pool, from 0.
        clean: use the faultless teacher.
    """
    rng = np.random.default_rng([recipe.seed, pool])
    teacher = FAULTLESS if clean else recipe.teacher
    samples = [
        draw_sample(teacher, chain, recipe.probes, rng)
        for chain, _ in zip(training_chains(rng), range(recipe.pool), strict=False)
    ]
    samples.sort(key=lambda sample: len(sample.ids))
    batches: list[Batch] = []
    last = len(samples)
    while last:
        # From the longest sample down: the length of the batch determines how many samples fit.
        length = -(-len(samples[last - 1].ids) // _LENGTH_STEP) * _LENGTH_STEP
        first = max(0, last - max(1, recipe.batch // length))
        batches.append(_pad_batch(samples[first:last], length))
        last = first
    return [batches[index] for index in rng.permutation(len(batches))]


def _pad_batch(samples: list[Sample], length: int) -> Batch:
    ids = np.full((len(samples), length), PAD_ID, np.int64)
    targets = np.full((len(samples), length), IGNORED, np.int64)
    for row, sample in enumerate(samples):
        count = len(sample.ids)
        ids[row, :count] = sample.ids
        targets[row, :count] = np.where(sample.learned, sample.ids, IGNORED)
    return Batch(ids, targets, sum(len(sample.ids) for sample in samples))
