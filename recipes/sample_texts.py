"""The page of sample texts of the documentation: branches drawn at random, correct and wrong.

Usage::

    python recipes/sample_texts.py --out docs/sample-texts.md

Each environment has ``--questions`` questions, and of each a correct and a wrong branch where it
has both. They are drawn with a fixed seed and none is left out: the page shows what is usual.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from pathlib import Path

from pretrained_envs import MODELS

from autotts_gym.traces import registry
from autotts_gym.traces.records import Branch, Question
from autotts_gym.traces.store import TraceStore
from autotts_gym.utils.files import write_text

_HEADER = """\
# Sample texts

Branches of the bundled environments of pretrained models, as the models wrote them. {questions}
questions of each environment were drawn at random, and of each one correct and one wrong branch,
where it has both; none was left out (`python recipes/sample_texts.py --out docs/sample-texts.md`).
The prompt, with three worked examples before the question, is in the card of the environment.

*Probes* are the answers that the model was made to give after each interval, repeated ones
counted, with their confidence. *Generation confidence* is the mean of the token confidences of the
branch, as DeepConf (arXiv 2508.15260) defines them.
"""


def draw(store: TraceStore, count: int, seed: int) -> list[tuple[Question, Branch]]:
    """Draw questions, and a correct and a wrong branch of each."""
    rng = random.Random(seed)
    drawn: list[tuple[Question, Branch]] = []
    for row in rng.sample(range(len(store)), count):
        question = store[row]
        for is_correct in (True, False):
            branches = [b for b in question.branches if (b.final == question.gold) == is_correct]
            if branches:
                drawn.append((question, rng.choice(branches)))
    return drawn


def probes(branch: Branch) -> str:
    """The answers of the probes in order, repeated ones counted."""
    parts: list[list[str]] = []
    for answer, confidence in zip(branch.probes, branch.confidences or (), strict=True):
        if parts and parts[-1][0] == answer:
            parts[-1].append(f"{confidence:.2f}")
        else:
            parts.append([answer, f"{confidence:.2f}"])
    texts = []
    for answer, first, *more in parts:
        times = f" {len(more) + 1} times," if more else ""
        level = f"{first} to {more[-1]}" if more else first
        texts.append(f"`` {answer} ``{times} ({level})")
    return ", ".join(texts).replace(", (", " (") or "none"


def section(question: Question, branch: Branch) -> Iterator[str]:
    """Lines about a branch."""
    verdict = "correct" if branch.final == question.gold else "wrong"
    yield f"### {question.id}: {verdict}"
    yield ""
    yield from (f"> {line}".rstrip() for line in question.text.splitlines())
    yield ""
    yield "```text"
    yield from (branch.text or "").splitlines()
    yield "```"
    yield ""
    mean = sum(branch.confidence_sums or ()) / max(sum(branch.confidence_tokens or ()), 1)
    yield (
        f"Final answer `` {branch.final} ``, gold answer `` {question.gold} ``; "
        f"{branch.tokens} tokens; generation confidence {mean:.1f}. Probes: {probes(branch)}."
    )
    yield ""


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description="Write the page of sample texts.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--questions", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    lines = [_HEADER.format(questions=arguments.questions)]
    for model in MODELS:
        for name, store in registry.open_stores(model).items():
            lines += [f"## {name}", ""]
            for question, branch in draw(store, arguments.questions, arguments.seed):
                lines += section(question, branch)
    write_text(arguments.out, "\n".join(lines).rstrip() + "\n")


if __name__ == "__main__":
    main()
