"""my_controller: reads branches one by one until one answer leads clearly.

    autotts play my_controller.py              # one episode, seen
    autotts benchmark my_controller.py         # every question; β = 0, 0.5 and 1

A program in the style of those published with AutoTTS (arXiv 2605.08083): a class with a method
``solve(question)``, made anew for every episode. It returns its answer, a string.

    question.probe_new()                     open a branch, generate an interval, look:
                                             answer, index, finished
    question.probe_more(index)               another interval of it, and a look: answer, finished
    question.get_new_branch_final_answer()   open a branch and read it whole: its final answer
    question.get_seq_and_total_tokens()      tokens so far: in sequence, and in all

Where no branch can be opened (all are open, or the budget is spent) they raise an error that is
both a ValueError and an IndexError. The answer must be what the latest probe of some branch shows.
"No", "ERR" and "" mean that a probe found no answer.

Every call looks at what it generated, so that nothing runs side by side: the latency is the total.
Such a program runs as plain Python. A function ``solve(episode, beta)`` can do better in both;
``autotts new`` without options writes one.
"""

from collections import Counter


class OptimalController:
    """Reads whole branches; β decides how many, and how clear their vote must be.

    Args:
        config: has β as ``config["beta"]``.
    """

    def __init__(self, config):
        beta = config["beta"]
        self.most = round(8 + 56 * beta)  # branches that are read at most
        self.lead = round(2 + 4 * beta)  # votes by which the first answer must lead the second

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
