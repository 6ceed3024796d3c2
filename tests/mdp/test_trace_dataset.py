"""Tests of ``TraceDataset`` and ``EpisodeConfig``: validation, ledger and array layout."""

import copy
import re

import numpy as np
import pytest

from autotts_gym.mdp import state as s
from autotts_gym.mdp.trace_dataset import EpisodeConfig, TraceDataset
from autotts_gym.traces.store import Branch, Question, TraceStore

PLAIN = TraceStore.from_branches(
    [
        Question("one", "7", [Branch(["7", "No"], 25, "7"), Branch([], 5, "8")]),
        Question("two", "absent", [Branch(["9"], 15, "9")] * 3),
    ],
    interval=10,
)
RECORDED = TraceStore.from_branches(
    [
        Question(
            "three",
            "",
            [
                Branch(
                    ["4", "5", "6"],
                    90,
                    "",
                    [0.5, 0.25, 1.0],
                    [3, 30, 4],
                    confidence_sums=[40.0, 0.0, 60.0, 250.0],
                    confidence_tokens=[20, 0, 15, 25],
                ),
                Branch([], 20, "4", [], [], confidence_sums=[8.0], confidence_tokens=[4]),
            ],
        )
    ],
    interval=20,
)


@pytest.fixture
def dataset():
    return TraceDataset({"plain": PLAIN, "recording": RECORDED})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_branches": 0}, "max_branches must be at least 1, got 0"),
        ({"max_branches": 40_000}, "max_branches must be at most 32767, got 40000"),
        ({"max_branches": 2.0}, "max_branches must be an integer, got 2.0"),
        ({"max_branches": True}, "max_branches must be an integer, got True"),
        ({"max_branches": None}, "max_branches must be an integer, got None"),
        ({"billing": "token"}, 'billing must be "tokens" or "interval", got \'token\''),
        ({"budget": -1}, "budget must be at least 0, got -1"),
        ({"budget": 1 << 63}, f"budget must be at most {1 << 62}, got {1 << 63}"),
        ({"budget": 0.5}, "budget must be an integer, got 0.5"),
        ({"probe_tokens": -1}, "probe_tokens must be at least 0, got -1"),
        ({"probe_tokens": 1 << 40}, f"probe_tokens must be at most {2**31 - 1}, got {1 << 40}"),
        ({"probe_tokens": "free"}, "probe_tokens must be an integer, got 'free'"),
        ({"auto_probe": 2}, "auto_probe must be True or False, got 2"),
        ({"auto_probe": "no"}, "auto_probe must be True or False, got 'no'"),
        ({"step_limit": 0}, "step_limit must be at least 1, got 0"),
        ({"step_limit": False}, "step_limit must be an integer, got False"),
    ],
)
def test_invalid_config_is_rejected(arguments, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        EpisodeConfig(**arguments)


def test_config_accepts_numpy_integers_and_a_budget_of_zero():
    config = EpisodeConfig(np.int64(3), budget=0, probe_tokens=np.int32(2), step_limit=np.int16(9))
    assert config.ledger(PLAIN)["budget"] == 0


def values(ledger: np.ndarray, *names: str) -> list[int]:
    assert ledger.dtype == s.LEDGER
    return [int(ledger[name]) for name in names]


def test_initial_ledger_of_a_store():
    names = "interval", "depth_limit", "budget", "billing", "step_limit", "answer"
    assert values(EpisodeConfig().ledger(PLAIN), *names) == [
        10,
        3,
        s.NO_BUDGET,
        s.BY_TOKENS,
        s.NO_BUDGET,
        -1,
    ]
    config = EpisodeConfig(billing="interval", budget=70, step_limit=5)
    assert values(config.ledger(RECORDED), *names) == [20, 4, 70, s.BY_INTERVAL, 5, -1]
    assert config.ledger(RECORDED)["full_cost"] == 64 * RECORDED.card.mean_tokens
    assert config.ledger(RECORDED)["full_latency"] == RECORDED.longest_tokens(64)
    assert config.ledger(RECORDED)["latency_weight"] == 0
    assert EpisodeConfig(latency_weight=0.25).ledger(RECORDED)["latency_weight"] == 0.25


@pytest.mark.parametrize(
    ("probe_tokens", "auto_probe", "cost", "charge", "extend"),
    [
        (0, False, 0, 0, 20),
        (6, False, 6, 6, 20),
        (6, True, 6, 6, 26),
        # A probe's cost is known only afterwards, so the budget must cover the largest one.
        ("recorded", False, s.RECORDED, 30, 20),
        ("recorded", True, s.RECORDED, 30, 50),
    ],
)
def test_charges_against_the_budget(probe_tokens, auto_probe, cost, charge, extend):
    ledger = EpisodeConfig(probe_tokens=probe_tokens, auto_probe=auto_probe).ledger(RECORDED)
    names = "probe_tokens", "probe_charge", "extend_charge", "auto_probe"
    assert values(ledger, *names) == [cost, charge, extend, int(auto_probe)]


def test_recorded_probe_tokens_need_a_store_with_probe_tokens():
    with pytest.raises(ValueError, match=r'probe_tokens="recorded", but <TraceStore .* none'):
        EpisodeConfig(probe_tokens="recorded").ledger(PLAIN)


def test_stores_are_concatenated(dataset):
    assert dataset.names == ["plain", "recording"]
    assert dataset.first_question.tolist() == [0, 2, 3]
    assert [dataset.locate(row) for row in range(3)] == [(0, 0), (0, 1), (1, 0)]
    assert [dataset.answers(row) for row in range(3)] == [
        ["7", "No", "8"],
        ["9"],
        ["4", "5", "6", ""],
    ]
    assert [dataset.gold(row) for row in range(3)] == ["7", "absent", ""]
    assert dataset.questions["gold"].tolist() == [0, -1, 3]  # -1: no branch has the gold answer
    assert dataset.questions["branches"].tolist() == [0, 2, 5]
    assert dataset.branch_counts.tolist() == [2, 3, 2]
    assert (dataset.classes, dataset.depth) == (4, 4)
    nulls = [dataset.traces.nulls[offset:].tolist() for offset in dataset.questions["nulls"]]
    assert [flags[:n] for flags, n in zip(nulls, (3, 1, 4), strict=True)] == [
        [0, 1, 0],
        [0],
        [0, 0, 0, 1],
    ]


def test_question_offsets_point_to_branches(dataset):
    for row, question in enumerate([PLAIN.question(0), PLAIN.question(1), RECORDED.question(0)]):
        answers = dataset.answers(row)
        for number, branch in enumerate(question.branches):
            offset, length, tokens, final = dataset.traces.branches[
                dataset.questions["branches"][row] + number
            ]
            probes = dataset.traces.probes[offset : offset + length]
            assert [answers[code] for code in probes] == branch.probes
            assert (tokens, answers[final]) == (branch.tokens, branch.final)


def test_columns_missing_from_a_store_are_filled(dataset):
    assert dataset.has_confidences
    # PLAIN has five probes without confidences and probe tokens.
    assert dataset.traces.confidences.tolist() == [-1] * 5 + [0.5, 0.25, 1]
    assert dataset.traces.probe_tokens.tolist() == [0] * 5 + [3, 30, 4]
    # Its five branches have ten intervals without generation confidences.
    assert dataset.traces.confidence_sums.tolist() == [0] * 10 + [40, 0, 60, 250, 8]
    assert dataset.traces.confidence_tokens.tolist() == [0] * 10 + [20, 0, 15, 25, 4]
    assert dataset.has_generation_confidences
    stores = PLAIN, RECORDED
    known = [EpisodeConfig(2).ledger(store)["has_generation_confidence"] for store in stores]
    assert known == [0, 1]
    single = TraceDataset({"plain": PLAIN})
    assert not single.has_confidences
    assert not single.has_generation_confidences
    assert single.traces.confidence_sums.size == single.traces.confidence_tokens.size == 0
    assert single.traces.confidences.size == single.traces.probe_tokens.size == 0


def test_empty_column_counts_as_missing():
    empty = TraceStore.from_branches([Question("", "7", [Branch([], 5, "7", [], [])])], 10)
    assert not TraceDataset({"empty": empty}).has_confidences
    assert not TraceDataset({"empty": empty, "plain": PLAIN}).has_confidences
    EpisodeConfig(probe_tokens="recorded").ledger(empty)  # without probes, no probe cost is missing


def test_traces_are_read_only_and_shared_by_copies(dataset):
    for array in dataset.traces:
        assert not array.flags.writeable
    assert copy.deepcopy(dataset) is dataset
    assert PLAIN.tables.probes.flags.writeable  # the store's arrays stay writable


def test_empty_stores_are_rejected():
    with pytest.raises(ValueError, match="stores is empty; at least one trace store is needed"):
        TraceDataset({})


def test_too_deep_store_is_rejected():
    deep = TraceStore.from_branches([Question("", "7", [Branch(["7"] * 32_767, 9, "7")])], 10)
    with pytest.raises(
        ValueError, match="deep: a branch has 32768 intervals; at most 32767 are possible"
    ):
        TraceDataset({"deep": deep})


def test_check_width(dataset):
    dataset.check_width(2)
    message = "question 0 of 'plain' has 2 branches; pass max_branches=2 or fewer"
    with pytest.raises(ValueError, match=f"^max_branches=3, but {message}$"):
        dataset.check_width(3)
    narrow = TraceStore.from_branches(
        [
            Question("", "7", [Branch([], 9, "7")] * 2),
            Question("", "7", [Branch([], 9, "7")]),
        ],
        10,
    )
    with pytest.raises(ValueError, match="question 1 of 'narrow' has 1 branches"):
        TraceDataset({"plain": PLAIN, "narrow": narrow}).check_width(2)
