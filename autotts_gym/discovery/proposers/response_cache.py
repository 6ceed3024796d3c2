"""Cache of the responses of proposers and their costs.

A response is paid for when it arrives, but recorded in the journal only after its program has been
evaluated. A run that is interrupted in between reads the response from the cache and does not pay
for it again. The costs in the cache count towards the budget permanently.
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autotts_gym.discovery.proposal import Proposal
from autotts_gym.utils.files import write_text


class ResponseCache:
    """A folder with one file ``NAME.json`` per proposal.

    Args:
        folder: the folder; created when something is written.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)

    def read(self, name: str) -> dict[str, Any]:
        """The values stored for a proposal; empty if there is no readable file."""
        return _read_object(self._path(name))

    def write(self, name: str, values: Mapping[str, Any], cost: Mapping[str, float]) -> None:
        """Store values for a proposal, and its total cost so far by unit."""
        self.folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"cost": dict(cost), **values}, indent=1) + "\n"
        write_text(self._path(name), text)

    def write_proposal(self, proposal: Proposal) -> Proposal:
        """Store a complete proposal, and return it."""
        self.write(proposal.name, {"proposal": proposal.to_dict()}, proposal.cost)
        return proposal

    def read_proposal(self, name: str) -> Proposal | None:
        """The stored proposal; None if there is no complete one."""
        values = self.read(name).get("proposal")
        try:
            return Proposal.from_dict(values) if values else None
        except ValueError:
            return None

    def cost(self, name: str) -> dict[str, float]:
        """Cost of a proposal so far, by unit."""
        return read_costs(self._path(name), "cost")

    def total_cost(self) -> dict[str, float]:
        """Cost of all proposals in the cache, by unit."""
        total: Counter[str] = Counter()
        for path in sorted(self.folder.glob("*.json")):
            total.update(read_costs(path, "cost"))
        return dict(total)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.json"


def _read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty if there is none."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def read_costs(path: Path, field: str | None = None) -> dict[str, float]:
    """Costs by unit from a JSON file; values that are not valid costs are left out.

    Args:
        path: the file; it need not exist.
        field: name of the field with the costs; by default, the whole object.
    """
    content = _read_object(path)
    costs = content if field is None else content.get(field)
    return {
        str(unit): float(cost)
        for unit, cost in (costs.items() if isinstance(costs, dict) else ())
        if isinstance(cost, int | float) and 0 <= cost < math.inf
    }
