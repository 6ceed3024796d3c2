"""Small random stores, configs and actions with many edge cases.

They take a ``random.Random``, which is seeded or created by hypothesis.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import numpy as np

from autotts_gym.traces.store import Branch, Question, TraceStore

ANSWERS = ("No", "7", "ERR", "8", "", "9", "10", "11")  # three of them null


def random_generation(
    random: Random, n: int, tokens: int, interval: int
) -> tuple[list[float], list[int]]:
    """Confidence sums and numbers of tokens of n + 1 intervals, some of them unknown."""
    most = [interval] * n + [max(tokens - n * interval, 0)]
    counts = [random.choice([0, count, count, random.randint(0, count)]) for count in most]
    return [random.randint(0, 200 * count) / 8 for count in counts], counts


def random_branch(
    random: Random,
    interval: int,
    depth: int,
    answers: int,
    *,
    confidences: bool,
    costs: bool,
    generation: bool,
) -> Branch:
    n = random.randint(0, depth)
    tokens = random.choice(
        [
            random.randint(1, max(1, n * interval)),  # shorter than its probes suggest
            n * interval + random.randint(1, interval),
            (n + 1) * interval + random.randint(1, 3 * interval),  # a long closing text
        ]
    )
    sums, counts = random_generation(random, n, tokens, interval)
    return Branch(
        probes=[random.choice(ANSWERS[:answers]) for _ in range(n)],
        tokens=tokens,
        final=random.choice(ANSWERS[:answers]),
        # Multiples of 1/8 are exact in float32.
        confidences=[random.randint(0, 8) / 8 for _ in range(n)] if confidences else None,
        probe_tokens=[random.randint(0, interval) for _ in range(n)] if costs else None,
        confidence_sums=sums if generation else None,
        confidence_tokens=counts if generation else None,
    )


def random_store(random: Random, costs: bool) -> TraceStore:
    """A store of one or two questions with few branches, with probe costs or without."""
    interval, width = random.randint(1, 40), random.randint(1, 5)
    depth, answers = random.randint(0, 6), random.randint(1, len(ANSWERS))
    confidences, generation = random.random() < 0.5, random.random() < 0.6

    def branches() -> list[Branch]:
        columns = {"confidences": confidences, "costs": costs, "generation": generation}
        return [
            random_branch(random, interval, depth, answers, **columns)
            for _ in range(width + random.randint(0, 2))
        ]

    return TraceStore.from_branches(
        [
            Question(f"question {row}", random.choice([*ANSWERS[:answers], "absent"]), branches())
            for row in range(random.randint(1, 2))
        ],
        interval,
    )


def random_stores(random: Random, most: int = 3) -> list[TraceStore]:
    costs = random.random() < 0.5
    return [random_store(random, costs) for _ in range(random.randint(1, most))]


def with_generation(store: TraceStore, seed: int = 0) -> TraceStore:
    """The same traces with random generation confidences, some of them unknown."""
    rng = np.random.default_rng(seed)
    most = store.tables.tokens_per_interval(store.card.interval)
    counts = (most * rng.choice([0.0, 0.5, 1.0], len(most), p=[0.1, 0.2, 0.7])).astype(np.int32)
    sums = (counts * rng.uniform(2, 20, len(most))).astype(np.float32)
    tables = replace(store.tables, confidence_sums=sums, confidence_tokens=counts)
    return TraceStore.from_tables(tables, store.card.interval)


def confident_branch(random: Random, interval: int, answers: list[str]) -> Branch:
    """A branch that mostly settles on an answer, with a confidence for every token."""
    n = random.choice([0, 1, 2, 5, 9, 14])
    favourite = random.choice(answers[:2])
    changes = random.randint(0, n)
    shown = [favourite if k >= changes else random.choice(answers) for k in range(n)]
    closing = random.randint(1, 2 * interval)
    counts = [*[interval] * n, closing]
    level = random.uniform(4, 16)
    sums = [round(8 * count * (level + random.uniform(-2, 2))) / 8 for count in counts]
    return Branch(
        probes=shown,
        tokens=n * interval + closing,
        final=favourite if random.random() < 0.8 else random.choice(answers),
        confidence_sums=sums,
        confidence_tokens=counts,
    )


def confident_store(interval: int = 40, branches: int = 70) -> TraceStore:
    """Questions with few, many and null answers, so that ties and late changes are frequent."""
    random = Random(interval)
    questions = []
    for row in range(40):
        answers = ["7", "8", "No", "9", "", "10", "11", "12"][: 2 + row % 7]
        random.shuffle(answers)
        options = [confident_branch(random, interval, answers) for _ in range(branches)]
        questions.append(Question("?", "7", options))
    return TraceStore.from_branches(questions, interval)


def random_config(random: Random, stores: list[TraceStore]) -> dict[str, Any]:
    """Arguments of an environment with ``stores``, except β."""
    tables = [store.tables for store in stores]
    most = min(int(t.branch_counts.min()) for t in tables)
    interval = max(store.card.interval for store in stores)
    recorded = all(t.probe_tokens is not None for t in tables)
    return {
        "max_branches": random.choice([most, random.randint(1, most)]),
        "billing": random.choice(["tokens", "interval"]),
        "budget": random.choice([None, 10**12] + [random.randint(0, 15 * interval)] * 2),
        "probe_tokens": random.choice([0, 3, 2 * interval] + ["recorded"] * 3 * recorded),
        "auto_probe": random.random() < 0.25,
        "step_limit": random.choice([None, random.randint(1, 30)]),
        "invalid_penalty": random.choice([0.0, 0.01, 0.5]),
        "observation": random.choice(["full", "full", "compact"]),
        "max_depth": random.choice([None, 1, 3, 9]),
        "max_classes": random.choice([1, 2, 3, 64]),
        "latency_weight": random.choice([0.0, 0.0, 1.0, round(random.random(), 3)]),
    }


# Weights of the blocks of action ids.
_BLOCK_WEIGHTS = (6, 5, 1, 0.3)


def random_action(random: Random, mask: list[bool]) -> int:
    """A random action id, mostly legal; episodes often reach the ends of branches."""
    width = (len(mask) - 2) // 4
    plain = random.random()
    if plain < 0.2:
        return 0 if plain < 0.03 else 1
    block = random.choices(range(4), _BLOCK_WEIGHTS)[0]
    ids = range(2 + block * width, 2 + (block + 1) * width)
    legal = [action for action in ids if mask[action]]
    return random.choice(legal if legal and random.random() < 0.9 else ids)
