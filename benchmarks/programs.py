"""The published controllers as published-style programs: classes with ``solve(question)``.

Self-contained, in the style of the code that accompanies AutoTTS (arXiv 2605.08083). They are an
independent second implementation of the controllers, and they test that such files run unchanged.
"""

from math import comb


def _confidence(a, b):
    n = a + b + 1
    return 1 - sum(comb(n, k) for k in range(a + 1, n + 1)) / 2**n if a else 0.0


CONFIDENCE = [[_confidence(a, b) for b in range(65)] for a in range(65)]


def plurality(answers):
    """The most common answer (ties go to the first counted), and the two highest counts."""
    counts = {}
    for answer in answers:
        counts[answer] = counts.get(answer, 0) + 1
    if not counts:
        return None, 0, 0
    winner = max(counts, key=counts.__getitem__)
    first = counts.pop(winner)
    return winner, first, max(counts.values(), default=0)


class SelfConsistency:
    def solve(self, question):
        return plurality([question.get_new_branch_final_answer() for _ in range(64)])[0]


class AdaptiveSelfConsistency:
    def solve(self, question):
        answers = []
        for _ in range(64):
            answers.append(question.get_new_branch_final_answer())
            winner, first, second = plurality(answers)
            if len(answers) > 1 and CONFIDENCE[first][second] > 0.95:
                break
        return winner


class EarlyStoppingSelfConsistency:
    def solve(self, question):
        answers = []
        for _ in range(8):
            window = [question.get_new_branch_final_answer() for _ in range(8)]
            if len(set(window)) == 1:
                return window[0]
            answers += window
        return plurality(answers)[0]


class ParallelProbe:
    def solve(self, question):
        latest, finished, pruned, off_track = [], [], [False] * 64, [0] * 64
        for _ in range(64):
            answer, _, done = question.probe_new()
            latest.append(answer)
            finished.append(done)
        last, stable = None, 0
        for t in range(100):
            for i in range(64):
                if not (pruned[i] or finished[i]):
                    latest[i], finished[i] = question.probe_more(i)
            live = [i for i in range(64) if not pruned[i]]
            winner = plurality([latest[i] for i in live])[0]
            if t >= 15 and len(live) > 1:
                changed = False
                for i in live:
                    if not finished[i]:
                        off_track[i] = 0 if latest[i] == winner else off_track[i] + 1
                        if off_track[i] >= 7:
                            pruned[i] = changed = True
                if changed:
                    live = [i for i in live if not pruned[i]]
                    if not live:
                        return last
                    winner = plurality([latest[i] for i in live])[0]
            stable = stable + 1 if t and winner == last else 0
            last = winner
            if stable >= 40 or all(finished[i] or pruned[i] for i in range(64)):
                return winner
        return last


class OptimalController:
    """The Confidence Momentum Controller."""

    def __init__(self, config):
        beta = min(max(config["beta"], 0.0), 1.0)
        self.initial = max(2, round(2 + 6 * beta))
        self.ceiling = min(64, round(4 + 60 * beta))
        self.warm_up = max(2, round(2 + 8 * beta))
        self.patience = max(3, round(3 + 9 * beta))
        self.window = max(2, round(2 + 6 * beta))
        self.weight = round(0.70 - 0.40 * beta, 4)
        self.stop = round(0.85 + 0.12 * beta, 4)
        self.slack = self.trend = round(0.04 - 0.03 * beta, 4)
        self.aligned_burst = max(1, round(1 + 2 * beta))
        self.widening_burst = max(1, round(1 + 3 * beta))
        self.completed = max(2, round(2 + 3 * beta))

    def solve(self, question):
        latest, finished, abandoned, disagreements, continued = [], [], [], [], []
        pool = []

        def widen(count):
            for _ in range(count):
                try:
                    answer, _, done = question.probe_new()
                except (ValueError, IndexError):
                    return
                latest.append(answer)
                finished.append(done)
                abandoned.append(False)
                disagreements.append(0)
                continued.append(0)
                if done:
                    pool.append(answer)

        widen(self.initial)
        ema, history = 0.0, []
        for r in range(500):
            winner, first, second = plurality(pool)
            warm = r >= self.warm_up
            ema = (1 - self.weight) * ema + self.weight * CONFIDENCE[first][second]
            live = [i for i in range(len(latest)) if not (finished[i] or abandoned[i])]
            if warm and winner is not None:
                for i in live:
                    disagreements[i] = disagreements[i] + 1 if latest[i] != winner else 0
                worst = [i for i in live if disagreements[i] >= self.patience]
                worst.sort(key=lambda i: -disagreements[i])
                for i in worst[: max(0, len(live) - 2)]:
                    abandoned[i] = True
                live = [i for i in live if not abandoned[i]]
            live.sort(key=lambda i: -continued[i])
            for i in live:
                aligned = warm and winner is not None and latest[i] == winner
                for _ in range(self.aligned_burst if aligned else 1):
                    latest[i], finished[i] = question.probe_more(i)
                    continued[i] += 1
                    if finished[i]:
                        pool.append(latest[i])
                        break
            winner, first, second = plurality(pool)
            ema = (1 - self.weight) * ema + self.weight * CONFIDENCE[first][second]
            history = [*history, ema][-self.window :]
            trend = history[-1] - history[0]
            if warm and len(pool) >= self.completed and ema >= self.stop and trend >= -self.slack:
                return winner
            if all(f or a for f, a in zip(finished, abandoned, strict=True)):
                break
            if (
                len(latest) < self.ceiling
                and trend <= self.trend
                and r >= max(1, self.warm_up // 2)
                and ema < self.stop
            ):
                widen(min(self.widening_burst, self.ceiling - len(latest)))
        if pool:
            return plurality(pool)[0]
        return plurality([latest[i] for i in range(len(latest)) if not abandoned[i]])[0]
