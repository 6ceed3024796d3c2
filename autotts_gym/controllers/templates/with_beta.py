"""my_controller: reads branches in batches until their vote is confident.

    autotts play my_controller.py              # one episode, seen
    autotts benchmark my_controller.py         # every question; β = 0, 0.5 and 1

A controller is a function ``solve(episode, beta)`` in a file of any name. It plays one episode
through the handle ``episode`` and ends it with ``episode.answer()``.

What it can do. Branches count from 0, in the order in which they were opened:

    episode.branch()       open the next branch, request its first interval; returns its index
    episode.extend(i)      request one more interval of branch i; does not wait for it
    episode.probe(i)       wait for branch i, look: its answer there, whether it is finished
    episode.prune(i)       branch i neither votes nor grows any more
    episode.answer(i)      end with branch i's latest answer; answer() ends with the plurality
    episode.extend_all()   extend, or probe, every branch for which that is legal;
    episode.probe_all()    each returns how many

What is legal: can_branch(), can_extend(i), can_probe(i), can_prune(i), can_answer(i). Anything
else raises, and the episode counts as wrong.

What it sees. Of a branch: active(i), depth(i) (intervals requested), revealed(i) (intervals at the
latest probe), latest(i) (its answer there), finished(i), confidence(i). Of the whole: opened,
max_branches, interval (tokens), depth_limit (intervals), spent, clock and remaining (tokens; -1
without a budget). Answers are numbers, by first appearance in the episode; is_null(answer) tells
those that mean "none". Hidden until a probe shows it: what a branch would answer, and where it
ends. Hidden to the last: which answer is right.

Whatever numba can compile runs compiled, helper functions of this file included; the rest runs as
plain Python, slower and with the same results. ``autotts benchmark`` tells what did, and why.
"""

from typing import NamedTuple

import numpy as np

from autotts_gym.controllers.voting import beta_confidence, leaders, vote

#: Most branches that are ever read; arrays are made for so many.
MOST = 64


class Schedule(NamedTuple):
    """What β decides. Declared like this, the report of a benchmark can show it beside β."""

    batch: int  # branches that are read side by side
    most: int  # branches that are read at most
    confidence: float  # of the vote, at which reading stops


def schedule(beta):
    """The schedule at ``beta``: 0 spends least, 1 most."""
    return Schedule(
        batch=int(np.rint(3 + 5 * beta)),
        most=int(np.rint(8 + 56 * beta)),
        confidence=0.75 + 0.22 * beta,
    )


def read(episode, first):
    """Read branches from ``first`` on to their ends."""
    looks = 1
    while looks > 0:
        # Request everything, then look: text is generated side by side until the first look, so
        # a batch takes as long as its longest branch. What is requested past a branch's end,
        # which nobody knows yet, is never generated and costs nothing.
        for i in range(first, episode.opened):
            while episode.can_extend(i):
                episode.extend(i)
        # One round is enough, unless a token budget stopped it: then looking frees what the
        # branches that have ended did not need.
        looks = episode.probe_all()


def solve(episode, beta):
    """Play one episode."""
    plan = schedule(beta)
    most = min(plan.most, episode.max_branches)
    answers = np.empty(MOST, np.int64)  # different answers that were counted,
    votes = np.zeros(MOST, np.int64)  # how many branches gave each,
    different = 0  # and how many there are
    while episode.opened < most and episode.can_branch():
        first = episode.opened
        for _ in range(min(plan.batch, most - first)):
            if episode.can_branch():
                episode.branch()
        read(episode, first)
        for i in range(first, episode.opened):
            if episode.finished(i) and not episode.is_null(episode.latest(i)):
                different = vote(answers, votes, different, episode.latest(i))
        _, leading, second = leaders(votes, different)
        confidence = beta_confidence(leading, second)
        # For those who watch the episode: any name, any number. It costs nothing.
        episode.note("confidence", confidence)
        if confidence >= plan.confidence:
            break
    return episode.answer()
