"""Probes of recorded texts with real vLLM, in this process: an imported file of a real program."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from autotts_gym.answers.answer_pairs import answers_equal
from autotts_gym.controllers.loader import load
from autotts_gym.imports.rollout_import import import_rollouts
from autotts_gym.tinylm import model_path
from autotts_gym.tinylm.bundled_envs import set_cpu_defaults
from autotts_gym.traces import registry
from autotts_gym.traces.store import TraceStore

pytestmark = [pytest.mark.vllm, pytest.mark.xdist_group("vllm")]

FILES = Path(__file__).parents[1] / "fixtures/rollouts"
ENGINE = (
    *("max_model_len=1024", "max_num_seqs=64", "max_num_batched_tokens=4096"),
    *("enforce_eager=true", "dtype=float32"),
)


def add_probes(env: Path, name: str, folder: Path) -> TraceStore:
    """Run ``autotts collect --probe`` with the medium tiny model."""
    set_cpu_defaults()
    command = [sys.executable, "-m", "autotts_gym", "collect", "--probe", str(env)]
    command += ["--model", str(model_path("medium")), "--protocol", "tinylm", "--interval", "16"]
    command += ["--name", name, "--to", "."]
    command += [word for pair in ENGINE for word in ("--engine", pair)]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith(f"probed {name}: ")
    return TraceStore.open(folder / name)


@pytest.mark.slow
def test_an_imported_file(tmp_path: Path) -> None:
    plain = import_rollouts(FILES / "inspect.eval", "plain", protocol="tinylm", to=tmp_path)
    store = add_probes(tmp_path / "plain", "probed", tmp_path)
    assert store.card.details["imported"] == plain.card.details["imported"]
    assert len(store.card.details["probed"]["model_sha256"]) == 64
    for before, after in zip(plain, store, strict=True):
        for old, new in zip(before.branches, after.branches, strict=True):
            assert new.text == old.text
            assert all(0 < confidence <= 1 for confidence in new.confidences or ())
            if "cut" in old.flags:
                # Without an answer by then, it has that of a closing probe, and pays for it.
                assert 0 <= new.tokens - old.tokens <= 4
                assert (new.final == "No") == ("unanswered" in new.flags)
                assert len(new.probes) == (old.tokens - 1) // 16
            else:
                # The server recorded as many tokens as the tokenizer of the model finds.
                assert new.tokens == old.tokens
                assert new.final == old.final
                assert len(new.probes) == (new.tokens - 1) // 16
    # The environment is one like any other.
    import gymnasium as gym

    env = gym.make("AutoTTS-v0", env=str(tmp_path / "probed"), max_branches=3)
    assert load("cmc").play(env, seed=0)["tokens"] > 0


@pytest.mark.slow
def test_probes_are_those_of_a_collection(tmp_path: Path) -> None:
    """Texts of a bundled environment, probed again, have the probes that it was collected with.

    It was collected in batches of other sizes: where the two likeliest answers are as good as
    equal, another may win.
    """
    (bundled,) = registry.open_stores("tinylm/medium/chain").values()
    questions = [type(q)(q.text, q.gold, list(q.branches)[:8], q.id) for q in bundled[:4]]
    few = TraceStore.from_branches(questions, bundled.card.interval).save(tmp_path / "few")
    store = add_probes(tmp_path / "few", "again", tmp_path)
    assert store.card.interval == few.card.interval
    pairs = [
        (old, new)
        for before, after in zip(few, store, strict=True)
        for old, new in zip(before.branches, after.branches, strict=True)
    ]
    assert [new.tokens for _, new in pairs] == [old.tokens for old, _ in pairs]
    # The bundled one names classes of equal answers, as 7 for 07.
    answers = [
        answers_equal(one, other)
        for old, new in pairs
        for one, other in zip((*old.probes, old.final), new.raw or (), strict=True)
    ]
    assert len(answers) > 100
    assert np.mean(answers) > 0.97
    confidences = [
        abs(one - other)
        for old, new in pairs
        for one, other in zip(old.confidences or (), new.confidences or (), strict=True)
    ]
    assert np.quantile(confidences, 0.9) < 0.02
