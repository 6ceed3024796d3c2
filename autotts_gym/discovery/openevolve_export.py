"""The search as a task for OpenEvolve (the ``openevolve`` package, which is not needed here).

:func:`export` writes what ``openevolve-run`` takes: a program to begin with, an evaluator and a
configuration. OpenEvolve brings its own proposers, archive and prompts; what is scored, and what is
told of a program, is the same as in ``autotts discover``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml

from autotts_gym.discovery import prompts
from autotts_gym.discovery.objective import BETAS, price_at
from autotts_gym.discovery.proposal import Candidate, Evaluation, Proposal
from autotts_gym.utils.files import write_text

#: What a rejected program is worth: less than one that spends everything and is never right.
REJECTED: Final = -1.0 - sum(price_at(beta) for beta in BETAS) / len(BETAS)

#: Means of a curve that are told beside the score.
_TOLD: Final = ("accuracy", "tokens", "sequential")

_EVALUATOR: Final = '''"""Scores a program, for OpenEvolve."""

from pathlib import Path

from autotts_gym.discovery.evaluator import evaluate as play
from autotts_gym.discovery.openevolve_export import result

ENVS = {envs!r}
QUESTIONS = {questions!r}  # rows; None for all
SEEDS = {seeds!r}  # branch orders of each question


def evaluate(program_path):
    """The scores of the program in a file, and what there is to learn from them."""
    source = Path(program_path).read_text("utf-8")
    return result(
        play(source, envs=ENVS, questions=QUESTIONS, seeds=SEEDS, untrusted={untrusted!r})
    )
'''


def metrics(evaluation: Evaluation) -> dict[str, float]:
    """A verdict as OpenEvolve's numbers.

    Returns:
        ``combined_score``, which it maximises; ``accepted``, 1 or 0; and means over the curve,
        where there is one.
    """
    accepted = not evaluation.rejection and math.isfinite(evaluation.score)
    found = {
        "combined_score": evaluation.score if accepted else REJECTED,
        "accepted": float(accepted),
    }
    for name in _TOLD:
        if name in evaluation.curve:
            found[name] = float(np.mean(evaluation.curve[name]))
    return found


def result(evaluation: Evaluation) -> Any:
    """A verdict as what an evaluator of OpenEvolve returns.

    Returns:
        OpenEvolve's ``EvaluationResult``, with ``feedback`` for an artifact, which it shows to the
        model; the numbers alone where OpenEvolve is not installed.
    """
    numbers = metrics(evaluation)
    try:
        from openevolve.evaluation_result import EvaluationResult
    except ImportError:
        return numbers
    told = prompts.feedback(Candidate(Proposal("program", "program", "OpenEvolve"), evaluation))
    return EvaluationResult(metrics=numbers, artifacts={"feedback": told})


def export(
    folder: Path,
    *,
    envs: Sequence[str],
    questions: Sequence[int] | None = None,
    seeds: int = 4,
    untrusted: bool = True,
    program: str | None = None,
    timeout: int = 600,
) -> list[Path]:
    """Write ``initial_program.py``, ``evaluator.py`` and ``config.yaml``.

    They are for ``openevolve-run initial_program.py evaluator.py --config config.yaml``; the model
    is named there, by ``--api-base`` and ``--primary-model``.

    Args:
        folder: for the files; made if it is not there.
        envs, questions, seeds, untrusted: what is played, see
            ``autotts_gym.discovery.evaluator.evaluate``.
        program: text to begin with; the template by default.
        timeout: seconds for a program's evaluation.

    Returns:
        The files.

    Raises:
        ValueError: no environment is named.
    """
    if not envs:
        raise ValueError("name at least one environment, as tinylm/small/chain")
    evaluator = _EVALUATOR.format(
        envs=list(envs),
        questions=None if questions is None else [int(row) for row in questions],
        seeds=seeds,
        untrusted=untrusted,
    )
    config = {
        "diff_based_evolution": True,
        "prompt": {"system_message": prompts.task(), "include_artifacts": True},
        "evaluator": {
            "timeout": timeout,
            "cascade_evaluation": False,
            "parallel_evaluations": 1,
        },
    }
    begun = prompts.template() if program is None else program
    texts = {
        "initial_program.py": f"# EVOLVE-BLOCK-START\n{begun.rstrip()}\n# EVOLVE-BLOCK-END\n",
        "evaluator.py": evaluator,
        "config.yaml": yaml.safe_dump(config, sort_keys=False, allow_unicode=True),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        write_text(folder / name, text)
    return [folder / name for name in texts]
