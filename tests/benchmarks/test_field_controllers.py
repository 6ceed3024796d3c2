"""The field's controllers equal their descriptions in plain Python, episode by episode.

``python benchmarks/field_controllers.py`` compares them on more episodes.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from stores import confident_store

from autotts_gym.rollout.branch_orders import branch_orders
from autotts_gym.traces import registry
from autotts_gym.traces.published_import import read_published
from autotts_gym.traces.store import TraceStore

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SHARED = Path(__file__).parents[3] / "shared"
PUBLISHED = Path(os.environ.get("AUTOTTS_PUBLISHED", SHARED / "data" / "autotts_release"))

NEED_CONFIDENCE = ("deepconf_online", "deepconf_offline", "deepconf_bottom10", "mars_deepconf")
OTHERS = ("first_finish", "short_m_at_k", "beta_stopping", "doubling", "certaindex", "mars")
BETAS = (0.0, 0.3, 0.5, 1.0)

#: A bundled environment with generation confidences.
WITH_CONFIDENCE = "qwen2.5-coder-0.5b/problems"


@pytest.fixture(scope="module")
def field_controllers() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("field_controllers")


def outcomes(module: Any, name: str, store: TraceStore, rows: Any, width: int) -> tuple[Any, Any]:
    """Outcomes of the controller and of its description, at every β and billing."""
    questions = np.asarray(rows)
    orders = branch_orders("random", np.ones_like(questions), questions, store, width)
    settings = list(product(BETAS, ("tokens", "interval")))
    played, described = (
        {chosen: play(name, store, questions, orders, *chosen) for chosen in settings}
        for play in (module.played, module.outcomes)
    )
    return played, described


@pytest.mark.slow
@pytest.mark.parametrize("name", [*OTHERS, *NEED_CONFIDENCE])
def test_random_traces(name: str, field_controllers: ModuleType) -> None:
    """Widths below the warm-up, between the two, and above 64."""
    store = confident_store()
    for width in (70, 33, 17, 3, 1):
        rows = range(40 if width > 64 else 8)
        played, described = outcomes(field_controllers, name, store, rows, width)
        assert played == described


@pytest.mark.slow
@pytest.mark.parametrize("name", [*OTHERS, *NEED_CONFIDENCE])
def test_bundled_traces(name: str, field_controllers: ModuleType) -> None:
    (store,) = registry.open_stores(WITH_CONFIDENCE).values()
    played, described = outcomes(field_controllers, name, store, range(10), 32)
    assert played == described


@pytest.mark.slow
@pytest.mark.skipif(not PUBLISHED.is_dir(), reason=f"no {PUBLISHED}: set AUTOTTS_PUBLISHED")
@pytest.mark.parametrize("name", OTHERS)
def test_published_traces(name: str, field_controllers: ModuleType) -> None:
    store = read_published(PUBLISHED / "Qwen3-4B" / "aime24.json")
    played, described = outcomes(field_controllers, name, store, range(0, 30, 6), 64)
    assert played == described


def test_all_controllers_are_compared(field_controllers: ModuleType) -> None:
    assert set(field_controllers.CONTROLLERS) == {*OTHERS, *NEED_CONFIDENCE}
    assert set(NEED_CONFIDENCE) == field_controllers.NEED_CONFIDENCE
