"""Published-style programs, played without changes.

The programs that accompany AutoTTS (arXiv 2605.08083) are classes with a method
``solve(question)``. The question offers four methods, and answers are strings::

    class OptimalController:
        def __init__(self, config):
            self.beta = config["beta"]

        def solve(self, question):
            answer, index, finished = question.probe_new()
            while not finished:
                answer, finished = question.probe_more(index)
            return answer

:class:`PublishedQuestion` implements the question over an
:class:`~autotts_gym.controllers.episode.Episode`, so such programs play the same process as other
controllers, at the same costs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any

from autotts_gym.controllers.episode import Episode
from autotts_gym.controllers.errors import NoAnswerError

#: The class that is played if a file defines several, and none is named.
DEFAULT_CLASS = "OptimalController"


class NoBranchLeftError(ValueError, IndexError):
    """No further branch can be opened. Published programs catch either base class."""


class PublishedQuestion:
    """An episode with the methods that published programs call.

    Args:
        episode: a running episode of a Gymnasium environment.
    """

    def __init__(self, episode: Episode) -> None:
        self._episode = episode
        self._env: Any = episode.facts

    def _text(self, answer: int) -> str:
        return str(self._env.answer_text(answer))

    def _open(self) -> int:
        if not self._episode.can_branch():
            raise NoBranchLeftError(
                f"no branch can be opened: {self._episode.opened} of "
                f"{self._episode.max_branches} are open"
            )
        return self._episode.branch()

    def _probe(self, index: int) -> tuple[str, bool]:
        answer, finished = self._episode.probe(index)
        return self._text(answer), finished

    def probe_new(self) -> tuple[str, int, bool]:
        """Open a branch and probe its first interval: answer, index, finished.

        Raises:
            NoBranchLeftError: all branches are open, or the budget is spent.
        """
        index = self._open()
        answer, finished = self._probe(index)
        return answer, index, finished

    def probe_more(self, index: int) -> tuple[str, bool]:
        """Extend a branch by one interval and probe it: answer, finished.

        A finished branch repeats its answer at no cost.

        Raises:
            NoBranchLeftError: there is no such branch.
        """
        episode = self._episode
        if not 0 <= index < episode.opened:
            raise NoBranchLeftError(f"there is no branch {index}; {episode.opened} are open")
        if episode.finished(index):
            return self._text(episode.latest(index)), True
        episode.extend(index)
        return self._probe(index)

    def get_new_branch_final_answer(self) -> str:
        """Open a branch and read it to its end, billed by generated tokens: its final answer.

        Raises:
            NoBranchLeftError: as for :meth:`probe_new`.
        """
        episode = self._episode
        with self._env.billed_by_tokens():
            index = self._open()
        while True:
            while episode.can_extend(index):
                episode.extend(index)
            if not episode.can_probe(index):
                raise NoBranchLeftError("the budget ends before the branch does")
            answer, finished = self._probe(index)
            if finished:
                return answer

    def get_seq_and_total_tokens(self) -> tuple[int, int]:
        """Visible sequential and total tokens so far."""
        return self._episode.clock, self._episode.spent

    def answer(self, answer: object) -> None:
        """End the episode with the program's return value.

        Raises:
            NoAnswerError: it is not the answer of any branch's latest probe.
        """
        episode = self._episode
        if not isinstance(answer, str):
            raise NoAnswerError(f"solve must return an answer as a string, got {answer!r:.80}")
        for i in range(episode.opened):
            if episode.can_answer(i) and self._text(episode.latest(i)) == answer:
                episode.answer(i)
                return
        raise NoAnswerError(f"solve returned {answer!r:.80}, which no branch's latest probe shows")


def programs(module: ModuleType) -> dict[str, type]:
    """The published-style classes that a module defines, by name."""
    return {
        name: value
        for name, value in vars(module).items()
        if inspect.isclass(value)
        and value.__module__ == module.__name__
        and callable(getattr(value, "solve", None))
    }


def as_controller(program: type) -> tuple[Callable[..., None], bool]:
    """Convert a published-style class to a controller; it is instantiated for every episode.

    Returns:
        The function ``solve``, and whether it takes β, that is, whether the class takes a config.
    """
    takes_config = len(inspect.signature(program).parameters) > 0

    def solve(episode: Episode, beta: float) -> None:
        instance: Any = program({"beta": beta}) if takes_config else program()
        question = PublishedQuestion(episode)
        question.answer(instance.solve(question))

    return (solve if takes_config else lambda episode: solve(episode, 0.0)), takes_config
