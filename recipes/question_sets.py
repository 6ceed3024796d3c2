"""Question sets of the bundled environments of pretrained models, made with reasoning-gym.

Usage::

    pip install reasoning-gym==0.1.25
    python recipes/question_sets.py problems --out build/questions/problems.jsonl

Writes the questions as JSON Lines with the keys ``id``, ``question``, ``answer``, ``kind`` and
``level``, as ``autotts collect --questions`` takes them; and beside them ``problems.source.json``
with generator, version, kinds, seeds and levels, which the collection copies to the card. The same
version of reasoning-gym writes the same file.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from autotts_gym.model_files.model_source import dump
from autotts_gym.utils.files import write_text

GENERATOR: Final = "reasoning-gym"
VERSION: Final = "0.1.25"
#: Distance of the seeds of two datasets; with equal seeds, levels of a kind have related questions.
_SEEDS_OF_A_KIND: Final = 10_000
#: Questions generated for one that is used: some are repetitions.
_SURPLUS: Final = 4


_ONE_DIGIT: Final = {"min_digits": 1, "max_digits": 1}
_TWO_DIGITS: Final = {"min_digits": 2, "max_digits": 2}
_PLAIN: Final = {"styles": ["plain"]}


@dataclass(frozen=True)
class Kind:
    """``count`` questions of a kind.

    Attributes:
        name: name of the dataset in reasoning-gym.
        count: number of questions.
        level: parameters of the dataset; those that are missing have reasoning-gym's defaults.
        equality: ``"form"`` if an answer must be written like the gold answer.
    """

    name: str
    count: int
    level: dict[str, Any]
    equality: str = "value"


@dataclass(frozen=True)
class QuestionSet:
    """A question set.

    Attributes:
        seed: the seed from which those of the datasets are counted.
        kinds: the kinds, each with its own dataset.
    """

    seed: int
    kinds: tuple[Kind, ...]

    @property
    def seeds(self) -> list[int]:
        """Seeds of the datasets. Question i of a dataset is drawn with the seed plus i."""
        return [self.seed + _SEEDS_OF_A_KIND * i for i in range(len(self.kinds))]


#: Question sets by name. Kinds and levels were chosen by pilots with the protocol ``step-by-step``
#: at temperature 0.7, some 24 branches of each: Qwen2.5-Coder-0.5B-Instruct is right in 12% to 67%
#: of the branches of each kind of ``problems``, and in 25% to 50% for ``numbers``;
#: SmolLM2-135M-Instruct in 12% to 53% for ``tables``, and in 19% to 36% for ``small-numbers``.
QUESTION_SETS: Final = {
    "problems": QuestionSet(
        1_000_000,
        (
            Kind("gsm_symbolic", 10, {}),
            Kind("simple_equations", 15, {"min_terms": 3, "max_terms": 3, "max_value": 12}),
            Kind("simple_equations", 15, {"min_terms": 4, "max_terms": 4, "max_value": 12}),
            Kind("lcm", 10, {"min_value": 2, "max_value": 15}),
            Kind("lcm", 10, {"min_value": 4, "max_value": 30}),
        ),
    ),
    "numbers": QuestionSet(
        2_000_000,
        (
            Kind("chain_sum", 10, {"min_terms": 3, "max_terms": 3, **_TWO_DIGITS}),
            Kind("chain_sum", 10, {"min_terms": 4, "max_terms": 4, **_TWO_DIGITS}),
            Kind(
                "fraction_simplification", 10, {"max_value": 30, "max_factor": 20, **_PLAIN}, "form"
            ),
            Kind(
                "fraction_simplification", 10, {"max_value": 90, "max_factor": 30, **_PLAIN}, "form"
            ),
            Kind("gcd", 20, {"min_value": 10, "max_value": 60}),
        ),
    ),
    "tables": QuestionSet(
        3_000_000,
        (
            Kind("products", 30, {"min_digits": 1, "max_digits": 2}),
            Kind("lcm", 15, {"min_value": 2, "max_value": 9}),
            Kind(
                "fraction_simplification", 15, {"max_value": 9, "max_factor": 6, **_PLAIN}, "form"
            ),
        ),
    ),
    "small-numbers": QuestionSet(
        4_000_000,
        (
            Kind("gcd", 30, {"min_value": 2, "max_value": 20}),
            Kind("chain_sum", 30, {"min_terms": 2, "max_terms": 2, **_ONE_DIGIT}),
        ),
    ),
}


def generate(question_set: QuestionSet) -> list[dict[str, Any]]:
    """Return the rows of a set. Kinds alternate, so that the first rows are a small set.

    Raises:
        RuntimeError: another version of reasoning-gym is installed, or a kind has too few
            questions.
    """
    found = importlib.metadata.version(GENERATOR)
    if found != VERSION:
        raise RuntimeError(f"{GENERATOR} {found} is installed; the sets are made with {VERSION}")
    numbers: Counter[str] = Counter()
    used: set[str] = set()
    placed: list[tuple[float, dict[str, Any]]] = []
    for kind, seed in zip(question_set.kinds, question_set.seeds, strict=True):
        for i, entry in enumerate(_draw(kind, seed, used)):
            row = {
                "id": f"{kind.name}-{numbers[kind.name]}",
                "question": entry["question"].strip(),
                "answer": str(entry["answer"]),
                "kind": kind.name,
                "level": kind.level,
                **({"equality": kind.equality} if kind.equality != "value" else {}),
            }
            numbers[kind.name] += 1
            placed.append(((i + 0.5) / kind.count, row))
    return [row for _, row in sorted(placed, key=lambda pair: pair[0])]


def _draw(kind: Kind, seed: int, used: set[str]) -> list[dict[str, Any]]:
    """The first questions of a dataset that are not used; adds them to ``used``."""
    import reasoning_gym

    size = _SURPLUS * kind.count
    drawn: list[dict[str, Any]] = []
    for entry in reasoning_gym.create_dataset(kind.name, seed=seed, size=size, **kind.level):
        if len(drawn) < kind.count and entry["question"].strip() not in used:
            used.add(entry["question"].strip())
            drawn.append(entry)
    if len(drawn) < kind.count:
        raise RuntimeError(f"{kind.name} {kind.level}: fewer than {kind.count} questions")
    return drawn


def describe(question_set: QuestionSet) -> dict[str, Any]:
    """Return the content of the ``.source.json`` of a set."""
    return {
        "generator": GENERATOR,
        "version": VERSION,
        "licence": "Apache-2.0",
        "kinds": [
            {"name": kind.name, "count": kind.count, "seed": seed, "level": kind.level}
            for kind, seed in zip(question_set.kinds, question_set.seeds, strict=True)
        ],
    }


def write(question_set: QuestionSet, path: Path, limit: int | None = None) -> None:
    """Write the questions of a set, at most ``limit`` of them, and its sources."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = generate(question_set)[:limit]
    source = describe(question_set)
    if len(rows) < sum(kind.count for kind in question_set.kinds):
        source["first"] = len(rows)
    write_text(path.with_suffix(".source.json"), dump(source))
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def main() -> None:
    """Write the question set that the command line names."""
    parser = argparse.ArgumentParser(description="Write a question set.")
    parser.add_argument("name", choices=sorted(QUESTION_SETS))
    parser.add_argument("--out", type=Path, required=True, help="The .jsonl file to write.")
    parser.add_argument("--questions", type=int, help="Number of questions; by default all.")
    arguments = parser.parse_args()
    write(QUESTION_SETS[arguments.name], arguments.out, arguments.questions)
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
