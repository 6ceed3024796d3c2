"""Export of a search as a task for OpenEvolve (the ``openevolve`` package, which is optional).

:func:`export` writes the files that ``openevolve-run`` needs: an initial program, an evaluator and
a configuration. OpenEvolve has its own proposers, archive and prompts; scores and feedback are the
same as in ``autotts discover``.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml

from autotts_gym.discovery import prompts
from autotts_gym.discovery.objective import BETAS, price_at
from autotts_gym.discovery.proposal import Candidate, Evaluation, Proposal
from autotts_gym.utils.files import write_text

#: Score of a rejected program: lower than that of any accepted one.
REJECTED_SCORE: Final = -1.0 - sum(price_at(beta) for beta in BETAS) / len(BETAS)

#: Columns of the curve whose means are reported besides the score.
_CURVE_COLUMNS: Final = ("accuracy", "tokens", "sequential")

_EVALUATOR: Final = '''"""Evaluates a program, for OpenEvolve."""

from pathlib import Path

from autotts_gym.discovery.evaluator import evaluate as evaluate_program
from autotts_gym.discovery.openevolve_export import result

ENVS = {envs!r}
QUESTIONS = {questions!r}  # rows of the questions; None for all
SEEDS = {seeds!r}  # number of branch orders per question


def evaluate(program_path):
    """Scores of the program in a file, and feedback on it."""
    source = Path(program_path).read_text("utf-8")
    evaluation = evaluate_program(
        source, envs=ENVS, questions=QUESTIONS, seeds=SEEDS, untrusted={untrusted!r}
    )
    return result(evaluation)
'''


def metrics(evaluation: Evaluation) -> dict[str, float]:
    """An evaluation as OpenEvolve's metrics.

    Returns:
        ``combined_score``, which OpenEvolve maximizes; ``accepted``, 1 or 0; and means over the
        curve, if there is one.
    """
    accepted = not evaluation.rejection and math.isfinite(evaluation.score)
    values = {
        "combined_score": evaluation.score if accepted else REJECTED_SCORE,
        "accepted": float(accepted),
    }
    for name in _CURVE_COLUMNS:
        if name in evaluation.curve:
            values[name] = float(np.mean(evaluation.curve[name]))
    return values


def result(evaluation: Evaluation) -> Any:
    """An evaluation as the return value of an OpenEvolve evaluator.

    Returns:
        OpenEvolve's ``EvaluationResult``, with the artifact ``feedback``, which is included in
        prompts; the metrics alone if OpenEvolve is not installed.
    """
    values = metrics(evaluation)
    try:
        from openevolve.evaluation_result import EvaluationResult
    except ImportError:
        return values
    feedback = prompts.feedback(Candidate(Proposal("program", "program", "OpenEvolve"), evaluation))
    return EvaluationResult(metrics=values, artifacts={"feedback": feedback})


def export(
    folder: str | os.PathLike[str],
    *,
    envs: Sequence[str],
    questions: Sequence[int] | None = None,
    seeds: int = 4,
    untrusted: bool = True,
    program: str | None = None,
    timeout: int = 600,
) -> list[Path]:
    """Write ``initial_program.py``, ``evaluator.py`` and ``config.yaml``.

    They are the arguments of ``openevolve-run initial_program.py evaluator.py --config
    config.yaml``; its options ``--api-base`` and ``--primary-model`` choose the model.

    Args:
        folder: folder of the files; created if necessary.
        envs: names or paths of the environments.
        questions: rows of the questions; all by default.
        seeds: number of branch orders per question.
        untrusted: play programs in a sandbox.
        program: source text of the initial program; the commented starting file by default.
        timeout: time limit of an evaluation, seconds.

    Returns:
        Paths of the files.

    Raises:
        ValueError: ``envs`` is empty.
    """
    if not envs:
        raise ValueError("give at least one environment, such as tinylm/small/chain")
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
    initial = prompts.template() if program is None else program
    texts = {
        "initial_program.py": f"# EVOLVE-BLOCK-START\n{initial.rstrip()}\n# EVOLVE-BLOCK-END\n",
        "evaluator.py": evaluator,
        "config.yaml": yaml.safe_dump(config, sort_keys=False, allow_unicode=True),
    }
    directory = Path(folder)
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        write_text(directory / name, text)
    return [directory / name for name in texts]
