"""my_controller: reads branches in batches until one answer has a clear lead.

    autotts play my_controller.py              # watch one episode
    autotts benchmark my_controller.py         # every question

A controller is a function ``solve(episode)``, or ``solve(episode, beta)`` if it depends on β, in a
file of any name. It plays one episode through the object ``episode``, and ends it with
``episode.answer()``.

Actions. Branches are numbered from 0, in the order in which they are opened:

    episode.branch()         open the next branch, request its first interval; returns its index
    episode.extend(i)        request one more interval of branch i, without waiting for it
    episode.probe(i)         wait for branch i; returns (current answer, whether it is finished)
    episode.prune(i)         stop branch i; it no longer votes
    episode.answer(i)        end with branch i's latest answer; answer() ends with the plurality
    episode.extend_fully(i)  extend branch i for as long as that is legal; returns how often
    episode.read(i)          extend_fully(i), then probe(i) if that is legal; returns as probe(i)
    episode.extend_all()     extend every branch that can be extended; returns how many
    episode.probe_all()      probe every branch that can be probed; returns how many

Legality: can_branch(), can_extend(i), can_probe(i), can_prune(i), can_answer(i). An illegal action
raises an exception, and the episode counts as incorrect.

State of a branch: active(i), depth(i) (requested intervals), revealed(i) (intervals at the latest
probe), latest(i) (the answer there), finished(i), confidence(i) (of that probe; -1 if not
recorded). How sure the model was of the text that probes have waited for, if recorded:
generation_confidence(i, window) and lowest_confidence(i, window), over windows of intervals. State
of the episode: opened (branches), max_branches, interval (tokens), depth_limit (intervals),
mean_tokens (of a branch), latency_weight (of sequential tokens in the cost, 0 to 1),
has_generation_confidence, spent (total tokens), clock (sequential tokens) and remaining (tokens; -1
without a budget). Answers are numbered 0, 1, … in the order in which they first appear in the
episode; is_null(answer) is true if the probe found no answer. Hidden until a probe: a branch's
answer and confidences, and whether it has finished. Always hidden: which answer is correct.

Code that numba can compile runs compiled, including helper functions of this file; other code runs
as plain Python, slower, with the same results. ``autotts benchmark`` reports which, and why.
"""

import numpy as np

from autotts_gym.controllers.helpers import leaders, vote

#: Number of branches read in parallel.
BATCH = 4

#: Maximum number of branches, and size of the arrays.
MAX_BRANCHES = 32

#: Stop when the leading answer has this many votes more than the second.
MIN_LEAD = 3


def read_branches(episode, first):
    """Extend and probe branches ``first``, ``first + 1``, … until all of them have finished."""
    probes = 1
    while probes > 0:
        # Request everything, then probe: intervals are generated in parallel until the first
        # probe, so a batch takes as long as its longest branch. Intervals requested beyond a
        # branch's end, which is not yet known, are never generated and cost nothing.
        for i in range(first, episode.opened):
            episode.extend_fully(i)
        # One round is enough, unless a token budget stops the requests. Probing then refunds what
        # was charged beyond the ends of branches, and another round can use it.
        probes = episode.probe_all()


def solve(episode):
    """Play one episode."""
    max_branches = min(MAX_BRANCHES, episode.max_branches)
    answers = np.empty(MAX_BRANCHES, np.int64)  # distinct answers
    votes = np.zeros(MAX_BRANCHES, np.int64)  # number of votes for each answer
    distinct = 0  # number of distinct answers
    while episode.opened < max_branches and episode.can_branch():
        first = episode.opened
        for _ in range(min(BATCH, max_branches - first)):
            if episode.can_branch():
                episode.branch()
        read_branches(episode, first)
        for i in range(first, episode.opened):
            if episode.finished(i) and not episode.is_null(episode.latest(i)):
                distinct = vote(answers, votes, distinct, episode.latest(i))
        _, leading, second = leaders(votes, distinct)
        # Shown by `autotts play` and in reports. Any name and number; does not affect the episode.
        episode.note("lead", leading - second)
        if leading - second >= MIN_LEAD:
            break
    return episode.answer()
