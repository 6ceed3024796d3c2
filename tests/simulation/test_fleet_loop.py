"""The event loop: closed forms, conservation, and agreement with a plain reference."""

from __future__ import annotations

import math
from typing import Any

import fleets
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotts_gym.simulation.arrivals import poisson_arrivals
from autotts_gym.simulation.server_curve import ServerCurve
from autotts_gym.simulation.simulated_load import LoadResult, simulate_load
from autotts_gym.simulation.simulation_plan import Fleet

QUESTIONS = 100_000


def constant_total(rate: float, sequences: int = 100_000) -> ServerCurve:
    """A server whose total rate does not depend on its sequences: pure processor sharing."""
    return ServerCurve.create(concurrency=[1], tokens_per_second=[rate], max_sequences=sequences)


def constant_each(rate: float, sequences: int) -> ServerCurve:
    """A server with ``sequences`` places, each of which generates at the same rate."""
    return ServerCurve.create(
        concurrency=[1, sequences][: 1 if sequences == 1 else 2],
        tokens_per_second=[rate] * (1 if sequences == 1 else 2),
        max_sequences=sequences,
    )


def answer_poisson(fleet: Fleet, lengths: Any, load: float, seed: int = 0) -> LoadResult:
    """Questions with one branch each arrive at ``load`` times the rate of one sequence."""
    store = fleets.store_of([[int(length)] for length in lengths], interval=1_000_000)
    schedules = fleets.schedules_of(fleets.read_all, store, 1)
    generator = np.random.default_rng(seed)
    rate = load * fleet.curve.tokens_per_second[0] / np.mean(lengths)
    arrivals = poisson_arrivals(rate, QUESTIONS, generator)
    return simulate_load(
        fleet, schedules, arrivals, generator.integers(len(lengths), size=QUESTIONS)
    )


