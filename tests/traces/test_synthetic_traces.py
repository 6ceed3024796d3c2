"""Synthetic traces: reproducible, valid for every model, and similar to published ones."""

from __future__ import annotations

import re
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autotts_gym.traces.published_statistics import PUBLISHED_AIME24
from autotts_gym.traces.statistics import Statistics, describe
from autotts_gym.traces.store import NULL_ANSWERS, TraceError, TraceStore
from autotts_gym.traces.synthetic_traces import (
    SyntheticModel,
    calibration_report,
    generate,
    randomized,
)


@pytest.fixture(scope="module")
def default() -> Statistics:
    return describe(generate(questions=600, branches=64))


def check(store: TraceStore, model: SyntheticModel, interval: int) -> None:
    """Check the invariants of a synthetic store."""
    t = store.tables
    assert t.tokens.min() >= 1
    assert t.tokens.max() <= model.limit + model.closing
    assert t.lengths.min() >= 0
    assert t.lengths.max() < max(model.limit // interval, 1)
    # n·Δ - T is at most the shortfall.
    assert (t.tokens - t.lengths * interval).min() >= -model.shortfall * interval - 1e-6
    assert len(t.probes) == t.lengths.sum()
    assert all(column.dtype == np.int16 for column in (t.finals, t.probes))
    question = np.repeat(np.arange(len(t.ids)), t.branch_counts)
    classes = np.array([len(answers) for answers in t.answers])
    assert t.finals.min() >= 0
    assert (t.finals < classes[question]).all()
    assert (t.probes >= 0).all()
    assert (t.probes < classes[np.repeat(question, t.lengths)]).all()
    for gold, answers, nulls in zip(t.golds, t.answers, t.nulls, strict=True):
        assert 0 <= int(gold) < 1000
        assert len(set(answers)) == len(answers) == len(nulls)
        assert nulls == [answer in NULL_ANSWERS for answer in answers]
        assert all(answer in NULL_ANSWERS or 0 <= int(answer) < 1000 for answer in answers)
    # The last probe shows the final answer.
    probed = t.lengths > 0
    assert (t.probes[np.cumsum(t.lengths)[probed] - 1] == t.finals[probed]).all()


# --- reproducibility and documentation -----------------------------------------------------------


def test_same_seed_same_store() -> None:
    first, again, other = (generate(questions=5, branches=9, seed=s) for s in (1, 1, 2))
    assert first.card == again.card
    assert first.card.fingerprint != other.card.fingerprint
    assert generate(questions=5, branches=9, seed=1, interval=250).card.depth > first.card.depth


def test_card_survives_saving(tmp_path: Path) -> None:
    model = replace(SyntheticModel(), accuracy=np.float64(0.5), limit=20_000)
    store = generate(model, questions=3, branches=4, seed=11)
    saved = store.save(tmp_path / "made-up")
    assert saved.card == store.card
    assert saved.card.synthetic is True
    assert (saved.card.questions, saved.card.branches, saved.card.interval) == (3, 12, 500)
    facts = dict(saved.card.details["synthetic_model"])
    assert facts.pop("seed") == 11
    assert SyntheticModel(**facts) == model
    assert saved.tables.fingerprint(500) == store.card.fingerprint


def test_every_parameter_is_documented_with_its_range() -> None:
    attributes = str(SyntheticModel.__doc__).split("Attributes:")[1]
    for item in fields(SyntheticModel):
        assert re.search(rf"^ *(\w+, )?{item.name}(, \w+)?: ", attributes, re.MULTILINE), item.name


@pytest.mark.parametrize("name", [item.name for item in fields(SyntheticModel)])
@pytest.mark.parametrize("value", [-11, float("inf"), float("nan"), "much", True, None])
def test_parameters_are_validated(name: str, value: Any) -> None:
    with pytest.raises(TraceError, match=rf"^{name} must be a number from .* to .*, got {value!r}"):
        replace(SyntheticModel(), **{name: value})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"questions": 0}, "questions must be an integer of at least 1, got 0"),
        ({"branches": 1.5}, "branches must be an integer of at least 1, got 1.5"),
        ({"seed": -1}, "seed must be an integer of at least 0, got -1"),
        ({"interval": 0}, "the interval must be a positive integer"),
    ],
)
def test_arguments_are_validated(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(TraceError, match=message):
        generate(**arguments)


# --- validity ------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    questions=st.integers(1, 70),
    branches=st.integers(1, 12),
    interval=st.sampled_from([100, 500, 5_000, 100_000]),
)
def test_randomized_models_give_valid_stores(
    seed: int, questions: int, branches: int, interval: int
) -> None:
    model = randomized(np.random.default_rng(seed))
    store = generate(model, questions, branches, seed, interval)
    assert store.card.branches == questions * branches
    check(store, model, interval)
    describe(store)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_extreme_models_give_valid_stores(data: st.DataObject) -> None:
    # Some parameters at either end of their ranges.
    extremes = {
        item.name: data.draw(st.sampled_from([item.metadata["low"], item.metadata["high"]]))
        for item in fields(SyntheticModel)
        # 2**30 tokens in intervals of 500 would be two million probes per branch.
        if item.name not in ("limit", "closing") and data.draw(st.integers(0, 3)) == 0
    }
    model = replace(SyntheticModel(), **extremes)
    check(generate(model, questions=3, branches=4, seed=0), model, 500)


