"""The study of MARS and DeepConf: the guarantee of MARS, and figures that can be counted."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from stores import confident_store

from autotts_gym.traces.store import Branch, Question, TraceStore

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def field_study() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("field_study")


@pytest.mark.slow
@pytest.mark.parametrize("interval", [10, 40, 41])
def test_with_true_switches_mars_answers_the_full_vote(
    interval: int, field_study: ModuleType
) -> None:
    """It is what the rule guarantees at γ = 1; and it saves something."""
    store = confident_store(interval, branches=40)
    rows = field_study.mars_rows(store, 2)
    equal, saved, _ = rows["true switches, γ = 1"]
    assert equal == 1
    assert saved > 0.05
    assert min(row[0] for row in rows.values()) < 1  # the other variants can be wrong here


def test_accuracy_of_kept_and_dropped_branches(field_study: ModuleType) -> None:
    """20 branches, the more confident the later, and right from the 11th on."""
    branches = [
        Branch(
            ["7"] * 4,
            50,
            "7" if k >= 10 else "8",
            confidence_sums=[10.0 * (k + 1)] * 5,
            confidence_tokens=[10] * 5,
        )
        for k in range(20)
    ]
    store = TraceStore.from_branches([Question("?", "7", branches)], 10)
    for name, share, kept, dropped, vote in field_study.filter_rows(store):
        count = {10: 2, 50: 10, 90: 18}[share]
        assert kept == pytest.approx(min(10, count) / count), name
        assert dropped == pytest.approx(max(0, 10 - count) / (20 - count)), name
        assert vote == 1  # weighted by confidence, the ten right ones outvote the others
