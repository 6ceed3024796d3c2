"""Layout of the shared memory through which an untrusted program observes its episode.

Every episode's process has one *slot*: pages that the player writes and that the process can only
read; it cannot change their protection either. A slot holds what an observation shows and the
attributes of :class:`~autotts_gym.controllers.episode.Episode`, and nothing of other episodes.

Separate from :mod:`autotts_gym.sandbox.shared_memory`, because the episode's process must not
import the rules.
"""

from __future__ import annotations

import mmap
from dataclasses import asdict, dataclass
from typing import Final

from autotts_gym.mdp import actions
from autotts_gym.mdp.fields import BRANCH_COLUMNS, REVEALED

#: Number of observed branch columns.
OBSERVED: Final = len(BRANCH_COLUMNS)

# Attributes of the episode, one word each.
SPENT: Final = 0  # visible total tokens
CLOCK: Final = 1  # visible sequential tokens
OPENED: Final = 2  # number of branches
INTERVAL: Final = 3  # Δ, tokens
DEPTH_LIMIT: Final = 4  # intervals
BUDGET: Final = 5  # tokens, -1 for none
PREDICTABLE: Final = 6  # 1 if neither a budget nor a step limit can stop an action
HAS_GENERATION_CONFIDENCE: Final = 7  # 1 if the environment records generation confidences
ATTRIBUTES: Final = 8  # their number

# float64 values before the confidences.
BETA: Final = 0
MEAN_TOKENS: Final = 1
LATENCY_WEIGHT: Final = 2
FLOATS: Final = 3  # their number

#: Size of an int64 and of a float64, bytes.
WORD: Final = 8

#: Room for the texts of an episode's answers, bytes. Pages that are not written take no memory.
TEXT_SIZE: Final = 16 << 20

#: Largest number of answer classes, which traces store as int16.
_MAX_CLASSES: Final = (1 << 15) - 1


@dataclass(frozen=True)
class Layout:
    """Offsets within a slot.

    A slot begins, as float64, with β, the mean tokens of a branch, w and, if there are any, the
    confidences of the N branches and the sums of the token confidences of their D intervals. Then
    follow, as int64: the attributes, the action mask, the columns of N branches as in an
    observation, the number of tokens in each of the sums, the null flags of K classes, and the end
    of the text of each of them. The texts of the revealed answers come last, UTF-8, in the order of
    the classes. Sums and numbers of tokens are 0 for intervals that no probe has revealed.

    Attributes:
        branches: N.
        depth: D, depth limit of a branch, intervals.
        confidences: whether the slot has confidences.
        generation_confidences: whether the slot has generation confidences.
    """

    branches: int
    depth: int
    confidences: bool
    generation_confidences: bool

    @property
    def classes(self) -> int:
        """K, the largest number of answer classes that probes can reveal in an episode."""
        return min(self.branches * self.depth, _MAX_CLASSES)

    @property
    def floats(self) -> int:
        """Number of float64 values, and therefore the word at which the attributes begin."""
        return self.sums + self.intervals

    @property
    def intervals(self) -> int:
        """Number of intervals with generation confidences, N · D or 0."""
        return self.branches * self.depth if self.generation_confidences else 0

    @property
    def sums(self) -> int:
        """Word at which the sums of token confidences begin, branch after branch."""
        return FLOATS + (self.branches if self.confidences else 0)

    @property
    def mask(self) -> int:
        """Word at which the action mask begins, counted from the start of the slot."""
        return self.floats + ATTRIBUTES

    @property
    def columns(self) -> int:
        """Word at which the branch columns begin."""
        return self.mask + actions.count(self.branches)

    @property
    def revealed(self) -> int:
        """Word at which the depths of the latest probes of the branches begin."""
        return self.columns + REVEALED * self.branches

    @property
    def tokens(self) -> int:
        """Word at which the numbers of tokens of the sums begin."""
        return self.columns + OBSERVED * self.branches

    @property
    def nulls(self) -> int:
        """Word at which the null flags of the classes begin."""
        return self.tokens + self.intervals

    @property
    def ends(self) -> int:
        """Word at which the ends of the texts begin."""
        return self.nulls + self.classes

    @property
    def texts(self) -> int:
        """Word at which the texts begin."""
        return self.ends + self.classes

    @property
    def size(self) -> int:
        """Size of a slot, bytes; a multiple of the page size."""
        needed = self.texts * WORD + TEXT_SIZE
        return -(-needed // mmap.PAGESIZE) * mmap.PAGESIZE

    def asdict(self) -> dict[str, int]:
        """The constructor's arguments."""
        return asdict(self)
