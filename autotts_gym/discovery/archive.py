"""Everything that a run of discovery has tried: its journal.

``journal.jsonl`` grows by a line for every program, which is on the disk before the next one is
tried. ``journal.parquet`` is a table of the same, written anew after every round.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from autotts_gym.discovery.proposal import Tried
from autotts_gym.utils.journal import JsonlJournal
from autotts_gym.utils.parquet import write_table

JOURNAL: Final = "journal.jsonl"
TABLE: Final = "journal.parquet"

_encode = functools.partial(json.dumps, allow_nan=False)


class Archive(Mapping[str, Tried]):
    """What was tried, by name, in the order in which it was tried.

    Args:
        folder: folder of the run. A last line that was cut off is dropped.

    Raises:
        JournalError: a complete line of the journal is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._tried: dict[str, Tried] = {}
        self._table = folder / TABLE
        self._journal = JsonlJournal(folder / JOURNAL, self._receive, _encode)

    def _receive(self, facts: dict[str, Any]) -> None:
        tried = Tried.of(facts)
        self._tried[tried.name] = tried

    def __getitem__(self, name: str) -> Tried:
        return self._tried[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tried)

    def __len__(self) -> int:
        return len(self._tried)

    def note(self, tried: Tried) -> None:
        """Put it on record."""
        self._journal.append(tried.facts())
        self._tried[tried.name] = tried

    def before(self, number: int) -> list[Tried]:
        """What was tried before a round."""
        return [tried for tried in self.values() if round_of(tried.name) < number]

    def lineage(self, name: str) -> list[Tried]:
        """A program and its ancestors that are on record, the oldest first."""
        found: dict[str, Tried] = {}

        def follow(one: str) -> None:
            if one in self._tried and one not in found:
                for parent in self[one].proposal.parents:
                    follow(parent)
                found[one] = self[one]

        follow(name)
        return list(found.values())

    def tabulate(self) -> None:
        """Write the table; what has structure is JSON in it."""
        import pyarrow as pa

        rows = [{**tried.facts(), "round": round_of(tried.name)} for tried in self.values()]
        names = dict.fromkeys(key for row in rows for key in row)
        columns = {name: [_flat(row.get(name)) for row in rows] for name in names}
        write_table(pa.table(columns), self._table)


def _flat(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, (dict, list)) else value


def round_of(name: str) -> int:
    """The round that a program was proposed in."""
    return int(name.partition("-")[0])