def test_randomized() -> None:
    draw = [randomized(np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert draw[0] == draw[1] != draw[2]
    assert draw[0].limit == SyntheticModel().limit
    # Shares of 0 and 1 stay unchanged.
    never = replace(SyntheticModel(), null=0.0, null_no=1.0)
    assert (randomized(np.random.default_rng(0), never).null) == 0
    assert (randomized(np.random.default_rng(0), never).null_no) == 1
    spread = [randomized(np.random.default_rng(seed)) for seed in range(200)]
    for name, value in asdict(SyntheticModel()).items():
        drawn = [getattr(model, name) for model in spread]
        assert min(drawn) <= value <= max(drawn), name


# --- effect of each parameter --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameter", "low", "high", "figure"),
    [
        ("misleading", 0.1, 0.6, "plurality_wrong"),
        ("accuracy", 0.6, 0.95, "accuracy"),
        ("misleading_accuracy", 0.0, 0.1, "pass_any"),
        ("length", 4_000, 12_000, "tokens_mean"),
        ("length_difficulty", 0.0, 1.0, "tokens_mean"),
        ("length_wrong", 0.0, 1.0, "wrong_length"),
        ("length_question", 0.1, 0.8, "tokens_cv"),
        ("length_branch", 0.1, 0.8, "tokens_cv_within"),
        ("found", 0.3, 0.8, "settled"),
        ("found_wrong", 0.0, 2.0, "settled"),
        ("lapse", 0.0, 0.5, "late_changes"),
        ("switch", 0.1, 0.9, "changes"),
        ("switch_late", 0.1, 0.9, "changes"),
        ("null_final", 0.0, 0.5, "final_nulls"),
        ("saturation", 1.0, 10.0, "tokens_mean"),
    ],
)
def test_figure_grows_with_parameter(parameter: str, low: float, high: float, figure: str) -> None:
    less, more = (
        getattr(describe(generate(replace(SyntheticModel(), **{parameter: value}), 60, 32)), figure)
        for value in (low, high)
    )
    assert more > less * 1.02


@pytest.mark.parametrize(
    ("parameter", "low", "high", "figure", "tenth"),
    [
        ("null", 0.02, 0.5, "null_by_depth", 4),
        ("null_start", 0.0, 1.0, "null_by_depth", 0),
        ("null_found", 0.0, 0.5, "null_by_depth", 9),
        ("glimpse", 0.0, 0.3, "accuracy_by_depth", 0),
        ("trap", 0.0, 1.0, "agreement_by_depth", 0),
    ],
)
def test_figure_by_depth_grows_with_parameter(
    parameter: str, low: float, high: float, figure: str, tenth: int
) -> None:
    less, more = (
        getattr(describe(generate(replace(SyntheticModel(), **{parameter: value}), 60, 32)), figure)
        for value in (low, high)
    )
    assert more[tenth] > less[tenth]


@pytest.mark.parametrize("parameter", ["wrong_concentration", "tail"])
def test_wrong_answers_disagree_more(parameter: str) -> None:
    agreements = [
        describe(generate(replace(SyntheticModel(), **{parameter: value}), 60, 32)).wrong_agreement
        for value in (0.1, 0.9)
    ]
    assert agreements[0] > agreements[1]


def test_spelling_of_null_answers() -> None:
    for share, present, absent in ((1.0, "No", "ERR"), (0.0, "ERR", "No")):
        given = set().union(
            *generate(replace(SyntheticModel(), null_no=share), 20, 8).tables.answers
        )
        assert present in given
        assert absent not in given


# --- similarity to the published traces ----------------------------------------------------------


def test_default_resembles_qwen3_4b(default: Statistics) -> None:
    target = PUBLISHED_AIME24["Qwen3-4B"]
    # Tolerances chosen by eye, wider than the deviations in the docstring of SyntheticModel.
    for name, tolerance in {
        "accuracy": 0.03,
        "plurality": 0.025,
        "pass_any": 0.04,
        "plurality_wrong": 0.025,
        "tokens_cv": 0.05,
        "tokens_cv_within": 0.04,
        "length_correlation": 0.1,
        "wrong_length": 0.12,
        "null_by_depth": 0.06,
        "accuracy_by_depth": 0.05,
        # One of thirty questions is 0.033, and there is a known deviation at half the depth.
        "plurality_by_depth": 0.15,
        "settled": 0.03,
        "late_changes": 0.05,
        "changes": 0.8,
        "final_nulls": 0.003,
        "wrong_agreement": 0.08,
        "agreement_by_depth": 0.1,
    }.items():
        assert getattr(default, name) == pytest.approx(getattr(target, name), abs=tolerance), name
    for name, tolerance in {"tokens_mean": 0.08, "intervals_mean": 0.08}.items():
        assert getattr(default, name) == pytest.approx(getattr(target, name), rel=tolerance), name
    # Without the minimum: 38,400 branches have a shorter one than 3,840.
    assert default.tokens_quantiles[1:] == pytest.approx(target.tokens_quantiles[1:], rel=0.15)
    assert default.overhang_quantiles[:6] == pytest.approx(target.overhang_quantiles[:6], abs=0.3)
    assert default.accuracy_deciles[3:] == pytest.approx(target.accuracy_deciles[3:], abs=0.08)


def test_small_stores_resemble_large_ones(default: Statistics) -> None:
    small = [describe(generate(seed=seed)) for seed in range(4)]
    assert [s.plurality for s in small] == pytest.approx([default.plurality] * 4, abs=0.05)
    assert [s.accuracy for s in small] == pytest.approx([default.accuracy] * 4, abs=0.06)


def test_calibration_report_takes_stores_and_statistics(default: Statistics) -> None:
    store = generate(questions=3, branches=4)
    table = calibration_report(store, default)
    assert [column.header for column in table.columns] == ["", "store", "reference", "difference"]
    assert next(iter(table.columns[1].cells)) == "3"
    assert next(iter(calibration_report(store, store).columns[3].cells)) == "+0"


def test_many_questions_at_once() -> None:
    # More questions than one block.
    store = generate(questions=1_000, branches=32, seed=5)
    check(store, SyntheticModel(), 500)
    assert len({tuple(answers) for answers in store.tables.answers}) > 990
