"""The published protocol and the published figures."""

from __future__ import annotations

import pytest

from autotts_gym.controllers.loader import load
from autotts_gym.evaluation import published_protocol


def test_every_row_has_a_controller() -> None:
    for entry in published_protocol.ROWS:
        agent = load(entry.agent)
        assert agent.takes_beta == (entry.beta is not None)
        assert published_protocol.BILLING[entry.agent] == entry.billing
    assert set(published_protocol.PUBLISHED) <= {entry.label for entry in published_protocol.ROWS}


def test_probing_controllers_are_billed_by_interval() -> None:
    by_interval = {
        agent for agent, billing in published_protocol.BILLING.items() if billing == "interval"
    }
    assert by_interval == {"parallel_probe", "cmc"}


def test_figures_of_a_model_and_benchmark() -> None:
    card = {"model": "Qwen3-4B", "benchmark": "aime24"}
    figures = published_protocol.published_figures("CMC β=0.5", card)
    assert figures is not None
    assert (figures.accuracy, figures.tokens, figures.sequential) == (82.0, 236.7, None)
    assert (
        published_protocol.published_figures("CMC β=0", card) is None
    )  # not in the published table


@pytest.mark.parametrize(
    "card",
    [
        {},
        {"model": "Qwen3-4B"},
        {"model": "Qwen3-4B", "benchmark": "other"},
        {"model": "another", "benchmark": "aime24"},
    ],
)
def test_no_figures_for_other_environments(card: dict[str, str]) -> None:
    assert published_protocol.published_figures("SC@64", card) is None


def test_figures_that_are_not_reproduced_exist() -> None:
    for label, model in published_protocol.NOT_REPRODUCED:
        assert (
            published_protocol.published_figures(label, {"model": model, "benchmark": "aime24"})
            is not None
        )
