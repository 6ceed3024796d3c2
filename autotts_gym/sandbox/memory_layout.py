"""The memory through which an untrusted program sees its episode.

Every process has a slot of its own: pages that the player writes and the process can only read, not
even by changing their protection. A slot holds what an observation shows, in wide types, and what
the handle tells besides; nothing else of an episode, and nothing of any other.
"""

from __future__ import annotations

import mmap
from dataclasses import asdict, dataclass
from typing import Final

from autotts_gym.mdp import actions
from autotts_gym.mdp.fields import BRANCH_COLUMNS, GLOBAL_COLUMNS

# The facts, one word each.
SPENT: Final = 0  # visible, tokens
CLOCK: Final = 1  # visible, tokens
INTERVAL: Final = 2  # Δ, tokens
DEPTH_LIMIT: Final = 3  # intervals
BUDGET: Final = 4  # tokens, -1 for none
FORESEEN: Final = 5  # 1 where neither a budget nor a step limit can stop an action
FACTS: Final = 6

WORD: Final = 8  # bytes of an int64, and of a float64


@dataclass(frozen=True)
class Layout:
    """Where everything stands in a slot, from front to back.

    First the globals and the confidences of the branches, as float64, the latter where there are
    any; then, as int64: the facts, the mask of A actions, the columns of N branches, the votes and
    the nulls of K + 1 classes as an observation has them, and where the text of each of K classes
    ends. Behind them stand the texts of the answers that were revealed, UTF-8, class after class.

    Attributes:
        branches: N.
        classes: K, the most answer classes of any question.
        text: bytes for texts.
        confidences: whether there are any.
    """

    branches: int
    classes: int
    text: int
    confidences: bool

    @property
    def floats(self) -> int:
        """Floats at the front."""
        return len(GLOBAL_COLUMNS) + (self.branches if self.confidences else 0)

    @property
    def mask(self) -> int:
        """The word where the mask begins, counted like the others from the front of the slot."""
        return self.floats + FACTS

    @property
    def columns(self) -> int:
        """The word where the columns of the branches begin."""
        return self.mask + actions.count(self.branches)

    @property
    def votes(self) -> int:
        """The word where the votes of the classes begin; their nulls follow."""
        return self.columns + len(BRANCH_COLUMNS) * self.branches

    @property
    def ends(self) -> int:
        """The word where the ends of the texts begin."""
        return self.votes + 2 * (self.classes + 1)

    @property
    def texts(self) -> int:
        """The word behind which the texts stand."""
        return self.ends + self.classes

    @property
    def size(self) -> int:
        """Bytes, in whole pages."""
        wanted = self.texts * WORD + self.text
        return -(-wanted // mmap.PAGESIZE) * mmap.PAGESIZE

    def facts(self) -> dict[str, int]:
        """Its arguments."""
        return asdict(self)
