"""Controllers in optimised plain Python, the baseline of the speed of bulk evaluation.

A controller runs directly over lists of answer codes, without an environment, an episode object or
a log. It computes only its two results: whether the answer is correct, and total tokens. A branch
is an iterator over its answers, and its cost follows from how far it was read. Rules are
reformulated where that saves work in the interpreter. No compiled extension is used.

Every controller is a function ``(question, order) -> (correct, tokens)``; ``order`` has the indices
of the branches in the order in which they open.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice, repeat
from math import comb
from typing import NamedTuple

from autotts_gym.traces.store import TraceStore

WIDTH = 64


class Question(NamedTuple):
    """The branches of a question as plain lists, with one entry per branch.

    Attributes:
        probes: answer codes of the probes, interval after interval.
        finals: code of the final answer.
        closing: cost of the last interval, billed by interval, tokens.
        generated: T, tokens.
        gold: code of the gold answer; -1 if no branch gives it.
        interval: Δ, tokens.
    """

    probes: list[list[int]]
    finals: list[int]
    closing: list[int]
    generated: list[int]
    gold: int
    interval: int


Result = tuple[bool, int]
Controller = Callable[[Question, Sequence[int]], Result]


def questions(store: TraceStore) -> list[Question]:
    """The questions of a store as plain lists."""
    tables, interval = store.tables, store.card.interval
    shown, finals = iter(tables.probes.tolist()), iter(tables.finals.tolist())
    lengths, tokens = iter(tables.lengths.tolist()), iter(tables.tokens.tolist())
    golds, converted = tables.gold_codes(), []
    for row, count in enumerate(tables.branch_counts.tolist()):
        probes = [list(islice(shown, n)) for n in islice(lengths, count)]
        generated = list(islice(tokens, count))
        closing = [max(0, t - len(p) * interval) for t, p in zip(generated, probes, strict=True)]
        converted.append(
            Question(probes, list(islice(finals, count)), closing, generated, golds[row], interval)
        )
    return converted


def self_consistency(question: Question, order: Sequence[int]) -> Result:
    """SC@64, billed by generated tokens."""
    read = order[:WIDTH]
    votes = Counter([question.finals[i] for i in read])
    # Ties go to the answer counted first: max returns the first maximum, and dicts keep order.
    winner = max(votes, key=votes.__getitem__)
    return winner == question.gold, sum([question.generated[i] for i in read])


STABILITY, PATIENCE, WARM_UP, ROUNDS = 40, 7, 15, 100


def parallel_probe(question: Question, order: Sequence[int]) -> Result:
    """Parallel-Probe, billed by interval.

    All chains have the same depth, so a round is one tuple from ``zip``. ``off_track`` has no entry
    for a chain that agrees with the plurality. Some chain always agrees, so pruning never removes
    the last one.
    """
    interval, finals, closing = question.interval, question.finals, question.closing
    live = order[:WIDTH]
    probes = [question.probes[i] for i in live]
    ends = [len(answers) + 1 for answers in probes]
    chains = [chain(p, repeat(finals[i])) for p, i in zip(probes, live, strict=True)]
    rounds = zip(*chains, strict=True)
    next(rounds)
    last_end = max(ends)
    off_track: dict[int, int] = {}
    before: tuple[int, ...] = ()
    winner, stable, tokens = -1, 0, 0
    for depth in range(2, ROUNDS + 2):
        latest = next(rounds)
        last = winner
        if latest != before:
            votes = Counter(latest)
            winner = max(votes, key=votes.__getitem__)
            before = latest
        if depth >= WARM_UP + 2:
            off_track = {
                k: off_track.get(k, 0) + 1
                for k, answer in enumerate(latest)
                if answer != winner and depth < ends[k]
            }
            if off_track and max(off_track.values()) >= PATIENCE:
                kept = [k for k in range(len(live)) if off_track.get(k, 0) < PATIENCE]
                tokens += (len(live) - len(kept)) * depth * interval
                off_track = {new: off_track[k] for new, k in enumerate(kept) if k in off_track}
                live, ends = [live[k] for k in kept], [ends[k] for k in kept]
                chains = [chains[k] for k in kept]
                rounds = zip(*chains, strict=True)
                last_end = max(ends)
                before = tuple([latest[k] for k in kept])
                votes = Counter(before)
                winner = max(votes, key=votes.__getitem__)
        stable = stable + 1 if winner == last else 0
        if stable >= STABILITY or depth >= last_end:
            break
    read = depth * interval
    for i, end in zip(live, ends, strict=True):
        tokens += read if depth < end else (end - 1) * interval + closing[i]
    return winner == question.gold, tokens


def _confidence(a: int, b: int) -> float:
    n = a + b + 1
    return 1 - sum(comb(n, k) for k in range(a + 1, n + 1)) / 2**n if a else 0.0


CONFIDENCE = [[_confidence(a, b) for b in range(WIDTH + 1)] for a in range(WIDTH + 1)]


def leader(pool: dict[int, int]) -> tuple[int, float]:
    """The plurality of a pool (votes by answer code), and its confidence."""
    first, *rest = sorted(pool.values(), reverse=True)
    return max(pool, key=pool.__getitem__), CONFIDENCE[first][rest[0] if rest else 0]


def cmc(beta: float) -> Controller:
    """The Confidence Momentum Controller at β, billed by interval.

    The pool changes in few rounds, so its winner and confidence are only updated when it changes.
    ``against`` has no entry for a branch that agrees with the winner. Order matters only among
    branches that finish in the same round, so only those are sorted.
    """
    initial = max(2, round(2 + 6 * beta))
    ceiling = min(64, round(4 + 60 * beta))
    warm_up = max(2, round(2 + 8 * beta))
    patience = max(3, round(3 + 9 * beta))
    window = max(2, round(2 + 6 * beta))
    weight = round(0.70 - 0.40 * beta, 4)
    stop = round(0.85 + 0.12 * beta, 4)
    slack = threshold = round(0.04 - 0.03 * beta, 4)
    further = range(1, max(1, round(1 + 2 * beta)))
    widening = max(1, round(1 + 3 * beta))
    completed = max(2, round(2 + 3 * beta))
    first_widening = max(1, warm_up // 2)
    retained = 1 - weight
    end = repeat(-1)  # read after the last probe

    def play(question: Question, order: Sequence[int]) -> Result:
        probes, finals, closing = question.probes, question.finals, question.closing
        pool: dict[int, int] = {}
        winner, confidence, finished = -1, 0.0, 0
        running: list[int] = []  # positions in ``order``, ascending; for each of them,
        readers: list[Iterator[int]] = []  # an iterator over its remaining probes,
        latest: list[int] = []  # and its latest answer
        against: dict[int, int] = {}
        history: list[float] = []
        ema, intervals, tokens = 0.0, 0, 0
        opened, opening = 0, initial
        for r in range(-1, 500):
            if r >= 0:
                ema = retained * ema + weight * confidence
                warm = r >= warm_up
                voting = warm and winner >= 0
                if voting:
                    against = {
                        k: against.get(k, 0) + 1
                        for k, answer in zip(running, latest, strict=True)
                        if answer != winner
                    }
                    if len(running) > 2 and against and max(against.values()) >= patience:
                        worst = [k for k in against if against[k] >= patience]
                        worst.sort(key=against.__getitem__, reverse=True)
                        worst = worst[: len(running) - 2]
                        readers = [
                            x for k, x in zip(running, readers, strict=True) if k not in worst
                        ]
                        running = [k for k in running if k not in worst]
                latest = list(map(next, readers, end))
                intervals += len(running)
                # Of the finishing branches: negative depth before the round, and position.
                joining = []
                if -1 in latest:
                    joining = [
                        (-len(probes[order[k]]), k)
                        for k, answer in zip(running, latest, strict=True)
                        if answer < 0
                    ]
                if voting and further:
                    for at, k in enumerate(running):
                        if k not in against and latest[at] >= 0:
                            for step in further:
                                latest[at] = next(readers[at], -1)
                                intervals += 1
                                if latest[at] < 0:
                                    joining.append((step - len(probes[order[k]]), k))
                                    break
                if joining:
                    joining.sort()
                    for _, k in joining:
                        answer = finals[order[k]]
                        pool[answer] = pool.get(answer, 0) + 1
                        tokens += closing[order[k]]
                    finished += len(joining)
                    winner, confidence = leader(pool)
                    still = [at for at, answer in enumerate(latest) if answer >= 0]
                    running = [running[at] for at in still]
                    readers = [readers[at] for at in still]
                    latest = [latest[at] for at in still]
                ema = retained * ema + weight * confidence
                history.append(ema)
                trend = ema - history[max(0, r + 1 - window)]
                if warm and finished >= completed and ema >= stop and trend >= -slack:
                    break
                if not running:
                    break
                if trend > threshold or r < first_widening or ema >= stop:
                    continue
                opening = min(widening, ceiling - opened)
            grown = finished
            for k in range(opened, opened + opening):
                reader = iter(probes[order[k]])
                answer = next(reader, -1)
                if answer >= 0:
                    running.append(k)
                    readers.append(reader)
                    latest.append(answer)
                else:
                    answer = finals[order[k]]
                    pool[answer] = pool.get(answer, 0) + 1
                    tokens += closing[order[k]]
                    finished += 1
            opened += opening
            intervals += opening
            if finished > grown:
                winner, confidence = leader(pool)
        if not pool:
            votes = Counter(latest)
            winner = max(votes, key=votes.__getitem__)
        # ``intervals`` counts the last interval of a finished branch as a full one.
        tokens += (intervals - finished) * question.interval
        return winner == question.gold, tokens

    return play
