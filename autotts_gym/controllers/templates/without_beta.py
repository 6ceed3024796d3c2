"""my_controller: reads branches in batches until one answer leads clearly.

    autotts play my_controller.py              # one episode, seen
    autotts benchmark my_controller.py         # every question

A controller is a function ``solve(episode)`` in a file of any name; with a knob it is
``solve(episode, beta)``. It plays one episode through the handle ``episode`` and ends it with
``episode.answer()``.

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

import numpy as np

from autotts_gym.controllers.voting import leaders, vote

#: Branches that are read side by side.
BATCH = 4

#: Branches that are read at most.
MOST = 32

#: Votes by which the first answer must lead the second.
LEAD = 3


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


def solve(episode):
    """Play one episode."""
    most = min(MOST, episode.max_branches)
    answers = np.empty(MOST, np.int64)  # different answers that were counted,
    votes = np.zeros(MOST, np.int64)  # how many branches gave each,
    different = 0  # and how many there are
    while episode.opened < most and episode.can_branch():
        first = episode.opened
        for _ in range(min(BATCH, most - first)):
            if episode.can_branch():
                episode.branch()
        read(episode, first)
        for i in range(first, episode.opened):
            if episode.finished(i) and not episode.is_null(episode.latest(i)):
                different = vote(answers, votes, different, episode.latest(i))
        _, leading, second = leaders(votes, different)
        # For those who watch the episode: any name, any number. It costs nothing.
        episode.note("lead", leading - second)
        if leading - second >= LEAD:
            break
    return episode.answer()
