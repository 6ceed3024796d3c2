"""Live traces without a model: what the rules reveal of them."""

from __future__ import annotations

import numpy as np

from autotts_gym.inference.protocol import Probe
from autotts_gym.live.live_traces import LiveTraces
from autotts_gym.mdp.actions import BRANCH
from autotts_gym.mdp.batch import Batch, EpisodeStart
from autotts_gym.mdp.trace_dataset import EpisodeConfig

WIDTH, DEPTH, INTERVAL = 2, 4, 16
EXTEND, PROBE = 2, 2 + WIDTH
START = EpisodeStart(0, 0.5, np.arange(WIDTH))


def test_generation_confidences_of_a_live_branch() -> None:
    traces = LiveTraces("live", INTERVAL, DEPTH, WIDTH, mean_tokens=40, probe_tokens=8)
    batch = Batch(traces, EpisodeConfig(WIDTH), 1, DEPTH, 8, plane=True, invalid_penalty=0)
    batch.reset([0], [START])
    for action in (BRANCH, BRANCH, EXTEND + 1):
        batch.play(action)
    # The model is two intervals ahead of what the rules reveal.
    traces.record_confidences(1, [160.0, 80.0, 32.0], [16, 16, 16])
    assert batch.revealed_confidences(0, 1) == ([], [])
    traces.record_probe(1, 2, Probe("7", 0.5, 1))
    batch.play(PROBE + 1)
    assert batch.revealed_confidences(0, 1) == ([160, 80], [16, 16])
    plane = batch.observed()["generation_confidence_plane"].reshape(WIDTH, DEPTH)
    assert plane.tolist() == [[-1] * 4, [10, 5, -1, -1]]

    # The branch has ended within its third interval; the episode is played again up to here.
    traces.record_confidences(1, [160.0, 80.0, 12.0], [16, 16, 6])
    traces.record_end(1, 2, 38, "7")
    batch.rewind(START, [BRANCH, BRANCH, EXTEND + 1, PROBE + 1])
    assert plane.tolist() == [[-1] * 4, [10, 5, -1, -1]]
    for action in (EXTEND + 1, PROBE + 1):
        batch.play(action)
    assert plane.tolist() == [[-1] * 4, [10, 5, 2, -1]]
    assert batch.branches["finished"][0].tolist() == [0, 1]

    traces.start_question(None)
    batch.reset([0], [START])
    for action in (BRANCH, BRANCH, PROBE + 1):
        batch.play(action)
    assert (plane == -1).all()
