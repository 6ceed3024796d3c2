"""The published protocol: who plays, and which published figures stand beside a row."""

from __future__ import annotations

import pytest

from autotts_gym.controllers.loading import load
from autotts_gym.evaluation import paper


def test_every_row_can_be_played() -> None:
    for entry in paper.ENTRIES:
        agent = load(entry.agent)
        assert agent.takes_beta == (entry.beta is not None)
        assert paper.BILLING[entry.agent] == entry.billing
    assert set(paper.PUBLISHED) <= {entry.label for entry in paper.ENTRIES}


def test_probing_controllers_are_billed_by_interval() -> None:
    by_interval = {agent for agent, billing in paper.BILLING.items() if billing == "interval"}
    assert by_interval == {"parallel_probe", "cmc"}


def test_figures_belong_to_a_model_and_a_benchmark() -> None:
    card = {"model": "Qwen3-4B", "benchmark": "aime24"}
    found = paper.published("CMC β=0.5", card)
    assert found is not None
    assert (found.accuracy, found.tokens, found.sequential) == (82.0, 236.7, None)
    assert paper.published("CMC β=0", card) is None  # not in the published table


@pytest.mark.parametrize(
    "card",
    [
        {},
        {"model": "Qwen3-4B"},
        {"model": "Qwen3-4B", "benchmark": "other"},
        {"model": "another", "benchmark": "aime24"},
    ],
)
def test_no_figures_for_anything_else(card: dict[str, str]) -> None:
    assert paper.published("SC@64", card) is None


def test_cells_that_cannot_match_are_published_ones() -> None:
    for label, model in paper.UNLIKE:
        assert paper.published(label, {"model": model, "benchmark": "aime24"}) is not None
