"""Published programs, played as they are.

The programs that accompany AutoTTS (arXiv 2605.08083) are classes with a method
``solve(question)``. The question offers four methods, and answers appear as strings::

    class OptimalController:
        def __init__(self, config):
            self.beta = config["beta"]

        def solve(self, question):
            answer, index, finished = question.probe_new()
            while not finished:
                answer, finished = question.probe_more(index)
            return answer

Here the question is a face of the episode handle, so that such a program plays the same process as
any other controller, with the same costs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any

from autotts_gym.controllers.episode import Episode
from autotts_gym.controllers.errors import NoAnswerError

#: The class that is played where a file holds several.
DEFAULT_CLASS = "OptimalController"


class NoBranchLeftError(ValueError, IndexError):
    """There is no further branch; published programs catch it as either of its bases."""


class PublishedQuestion:
    """An episode with the methods that published programs call.

    Args:
        episode: a running episode over a Gymnasium environment.
    """

    def __init__(self, episode: Episode) -> None:
        self._episode = episode
        self._facts: Any = episode.facts

    def _text(self, answer: int) -> str:
        return str(self._facts.answer_text(answer))

    def _open(self) -> int:
        if not self._episode.can_branch():
            raise NoBranchLeftError(
                f"no branch can be opened: {self._episode.opened} of "
                f"{self._episode.max_branches} are open"
            )
        return self._episode.branch()

    def _look(self, index: int) -> tuple[str, bool]:
        answer, finished = self._episode.probe(index)
        return self._text(answer), finished

    def probe_new(self) -> tuple[str, int, bool]:
        """Open a branch and look at its first interval: answer, index, finished.

        Raises:
            NoBranchLeftError: all branches are open, or the budget is spent.
        """
        index = self._open()
        answer, finished = self._look(index)
        return answer, index, finished

    def probe_more(self, index: int) -> tuple[str, bool]:
        """Let a branch run for an interval and look: answer, finished.

        A finished branch repeats its answer, free.

        Raises:
            NoBranchLeftError: there is no such branch.
        """
        episode = self._episode
        if not 0 <= index < episode.opened:
            raise NoBranchLeftError(f"there is no branch {index}; {episode.opened} are open")
        if episode.finished(index):
            return self._text(episode.latest(index)), True
        episode.extend(index)
        return self._look(index)

    def get_new_branch_final_answer(self) -> str:
        """Open a branch and read it whole, billed by what was generated: its final answer.

        Raises:
            NoBranchLeftError: as for ``probe_new``.
        """
        episode = self._episode
        with self._facts.billed_by_tokens():
            index = self._open()
        while True:
            while episode.can_extend(index):
                episode.extend(index)
            if not episode.can_probe(index):
                raise NoBranchLeftError("the budget does not reach the branch's end")
            answer, finished = self._look(index)
            if finished:
                return answer

    def get_seq_and_total_tokens(self) -> tuple[int, int]:
        """The clock and what was spent so far, tokens, as far as they can be seen."""
        return self._episode.clock, self._episode.spent

    def answer(self, answer: object) -> None:
        """End the episode with what the program returned.

        Raises:
            NoAnswerError: it is no answer that the latest probe of some branch shows.
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
    """The classes of a module that are published-style programs, by name."""
    return {
        name: value
        for name, value in vars(module).items()
        if inspect.isclass(value)
        and value.__module__ == module.__name__
        and callable(getattr(value, "solve", None))
    }


def as_controller(program: type) -> tuple[Callable[..., None], bool]:
    """A published-style class as a controller, and whether it takes a config (and so β).

    It is made anew for every episode.
    """
    configured = len(inspect.signature(program).parameters) > 0

    def solve(episode: Episode, beta: float) -> None:
        instance: Any = program({"beta": beta}) if configured else program()
        question = PublishedQuestion(episode)
        question.answer(instance.solve(question))

    return (solve if configured else lambda episode: solve(episode, 0.0)), configured
