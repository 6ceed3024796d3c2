"""The archive of a search: all candidates, in a journal on disk.

``journal.jsonl`` has a line for every candidate, which is synced to disk before the next candidate
is evaluated. ``journal.parquet`` is a table of the same values, rewritten after every round.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from autotts_gym.discovery.proposal import Candidate
from autotts_gym.utils.journal import JsonlJournal
from autotts_gym.utils.parquet import write_table

JOURNAL: Final = "journal.jsonl"
TABLE: Final = "journal.parquet"

_encode = functools.partial(json.dumps, allow_nan=False)


class Archive(Mapping[str, Candidate]):
    """Candidates by name, in the order in which they were evaluated.

    Args:
        folder: folder of the run. An incomplete last line of its journal is removed.

    Raises:
        JournalError: a complete line of the journal is damaged.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._candidates: dict[str, Candidate] = {}
        self._table = Path(folder) / TABLE
        self._journal = JsonlJournal(Path(folder) / JOURNAL, self._receive, _encode)

    def _receive(self, values: dict[str, Any]) -> None:
        candidate = Candidate.from_dict(values)
        self._candidates[candidate.name] = candidate

    def __getitem__(self, name: str) -> Candidate:
        return self._candidates[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._candidates)

    def __len__(self) -> int:
        return len(self._candidates)

    def add(self, candidate: Candidate) -> None:
        """Append a candidate to the journal and sync it to disk."""
        self._journal.append(candidate.to_dict())
        self._candidates[candidate.name] = candidate

    def before(self, round_number: int) -> list[Candidate]:
        """Candidates of all rounds before the given one."""
        return [c for c in self.values() if round_of(c.name) < round_number]

    def lineage(self, name: str) -> list[Candidate]:
        """A candidate and its recorded ancestors, ancestors first."""
        ancestors: dict[str, Candidate] = {}

        def visit(current: str) -> None:
            if current in self._candidates and current not in ancestors:
                for parent in self[current].proposal.parents:
                    visit(parent)
                ancestors[current] = self[current]

        visit(name)
        return list(ancestors.values())

    def write_table(self) -> None:
        """Write the Parquet table; nested values are JSON texts in it."""
        import pyarrow as pa

        rows = [{**c.to_dict(), "round": round_of(c.name)} for c in self.values()]
        names = dict.fromkeys(key for row in rows for key in row)
        columns = {name: [_flat(row.get(name)) for row in rows] for name in names}
        write_table(pa.table(columns), self._table)


def _flat(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, (dict, list)) else value


def round_of(name: str) -> int:
    """Number of the round in which a candidate was proposed."""
    return int(name.partition("-")[0])
