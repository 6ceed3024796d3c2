"""my_controller: reads branches one by one until one answer leads clearly.

    autotts play my_controller.py              # watch one episode
    autotts benchmark my_controller.py         # every question; β = 0, 0.5 and 1

A program in the style of those published with AutoTTS (arXiv 2605.08083): a class with a method
``solve(question)``, instantiated for every episode. It returns its answer, a string.

    question.probe_new()                     open a branch, generate an interval and probe it:
                                             answer, index, finished
    question.probe_more(index)               another interval and probe: answer, finished
    question.get_new_branch_final_answer()   open a branch and read it to its end: its final answer
    question.get_seq_and_total_tokens()      sequential and total tokens so far

If no branch can be opened (all are open, or the budget is spent), they raise an error that is both
a ValueError and an IndexError. The returned answer must be that of some branch's latest probe.
"No", "ERR" and "" are null answers: the probe found no answer.

Every call probes what it generated, so nothing is generated in parallel, and the sequential tokens
equal the total tokens. Such a program runs as plain Python. A function ``solve(episode, beta)`` can
be better in both respects; ``autotts new`` without options writes one.
"""

from collections import Counter


class OptimalController:
    """Reads whole branches; β determines how many, and how clear their vote must be.

    Args:
        config: β is ``config["beta"]``.
    """

    def __init__(self, config):
        beta = config["beta"]
        self.most = round(8 + 56 * beta)  # maximum number of branches
        self.lead = round(2 + 4 * beta)  # lead in votes, of the first answer over the second

    def solve(self, question):
        """Play one episode; returns the answer."""
        votes = Counter()
        for _ in range(self.most):
            try:
                votes[question.get_new_branch_final_answer()] += 1
            except ValueError:  # no branch is left, or the budget is spent
                break
            first, second = [count for _, count in (*votes.most_common(2), ("", 0))][:2]
            if first - second >= self.lead:
                break
        return votes.most_common(1)[0][0]
