"""Question sets of the bundled environments of pretrained models, made with reasoning-gym.

Usage::

    pip install reasoning-gym==0.1.25
    python recipes/question_sets.py problems --out build/questions/problems.jsonl

Writes the questions as JSON Lines with the keys ``id``, ``question``, ``answer``, ``kind`` and
``level``, as ``autotts collect --questions`` takes them; and beside them ``problems.source.json``
with generator, version, seed, kinds and levels, which the collection copies to the card. The same
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
#: Questions generated for one that is used: some are repetitions.
_SURPLUS: Final = 4


_TWO_DIGITS: Final = {"min_digits": 2, "max_digits": 2}
_PLAIN: Final = {"styles": ["plain"]}


@dataclass(frozen=True)
class Kind:
    """``count`` questions of a kind.

    Attributes:
        name: name of the dataset in reasoning-gym.
        count: number of questions.
        level: parameters of the dataset; those that are missing have reasoning-gym's defaults.
    """

    name: str
    count: int
    level: dict[str, Any]


@dataclass(frozen=True)
class QuestionSet:
    """A question set; ``seed`` is that of all its datasets."""

    seed: int
    kinds: tuple[Kind, ...]


#: Question sets by name. ``problems`` is for the search, ``numbers`` is held out. Kinds and levels
#: were chosen by a pilot with Qwen2.5-Coder-0.5B-Instruct: a branch answers 17% to 62% of the
#: questions of each kind correctly.
QUESTION_SETS: Final = {
    "problems": QuestionSet(
        1_000_000,
        (
            Kind("gsm_symbolic", 12, {}),
            Kind("simple_equations", 16, {"min_terms": 3, "max_terms": 3, "max_value": 12}),
            Kind("simple_equations", 16, {"min_terms": 4, "max_terms": 4, "max_value": 12}),
            Kind("lcm", 16, {"min_value": 4, "max_value": 30}),
        ),
    ),
    "numbers": QuestionSet(
        2_000_000,
        (
            Kind("chain_sum", 10, {"min_terms": 3, "max_terms": 3, **_TWO_DIGITS}),
            Kind("chain_sum", 10, {"min_terms": 4, "max_terms": 4, **_TWO_DIGITS}),
            Kind("fraction_simplification", 10, {"max_value": 30, "max_factor": 20, **_PLAIN}),
            Kind("fraction_simplification", 10, {"max_value": 90, "max_factor": 30, **_PLAIN}),
            Kind("gcd", 20, {"min_value": 10, "max_value": 60}),
        ),
    ),
}


def generate(question_set: QuestionSet) -> list[dict[str, Any]]:
    """Return the rows of a set.

    Raises:
        RuntimeError: another version of reasoning-gym is installed, or a kind has too few
            questions.
    """
    import reasoning_gym

    found = importlib.metadata.version(GENERATOR)
    if found != VERSION:
        raise RuntimeError(f"{GENERATOR} {found} is installed; the sets are made with {VERSION}")
    rows: list[dict[str, Any]] = []
    numbers: Counter[str] = Counter()
    used: set[str] = set()
    for kind in question_set.kinds:
        dataset = reasoning_gym.create_dataset(
            kind.name, seed=question_set.seed, size=_SURPLUS * kind.count, **kind.level
        )
        wanted = len(rows) + kind.count
        for entry in dataset:
            question = entry["question"].strip()
            if len(rows) < wanted and question not in used:
                used.add(question)
                rows.append(
                    {
                        "id": f"{kind.name}-{numbers[kind.name]}",
                        "question": question,
                        "answer": str(entry["answer"]),
                        "kind": kind.name,
                        "level": kind.level,
                    }
                )
                numbers[kind.name] += 1
        if len(rows) < wanted:
            raise RuntimeError(f"{kind.name} {kind.level}: fewer than {kind.count} questions")
    return rows


def describe(question_set: QuestionSet) -> dict[str, Any]:
    """Return the content of the ``.source.json`` of a set."""
    return {
        "generator": GENERATOR,
        "version": VERSION,
        "licence": "Apache-2.0",
        "seed": question_set.seed,
        "kinds": [
            {"name": kind.name, "count": kind.count, "level": kind.level}
            for kind in question_set.kinds
        ],
    }


def write(question_set: QuestionSet, path: Path) -> None:
    """Write the questions of a set and its sources."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(row, ensure_ascii=False) for row in generate(question_set)]
    write_text(path.with_suffix(".source.json"), dump(describe(question_set)))
    write_text(path, "\n".join(lines) + "\n")


def main() -> None:
    """Write the question set that the command line names."""
    parser = argparse.ArgumentParser(description="Write a question set.")
    parser.add_argument("name", choices=sorted(QUESTION_SETS))
    parser.add_argument("--out", type=Path, required=True, help="The .jsonl file to write.")
    arguments = parser.parse_args()
    write(QUESTION_SETS[arguments.name], arguments.out)
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
