"""The protocol ``field``: all bundled controllers at their published settings, in one comparison.

Every controller with β is played over a sweep, so that tokens at equal accuracy can be read off;
the table shows the settings in :data:`ROWS`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from autotts_gym.evaluation.analysis import Analysis, Row, Scope

if TYPE_CHECKING:
    from autotts_gym.traces.store import TraceStore

#: Rows of the table; the first is the reference of all comparisons. DeepConf is published with two
#: settings, η = 10 (β = 0) and η = 90 (β = 1). Where the source of a controller names no single
#: setting (answer_convergence, first_finish, short_m_at_k, certaindex), β is 0.5.
ROWS: Final = (
    Row("self_consistency", None),
    Row("asc", None),
    Row("esc", None),
    Row("parallel_probe", None),
    Row("cmc", 0.5),
    Row("answer_convergence", 0.5),
    Row("first_finish", 0.5),
    Row("short_m_at_k", 0.5),
    Row("beta_stopping", 0.5),
    Row("doubling", 0.5),
    Row("certaindex", 0.5),
    Row("mars", 0.5),
    Row("deepconf_online", 0.0),
    Row("deepconf_online", 1.0),
    Row("deepconf_offline", 0.0),
    Row("deepconf_offline", 1.0),
    Row("deepconf_bottom10", 0.0),
    Row("deepconf_bottom10", 1.0),
    Row("mars_deepconf", 0.5),
)

#: The controllers of the protocol.
AGENTS: Final = tuple(dict.fromkeys(row.agent for row in ROWS))

#: Values of β that are played.
BETAS: Final = (0.0, 0.25, 0.5, 0.75, 1.0)

#: Controllers that are not played on traces without generation confidences.
NEED_CONFIDENCE: Final = frozenset(
    {"deepconf_online", "deepconf_offline", "deepconf_bottom10", "mars_deepconf"}
)


def can_play(agent: str, store: TraceStore) -> bool:
    """Whether the traces hold what a controller of the protocol needs."""
    return agent not in NEED_CONFIDENCE or store.tables.confidence_sums is not None


def shown_rows(analysis: Analysis, scope: Scope) -> list[Row]:
    """The rows of the table in a scope: those of the protocol, then all rows of other agents."""
    rows = analysis.rows_in(scope)
    return [
        *(row for row in ROWS if row in rows),
        *(row for row in rows if row.agent not in AGENTS),
    ]


def dominating(analysis: Analysis, scope: Scope, row: Row, others: Iterable[Row]) -> list[Row]:
    """The rows that beat a row in accuracy, tokens and sequential tokens together.

    They are at least as accurate for at most its tokens and its sequential tokens, and strictly
    better in one of the three.
    """

    def figures(of: Row) -> Sequence[float]:
        means = analysis.means(scope, of).value
        return -means["correct"], means["tokens"], means["sequential_tokens"]

    own = figures(row)
    return [
        other
        for other in others
        if figures(other) != own and all(a <= b for a, b in zip(figures(other), own, strict=True))
    ]
