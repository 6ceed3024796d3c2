"""``autotts train``: names of algorithms and options."""

from __future__ import annotations

import pytest
import typer

from autotts_gym.cli.train import Algorithm, _parse_algorithm, _parse_range

#: A training that fails before it starts: --early needs validation questions.
STOPS = ("--out", "policy", "--early", "--trial", "none")


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_algorithms(algorithm: Algorithm, capsys: pytest.CaptureFixture[str]) -> None:
    assert _parse_algorithm(algorithm.value) is algorithm
    assert capsys.readouterr().err == ""
    with pytest.raises(typer.BadParameter, match="'trpo' is not one of autotts-ppo, sb3-ppo"):
        _parse_algorithm("trpo")


@pytest.mark.parametrize("name", ["cleanrl-ppo", "ppo", "maskable-ppo", "a2c", "dqn"])
def test_old_names_of_algorithms_print_a_warning(autotts, name: str) -> None:
    done = autotts("train", name, *STOPS)
    new = "autotts-ppo" if name == "cleanrl-ppo" else f"sb3-{name}"
    warning, error = done.err.splitlines()
    assert warning == f"autotts: {name} is now called {new}"
    assert error == "autotts: --early needs autotts-ppo and validation questions"


def test_old_names_of_options(autotts) -> None:
    done = autotts("train", "autotts-ppo", *STOPS, "--horizon", 4, "--entropy", 0.1)
    assert (done.code, done.err.count("\n")) == (1, 1)
    unknown = autotts("train", "trpo", *STOPS)
    assert unknown.code == 2
    assert "is not one of" in unknown.err


def test_ranges_of_latency_weights() -> None:
    assert _parse_range("0") == (0, 0)
    assert _parse_range("0.3") == (0.3, 0.3)
    assert _parse_range("0,1") == (0, 1)
    for text in ("1,0", "0,0.5,1", "-0.1,1", "0,1.5", "nan"):
        with pytest.raises(typer.BadParameter, match="is not a range LOW,HIGH"):
            _parse_range(text)
    with pytest.raises(typer.BadParameter, match="is not a list of numbers"):
        _parse_range("low")


@pytest.mark.slow
def test_rounded_numbers_of_decisions_are_announced(autotts, tmp_path) -> None:
    small = ("--num-envs", 8, "--num-steps", 4, "--hidden", 4, "--encoder", 4, "--no-logs")
    common = ("--env", "tinylm/medium/chain", "--validation", "none", *small)
    done = autotts("train", "autotts-ppo", *common, "--out", "a", "--decisions", 1000)
    assert done.code == 0
    assert "training on 1,024 macro-actions, not 1,000: updates are of 8 × 4" in done.out
    assert "1,024 macro-actions in" in done.out
    done = autotts("train", "autotts-ppo", *common, "--out", "b", "--decisions", 32)
    assert "not 32" not in done.out
    assert "32 macro-actions in" in done.out
