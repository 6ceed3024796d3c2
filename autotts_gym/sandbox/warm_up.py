"""Plays made-up episodes in the template, so that the processes of episodes start warm.

CPython specializes bytecode, and fills caches, while it runs. What was specialized in the template
is so in all of its copies, which need not do it again in memory that they would have to copy first.
The episodes have nothing of any traces, and the program takes no part in them.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any, Final

from autotts_gym.controllers.episode import Episode
from autotts_gym.sandbox import memory_layout
from autotts_gym.sandbox.guest_env import GuestEnv, GuestEpisode
from autotts_gym.sandbox.memory_layout import Layout
from autotts_gym.sandbox.pipe_protocol import DONE

#: Small numbers, but more actions than are needed for specialization.
_BRANCHES: Final = 8
_EPISODES: Final = 12
_MOST_ROUND_TRIPS: Final = 1024


def warm_up(layout: Layout) -> None:
    """Play some episodes.

    Args:
        layout: of the slots of the program's episodes; those of these episodes are smaller.
    """
    layout = replace(layout, branches=_BRANCHES, depth=_BRANCHES)
    incoming, outcomes = os.pipe()
    discarded = os.open(os.devnull, os.O_WRONLY)
    os.write(outcomes, bytes(_MOST_ROUND_TRIPS))
    try:
        for _ in range(_EPISODES):
            env = GuestEnv(layout, memoryview(_slot(layout)), incoming, discarded)
            _play(GuestEpisode(env, env.observation))  # type: ignore[arg-type]
            env.send_code(DONE)
    finally:
        for descriptor in (incoming, outcomes, discarded):
            os.close(descriptor)


def _slot(layout: Layout) -> bytearray:
    """A slot in which every action is legal, and every probe finds class 0, with an empty text."""
    slot = bytearray(layout.texts * memory_layout.WORD)
    words = memoryview(slot).cast("q")
    attributes = words[layout.floats :]
    attributes[memory_layout.INTERVAL] = 1
    attributes[memory_layout.DEPTH_LIMIT] = layout.depth
    attributes[memory_layout.BUDGET] = -1
    attributes[memory_layout.PREDICTABLE] = 1
    for word in range(layout.mask, layout.columns):
        words[word] = 1
    return slot


def _play(episode: Any) -> None:
    with episode.facts.billed_by_tokens():
        episode.branch()
    while episode.can_branch():
        episode.branch()
    for i in range(_BRANCHES):
        _act(episode, i)
        _look(episode, i)
    episode.extend_all()
    episode.probe_all()
    Episode.probe_all(episode)


def _act(episode: Any, i: int) -> None:
    for _ in range(2):
        if episode.can_extend(i):
            episode.extend(i)
    if episode.can_probe(i):
        episode.probe(i)
    if i == 0 and episode.can_prune(i):
        episode.prune(i)
    episode.can_answer(i)


def _look(episode: Any, i: int) -> None:
    for see in (
        *(episode.active, episode.depth, episode.revealed, episode.latest, episode.finished),
        *(episode.confidence, episode.generation_confidence, episode.lowest_confidence),
        episode.is_null,
    ):
        see(i)
    episode.facts.answer_text(0)
    _ = episode.opened, episode.interval, episode.depth_limit, episode.spent, episode.clock
    _ = episode.remaining, episode.mean_tokens, episode.latency_weight
    _ = episode.has_generation_confidence
    episode.note("a number", i)
