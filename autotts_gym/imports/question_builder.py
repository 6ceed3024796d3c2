"""Questions with whole branches, made of completions: tokens, final answers and flags."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from autotts_gym.answers.answer_pairs import answers_equal
from autotts_gym.answers.extraction import ExtractedAnswer, extract_answer
from autotts_gym.answers.grading import gold_answer
from autotts_gym.collection.store_builder import CUT, EMPTY, UNANSWERED
from autotts_gym.imports.completions import Completion
from autotts_gym.imports.question_groups import QuestionGroup
from autotts_gym.imports.token_counts import load_counter
from autotts_gym.inference.protocol import Protocol
from autotts_gym.traces.store import Branch, Question, TraceError

#: Extractors of answers, and those of questions whose gold answers are all letters.
EXTRACTORS: Final = ("boxed", "answer", "number")
CHOICE_EXTRACTORS: Final = ("choice",)
_LETTERS: Final = frozenset("ABCDEFGHIJ")


class QuestionBuilder:
    """Makes questions of groups of completions.

    Args:
        groups: all groups of the import.
        extractors: extractors of final answers; by default ``choice`` if all gold answers are
            letters from A to J, else ``boxed``, ``answer``, ``number``.
        protocol: finds final answers instead of the extractors.
        tokenizer: counts tokens that are not recorded; None if all must be recorded.
        texts: keep the texts.

    Raises:
        TraceError: the tokenizer cannot be loaded.
    """

    def __init__(
        self,
        groups: Sequence[QuestionGroup],
        extractors: Sequence[str] | None,
        protocol: Protocol | None,
        tokenizer: str | None,
        texts: bool,
    ) -> None:
        self._groups = groups
        self._extractors = list(extractors or _default_extractors(groups))
        self._protocol = protocol
        self._tokenizer = tokenizer
        self._count = None if tokenizer is None else load_counter(tokenizer)
        self._texts = texts
        self._counts: Counter[str] = Counter()

    def build(self) -> list[Question]:
        """Return the questions; their answers are as they were written.

        Raises:
            TraceError: a number of tokens is not recorded, and there is no tokenizer.
        """
        return [
            Question(
                group.question,
                group.gold,
                [self._branch(completion, group) for completion in group.completions],
                group.id,
            )
            for group in self._groups
        ]

    def facts(self) -> dict[str, Any]:
        """How answers and tokens were found, for the card."""
        facts: dict[str, Any] = (
            {"extractors": self._extractors}
            if self._protocol is None
            else {"protocol": self._protocol.name}
        )
        sources = ["recorded"] if self._counts["recorded"] else []
        if self._counts["counted"] and self._tokenizer is not None:
            sources.append(f"tokenizer {Path(self._tokenizer).name}")
        facts["tokens"] = " and ".join(sources)
        if self._counts["compared"]:
            facts["scores"] = self._counts["compared"]
            facts["scores_that_agree"] = self._counts["agreeing"]
        return facts

    def _branch(self, completion: Completion, group: QuestionGroup) -> Branch:
        found = self._find_answer(completion.text)
        self._compare(completion, group.gold, found)
        flags = {CUT: completion.cut, EMPTY: not completion.text.strip(), UNANSWERED: found.null}
        return Branch(
            probes=[],
            tokens=max(self._tokens(completion, group.where), 1),
            final=found.answer,
            text=completion.text if self._texts else None,
            flags=" ".join(flag for flag, is_set in flags.items() if is_set),
            nulls=[found.null],
            raw=[found.answer],
        )

    def _find_answer(self, text: str) -> ExtractedAnswer:
        if self._protocol is not None:
            return self._protocol.final_answer(text)
        return extract_answer(text, self._extractors)

    def _compare(self, completion: Completion, gold: str, found: ExtractedAnswer) -> None:
        """Count whether the grade is that of the program that wrote the file."""
        if completion.right is None:
            return
        right = not found.null and answers_equal(gold_answer(gold), found.answer)
        self._counts["compared"] += 1
        self._counts["agreeing"] += right == completion.right

    def _tokens(self, completion: Completion, where: str) -> int:
        if completion.tokens is not None:
            self._counts["recorded"] += 1
            return completion.tokens
        if self._count is None:
            raise TraceError(
                f"{where}: the number of tokens is not recorded: name the tokenizer of the model "
                "with --tokenizer (a folder, or a name on the Hugging Face hub)"
            )
        self._counts["counted"] += 1
        return self._count(completion.text, completion.cut)


def _default_extractors(groups: Sequence[QuestionGroup]) -> Sequence[str]:
    letters = all(gold_answer(group.gold).strip("() .") in _LETTERS for group in groups)
    return CHOICE_EXTRACTORS if letters else EXTRACTORS


def only_model(groups: Sequence[QuestionGroup]) -> str:
    """Name of the model that wrote all completions; empty if there are several or none."""
    names: set[str] = {each.model for group in groups for each in group.completions}
    return Path(names.pop()).name if len(names) == 1 else ""
