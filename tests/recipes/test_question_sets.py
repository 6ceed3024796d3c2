"""The question sets of the pretrained models: what they are, and that they can be made again."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from types import ModuleType

import pytest

from autotts_gym.collection.question_files import read_questions
from autotts_gym.inference.protocol import Protocol
from autotts_gym.model_files.model_source import read_source

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture(scope="module")
def recipes() -> Iterator[tuple[ModuleType, ModuleType]]:
    """The modules ``question_sets`` and ``pretrained_envs``."""
    sys.path.insert(0, str(RECIPES))
    try:
        yield importlib.import_module("question_sets"), importlib.import_module("pretrained_envs")
    finally:
        sys.path.remove(str(RECIPES))


def test_search_and_held_out_sets_differ(recipes: tuple[ModuleType, ModuleType]) -> None:
    """In seed, and in kind or level."""
    question_sets, pretrained_envs = recipes
    for model in pretrained_envs.MODELS.values():
        search, held_out = (question_sets.QUESTION_SETS[name] for name in model.sets)
        assert min(held_out.seeds) - max(search.seeds) > 10_000
        levels = [{(k.name, json.dumps(k.level)) for k in s.kinds} for s in (search, held_out)]
        assert not levels[0] & levels[1]
        assert sum(kind.count for kind in search.kinds) == 60
        assert sum(kind.count for kind in held_out.kinds) == 60


def test_every_protocol_is_valid(recipes: tuple[ModuleType, ModuleType]) -> None:
    for model in recipes[1].MODELS.values():
        protocol = Protocol.load(model.options["protocol"])
        assert protocol.extractors[0] == "answer"


def test_sets_are_written_with_their_sources(
    recipes: tuple[ModuleType, ModuleType], tmp_path: Path
) -> None:
    question_sets, pretrained_envs = recipes
    pytest.importorskip("reasoning_gym")
    texts: dict[str, set[str]] = {}
    for name, question_set in question_sets.QUESTION_SETS.items():
        path = tmp_path / f"{name}.jsonl"
        question_sets.write(question_set, path)
        questions = read_questions(path)
        assert len(questions) == sum(kind.count for kind in question_set.kinds)
        assert all(question.gold for question in questions)
        texts[name] = {question.text for question in questions}
        assert len(texts[name]) == len(questions)
        source = read_source(path.with_suffix(".source.json"))
        assert source is not None
        assert source["generator"] == "reasoning-gym"
        assert source["version"] == question_sets.VERSION
        assert [kind["name"] for kind in source["kinds"]] == [k.name for k in question_set.kinds]
        assert [kind["seed"] for kind in source["kinds"]] == question_set.seeds
        again = tmp_path / "again.jsonl"
        question_sets.write(question_set, again)
        assert again.read_bytes() == path.read_bytes()
    pairs = [model.sets for model in pretrained_envs.MODELS.values()]
    for (search, _), (_, held_out) in product(pairs, pairs):
        assert not texts[search] & texts[held_out], (search, held_out)