def counted(result: LoadResult) -> np.ndarray:
    """Times to answer after the start, in which the fleet is empty."""
    return result.seconds[QUESTIONS // 10 :]


@pytest.mark.parametrize("load", [0.3, 0.7])
@pytest.mark.parametrize("kind", ["exponential", "equal", "two lengths"])
def test_processor_sharing_has_its_mean_for_any_lengths(load: float, kind: str) -> None:
    """M/G/1-PS: the mean is E[S] / (1 − ρ), whatever the distribution of the lengths."""
    generator = np.random.default_rng(1)
    lengths = {
        "exponential": np.ceil(generator.exponential(1000, 2000)),
        "equal": np.full(1, 1000),
        "two lengths": np.array([100] * 9 + [9100]),
    }[kind]
    result = answer_poisson(Fleet(constant_total(50.0)), lengths, load)
    expected = lengths.mean() / 50.0 / (1 - load)
    assert counted(result).mean() == pytest.approx(expected, rel=0.05)


def test_one_place_and_equal_lengths() -> None:
    """M/D/1: the mean wait is ρ D / (2 (1 − ρ)), of Pollaczek and Khinchine."""
    result = answer_poisson(Fleet(constant_each(50.0, 1)), [1000], 0.7)
    wait = 0.7 * 20 / (2 * (1 - 0.7))
    assert counted(result).mean() == pytest.approx(20 + wait, rel=0.05)


def test_several_places_and_exponential_lengths() -> None:
    """M/M/c: the mean wait is that of Erlang's C."""
    places, load = 4, 0.8
    lengths = np.ceil(np.random.default_rng(2).exponential(1000, 5000))
    result = answer_poisson(Fleet(constant_each(50.0, places)), lengths, places * load)
    offered = places * load
    terms = [offered**k / math.factorial(k) for k in range(places)]
    last = offered**places / math.factorial(places) / (1 - load)
    wait = last / (sum(terms) + last) * lengths.mean() / 50 / (places * (1 - load))
    assert counted(result).mean() == pytest.approx(lengths.mean() / 50 + wait, rel=0.05)


def test_utilisation_of_processor_sharing() -> None:
    """The server is busy for the share ρ of the time, and has ρ / (1 − ρ) sequences."""
    result = answer_poisson(Fleet(constant_total(50.0)), [1000], 0.6)
    assert result.window_busy / result.window == pytest.approx(0.6, rel=0.03)
    assert result.window_sequences == pytest.approx(0.6 / 0.4, rel=0.06)


@pytest.mark.parametrize("controller", [fleets.read_all, fleets.read_in_turn, fleets.race])
def test_an_idle_fleet_takes_the_sequential_time(controller: Any) -> None:
    """At a low load, without costs of requests, the time is the sequential tokens over the rate."""
    generator = np.random.default_rng(3)
    store = fleets.store_of(generator.integers(1, 200, size=(10, 4)).tolist())
    schedules = fleets.schedules_of(controller, store, 4, range(5))
    fleet = Fleet(constant_each(50.0, 64))
    drawn = np.arange(len(schedules))
    result = simulate_load(fleet, schedules, 1e6 * np.arange(len(schedules), dtype=float), drawn)
    assert result.seconds == pytest.approx(schedules.sequential_tokens / 50.0)


def test_costs_of_requests_and_probes_add_up() -> None:
    """One branch, probed at both intervals and at its end: two parts, each with its costs."""

    def probe_always(episode: Any) -> None:
        i = episode.branch()
        while not episode.probe(i)[1]:
            episode.extend(i)
        episode.answer(i)

    schedules = fleets.schedules_of(probe_always, fleets.store_of([[25]]), 1)
    curve = ServerCurve.create(
        concurrency=[1], tokens_per_second=[10.0], request={"seconds": 0.5, "tokens": 2},
        probe={"seconds": 0.25, "tokens": 4}, text_seconds=0.125,
    )  # fmt: skip
    result = simulate_load(Fleet(curve), schedules, np.zeros(1), np.zeros(1, np.int64))
    generation = 3 * (0.5 + 0.2) + 2.5
    assert result.seconds == pytest.approx([generation + 2 * (0.25 + 0.4) + 2 * 0.125])
    assert (result.requests, result.probes) == (3, 2)
    assert result.work == pytest.approx(25 + 3 * 2 + 2 * 4)


def test_tokens_equal_those_of_the_replayed_episodes() -> None:
    """Requested tokens are the billed ones; those that are generated differ by aborted parts."""
    generator = np.random.default_rng(4)
    store = fleets.store_of(generator.integers(1, 300, size=(20, 8)).tolist())
    curve = ServerCurve.create(
        concurrency=[1, 8], tokens_per_second=[50.0, 20.0], max_sequences=5,
        request={"seconds": 0.1, "tokens": 1}, probe={"seconds": 0.2, "tokens": 3},
    )  # fmt: skip
    for controller in fleets.CONTROLLERS:
        schedules = fleets.schedules_of(controller, store, 8, range(3))
        assert (schedules.requested_tokens() == schedules.tokens).all()
        drawn = generator.integers(len(schedules), size=200)
        arrivals = poisson_arrivals(0.05, 200, generator)
        result = simulate_load(Fleet(curve, 2), schedules, arrivals, drawn)
        assert result.requested_tokens == schedules.tokens[drawn].sum()
        assert result.generated_tokens <= result.requested_tokens
        if controller in (fleets.read_all, fleets.read_in_turn):
            assert result.generated_tokens == result.requested_tokens
            spent = result.requests * 1 + result.probes * 3
            assert result.work == pytest.approx(result.generated_tokens + spent)
    assert result.generated_tokens < result.requested_tokens  # first_of_all aborts the others


LENGTHS = st.lists(st.lists(st.integers(1, 60), min_size=3, max_size=3), min_size=1, max_size=4)
# Irrational rates and costs, so that no two events coincide by chance.
CURVES = st.builds(
    lambda rates, sequences, request, probe, text: ServerCurve.create(
        concurrency=list(range(1, len(rates) + 1)),
        tokens_per_second=[rate * math.pi for rate in rates],
        max_sequences=sequences,
        request={"seconds": request * math.sqrt(2), "tokens": request * math.e},
        probe={"seconds": probe * math.sqrt(3), "tokens": probe * math.sqrt(7)},
        text_seconds=text * math.sqrt(5),
    ),
    st.lists(st.floats(1, 20), min_size=1, max_size=4),
    st.integers(1, 5),
    *[st.sampled_from([0.0, 0.05, 0.3])] * 3,
)


@given(
    lengths=LENGTHS,
    curve=CURVES,
    controller=st.sampled_from(fleets.CONTROLLERS),
    gaps=st.lists(st.floats(0.01, 10), min_size=1, max_size=12),
    servers=st.integers(1, 3),
    routing=st.sampled_from(["least_loaded", "sticky", "round_robin"]),
    max_episodes=st.integers(1, 12),
    data=st.data(),
)
def test_agrees_with_the_plain_reference(
    lengths: list[list[int]],
    curve: ServerCurve,
    controller: Any,
    gaps: list[float],
    servers: int,
    routing: Any,
    max_episodes: int,
    data: st.DataObject,
) -> None:
    schedules = fleets.schedules_of(controller, fleets.store_of(lengths), 3)
    arrivals = np.cumsum(gaps)
    indices = st.integers(0, len(schedules) - 1)
    drawn = np.array(data.draw(st.lists(indices, min_size=len(gaps), max_size=len(gaps))))
    fleet = Fleet(curve, servers, routing, max_episodes)
    result = simulate_load(fleet, schedules, arrivals, drawn)
    reference = fleets.ReferenceFleet(fleet, schedules)
    assert result.seconds == pytest.approx(reference.run(arrivals, drawn), rel=1e-6)
    assert result.requested_tokens == schedules.tokens[drawn].sum()
    # A token that is nearly complete when it is aborted may count in one of the two only.
    assert abs(result.generated_tokens - reference.generated) <= 2 * len(gaps)


@given(seed=st.integers(0, 2**32), events=st.sampled_from([1, 7, 1_000_000]))
def test_the_result_does_not_depend_on_the_steps(seed: int, events: int) -> None:
    """Interrupting the loop changes nothing, and neither does room for more episodes."""
    from autotts_gym.simulation import simulated_load

    generator = np.random.default_rng(seed)
    store = fleets.store_of(generator.integers(1, 60, size=(4, 3)).tolist())
    schedules = fleets.schedules_of(fleets.race, store, 3)
    curve = ServerCurve.create(
        concurrency=[1, 4], tokens_per_second=[20.0, 9.0], max_sequences=6,
        request={"seconds": 0.1, "tokens": 1}, probe={"seconds": 0.2, "tokens": 3},
    )  # fmt: skip
    arrivals = poisson_arrivals(2.0, 100, generator)
    drawn = generator.integers(len(schedules), size=100)
    fleet = Fleet(curve, 2)
    expected = simulate_load(fleet, schedules, arrivals, drawn)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulated_load, "_EVENTS", events)
        again = simulate_load(fleet, schedules, arrivals, drawn)
    assert (again.seconds == expected.seconds).all()
    assert again.work == expected.work


@pytest.mark.parametrize(
    ("arrivals", "drawn", "message"),
    [
        ([], [], "same length, got 0, 0"),
        ([0.0], [0, 0], "same length, got 1, 2"),
        ([1.0, 0.0], [0, 0], "finite and ascend"),
        ([np.nan], [0], "finite and ascend"),
        ([0.0], [7], r"within 0\.\.0"),
    ],
)
def test_invalid_arguments(arrivals: list[float], drawn: list[int], message: str) -> None:
    schedules = fleets.schedules_of(fleets.read_all, fleets.store_of([[5]]), 1)
    fleet = Fleet(constant_total(1.0))
    with pytest.raises(ValueError, match=message):
        simulate_load(fleet, schedules, np.array(arrivals), np.array(drawn, np.int64))
