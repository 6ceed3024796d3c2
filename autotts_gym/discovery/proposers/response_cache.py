"""What proposers have answered and what it cost: kept until it is on record, and counted for good.

An answer is paid for when it comes. A run that is killed before the answer is on record finds it
here, and does not pay twice.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autotts_gym.discovery.proposal import Proposal
from autotts_gym.utils.files import write_text


class Answers:
    """The folder of answers, a file ``NAME.json`` for each proposal.

    Args:
        folder: where they are kept; made when it is needed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, name: str) -> dict[str, Any]:
        """What was kept under a proposal's name; empty where nothing readable was."""
        return _read(self.folder / f"{name}.json")

    def write(self, name: str, facts: Mapping[str, Any], cost: Mapping[str, float]) -> None:
        """Keep something under a proposal's name, and what that name has cost so far."""
        self.folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"cost": dict(cost), **facts}, indent=1) + "\n"
        write_text(self.folder / f"{name}.json", text)

    def keep(self, proposal: Proposal) -> Proposal:
        """Keep a whole proposal; returns it."""
        self.write(proposal.name, {"proposal": proposal.to_dict()}, proposal.cost)
        return proposal

    def proposal(self, name: str) -> Proposal | None:
        """A proposal that was kept whole, if it was."""
        values = self.read(name).get("proposal")
        try:
            return Proposal.from_dict(values) if values else None
        except ValueError:
            return None

    def cost(self, name: str) -> dict[str, float]:
        """What a proposal's name has cost so far, by unit."""
        return read_costs(self.folder / f"{name}.json", "cost")

    def spent(self) -> dict[str, float]:
        """What everything that was ever kept has cost, by unit."""
        total: Counter[str] = Counter()
        for path in sorted(self.folder.glob("*.json")):
            total.update(read_costs(path, "cost"))
        return dict(total)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def read_costs(path: Path, field: str | None = None) -> dict[str, float]:
    """Costs by unit from a file that holds them, or holds them in a field; as far as there are."""
    found = _read(path) if field is None else _read(path).get(field)
    return {
        str(unit): float(cost)
        for unit, cost in (found.items() if isinstance(found, dict) else ())
        if isinstance(cost, int | float) and 0 <= cost < math.inf
    }
