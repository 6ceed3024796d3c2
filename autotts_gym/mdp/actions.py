"""Action ids: one flat ``Discrete(2 + 4 * max_branches)``.

For ``N = max_branches`` the ids are ``0`` ANSWER, ``1`` BRANCH, then four blocks of ``N``:
``CONTINUE(i)``, ``PROBE(i)``, ``PRUNE(i)``, ``ANSWER(i)``.
"""

from __future__ import annotations

from typing import Final, NamedTuple

ANSWER: Final = 0
BRANCH: Final = 1

# The four blocks, in the order of their ids.
CONTINUE: Final = 0
PROBE: Final = 1
PRUNE: Final = 2
ANSWER_BRANCH: Final = 3

#: Added to BRANCH in queued actions: the branch is billed by ``"tokens"``, whatever the
#: configuration says.
BY_TOKENS: Final = 1 << 20

_FIRST: Final = 2  # number of ids before the blocks
_NAMES: Final = ("CONTINUE", "PROBE", "PRUNE", "ANSWER")


class Action(NamedTuple):
    """A decoded action: its name and its branch (``None`` for BRANCH and for plain ANSWER)."""

    name: str
    branch: int | None

    def __str__(self) -> str:
        return self.name if self.branch is None else f"{self.name}({self.branch})"


def count(max_branches: int) -> int:
    """Number of action ids with ``max_branches`` branches."""
    return _FIRST + 4 * max_branches


def max_legal_actions(max_branches: int, depth: int) -> int:
    """Largest number of legal actions in an episode, its answer included.

    A branch can be requested ``depth`` times (the environment's depth limit), probed as often, and
    pruned once.
    """
    return max_branches * (2 * depth + 1) + 1


def action_id(block: int, branch: int, max_branches: int) -> int:
    """Id of the action of ``block`` on ``branch``, unchecked; also compiled and vectorized."""
    return _FIRST + block * max_branches + branch


def encode(block: int, branch: int, max_branches: int) -> int:
    """Id of the action of ``block`` (``CONTINUE``, ``PROBE``, ``PRUNE`` or ``ANSWER_BRANCH``).

    Raises:
        ValueError: ``branch`` is outside 0..``max_branches`` - 1.
    """
    if not 0 <= branch < max_branches:
        raise ValueError(f"branch {branch} is outside 0..{max_branches - 1}")
    return action_id(block, branch, max_branches)


def decode(action: int, max_branches: int) -> Action:
    """Name and branch of an action id.

    Raises:
        ValueError: the id does not exist.
    """
    if not 0 <= action < count(max_branches):
        raise ValueError(f"action {action} is outside 0..{count(max_branches) - 1}")
    if action < _FIRST:
        return Action("BRANCH" if action == BRANCH else "ANSWER", None)
    block, branch = divmod(action - _FIRST, max_branches)
    return Action(_NAMES[block], branch)
