"""The numbers that ``info`` holds in every step: initial values, and results once an episode ends.

``FIELDS`` lists them; the arrays, and the table in
:class:`autotts_gym.gym_envs.autotts_env.AutoTTSEnv`, are made from that list. Flags are int8:
Gymnasium's ``SyncVectorEnv`` collects ``np.bool_`` in arrays of objects, which other libraries
cannot convert.
"""

from __future__ import annotations

from typing import Annotated, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from autotts_gym.mdp import rules
from autotts_gym.mdp import state as s
from autotts_gym.mdp.jit import inlined
from autotts_gym.mdp.packed_arrays import Axes
from autotts_gym.mdp.state import EpisodeState, Records


class InfoField(NamedTuple):
    """A key of ``info``.

    Attributes:
        key: the key.
        kind: its type, or its dtype and shape.
        initial: the value until the episode ends; empty if it changes with every step.
        meaning: what it holds, with its unit.
    """

    key: str
    kind: str
    initial: str
    meaning: str


#: Keys of the latest step.
STEP_FIELDS: Final = (
    InfoField("action_mask", "int8 (A,)", "", "legal actions"),
    InfoField("invalid_action", "int8", "", "1 if the action was illegal"),
    InfoField("cost", "float64", "", "(1 − w) · `token_cost` + w · `latency_cost`"),
    InfoField("token_cost", "float64", "", "`c / C` of the step"),
    InfoField("latency_cost", "float64", "", "`l / L` of the step"),
)

#: Keys of the episode; the fields of :class:`InfoArrays`.
FIELDS: Final = (
    InfoField("beta", "float64", "", "β of the episode"),
    InfoField("latency_weight", "float64", "", "w of the episode"),
    InfoField("correct", "int8", "0", "1 if the answer is the gold answer"),
    InfoField("has_gold", "int8", "0", "1 if the gold answer is known"),
    InfoField("answer_class", "int64", "−1", "class of the answer in the episode; −1 none"),
    InfoField("tokens", "int64", "0", "total tokens, the true cost"),
    InfoField("sequential_tokens", "int64", "0", "sequential tokens, true"),
    InfoField("steps", "int64", "0", "actions, illegal ones included"),
    InfoField("probes", "int64", "0", "probes, those of `auto_probe` included"),
    InfoField("env_index", "int64", "−1", "number of the environment among those of `env`"),
    InfoField("question", "int64", "−1", "row of the question in its environment"),
    InfoField("accuracy_reward", "float64", "0", "part of the return: 0 or 1"),
    InfoField("cost_reward", "float64", "0", "(1 − w) · `token_reward` + w · `latency_reward`"),
    InfoField("token_reward", "float64", "0", "part of the return: −tokens / C"),
    InfoField("latency_reward", "float64", "0", "part of the return: −sequential tokens / L"),
)

#: Keys that exist with ``info_strings=True`` only.
STRING_FIELDS: Final = (
    InfoField("answer", "str", '""', "the answer; empty without one"),
    InfoField("gold", "str", '""', "the gold answer; empty if it is not known"),
    InfoField("env", "str", '""', "name of the environment"),
)


def table(indent: str = "") -> str:
    """The keys of ``info`` as a Markdown table, for docstrings."""
    rows = [("Key", "Type", "Until the end", "Value")]
    rows += [
        (f"`{field.key}`", field.kind, field.initial, field.meaning)
        for field in (*STEP_FIELDS, *FIELDS, *STRING_FIELDS)
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, tuple("-" * width for width in widths))  # type: ignore[arg-type]
    lines = (
        " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )
    return f"\n{indent}".join(f"| {line} |" for line in lines)


class InfoArrays(NamedTuple):
    """The values of ``FIELDS`` of E episodes; each array has the shape (E,)."""

    beta: Annotated[NDArray[np.float64], Axes(np.float64, 1)]
    latency_weight: Annotated[NDArray[np.float64], Axes(np.float64, 1)]
    correct: Annotated[NDArray[np.int8], Axes(np.int8, 1)]
    has_gold: Annotated[NDArray[np.int8], Axes(np.int8, 1)]
    answer_class: Annotated[NDArray[np.int64], Axes(np.int64, 1)]
    tokens: Annotated[NDArray[np.int64], Axes(np.int64, 1)]
    sequential_tokens: Annotated[NDArray[np.int64], Axes(np.int64, 1)]
    steps: Annotated[NDArray[np.int64], Axes(np.int64, 1)]
    probes: Annotated[NDArray[np.int64], Axes(np.int64, 1)]
    env_index: Annotated[NDArray[np.int64], Axes(np.int64, 1)]
    question: Annotated[NDArray[np.int64], Axes(np.int64, 1)]
    accuracy_reward: Annotated[NDArray[np.float64], Axes(np.float64, 1)]
    cost_reward: Annotated[NDArray[np.float64], Axes(np.float64, 1)]
    token_reward: Annotated[NDArray[np.float64], Axes(np.float64, 1)]
    latency_reward: Annotated[NDArray[np.float64], Axes(np.float64, 1)]

    @classmethod
    def allocate(cls, num_envs: int) -> InfoArrays:
        """Arrays of ``num_envs`` episodes."""
        return cls(*(np.zeros(num_envs, field.kind) for field in FIELDS))


class InfoSources(NamedTuple):
    """What :func:`write_info` reads besides the state, and what it writes.

    Attributes:
        info: the values.
        questions: QUESTION[Q].
        has_gold: int8[Q], whether the gold answer of a question is known.
        first_question: int64[S + 1], row of each store's first question.
    """

    info: InfoArrays
    questions: Annotated[Records, Axes(s.QUESTION, 1)]
    has_gold: Annotated[NDArray[np.int8], Axes(np.int8, 1)]
    first_question: Annotated[NDArray[np.int64], Axes(np.int64, 1)]


@inlined
def write_info(sources, episode: EpisodeState, e: int) -> None:
    """Write the values of episode ``e``: results if it has ended, else initial values."""
    info, ledger = sources.info, episode.ledger
    ended = ledger.ended != 0
    row = ledger.question
    store = sources.questions[row].store
    correct = ended and rules.is_correct(episode)
    info.beta[e] = ledger.beta
    weight = ledger.latency_weight
    info.latency_weight[e] = weight
    info.correct[e] = correct
    info.has_gold[e] = sources.has_gold[row] if ended else 0
    info.answer_class[e] = ledger.answer if ended else -1
    info.tokens[e] = ledger.true_spent if ended else 0
    info.sequential_tokens[e] = ledger.true_clock if ended else 0
    info.steps[e] = ledger.steps if ended else 0
    info.probes[e] = ledger.probes if ended else 0
    info.env_index[e] = store if ended else -1
    info.question[e] = row - sources.first_question[store] if ended else -1
    info.accuracy_reward[e] = correct
    tokens = -ledger.true_spent / ledger.full_cost if ended else 0.0
    latency = -ledger.true_clock / ledger.full_latency if ended else 0.0
    info.cost_reward[e] = (1 - weight) * tokens + weight * latency
    info.token_reward[e] = tokens
    info.latency_reward[e] = latency
