"""``train``: trains a policy, as ``autotts train`` does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Literal

from autotts_gym.api.catalogue import StrPath, load_controller, open_envs
from autotts_gym.api.number_lists import integer_list
from autotts_gym.utils.keywords import suggest_keywords

if TYPE_CHECKING:
    from autotts_gym.controllers.agent import Agent
    from autotts_gym.learning.progress import Progress
    from autotts_gym.traces.store import TraceStore


def _no_progress(progress: Progress) -> None:
    """Ignore the progress of a training."""


@suggest_keywords()
def train(
    algorithm: str,
    envs: StrPath
    | TraceStore
    | Iterable[StrPath | TraceStore]
    | Mapping[str, TraceStore]
    | None = None,
    *,
    out: StrPath,
    questions: int | str | Iterable[int] | None = None,
    validation: int | Literal["none"] | str | Iterable[int] | None = None,
    keep_best: bool = False,
    total_timesteps: int = 4_000_000,
    seed: int = 0,
    network: Literal["equivariant", "mlp"] = "equivariant",
    encoder: int = 32,
    hidden: int = 64,
    atomic: bool = False,
    max_branches: int | None = None,
    num_envs: int = 512,
    num_steps: int = 64,
    learning_rate: float = 1e-3,
    ent_coef: float = 0.01,
    latency_weight: float | tuple[float, float] = 0.0,
    threads: int = 1,
    progress: Callable[[Progress], None] = _no_progress,
) -> Agent:
    """Train one policy for all β, on macro-actions or on single actions.

    Called again after an interruption, it resumes from the last checkpoint in ``out``.

    Args:
        algorithm: ``"autotts-ppo"`` (this package), ``"sb3-maskable-ppo"`` (sb3-contrib),
            ``"sb3-ppo"``, ``"sb3-a2c"`` or ``"sb3-dqn"`` (stable-baselines3).
        envs: names, paths or trace stores, one or several; default ``qwen2.5-coder-0.5b/problems``.
        out: folder of the policy, its card and its checkpoints.
        questions: rows of the training questions, as numbers or text such as ``"0-23"``; default
            all.
        validation: rows of the questions on which each checkpoint is validated and compared with
            CMC; default those of ``questions``; ``"none"`` for no validation.
        keep_best: export the policy with the best validation return, not the last one.
        total_timesteps: timesteps, summed over all parallel environments.
        seed: seed of weights, episodes and sampled actions.
        network: ``"equivariant"``: one encoder shared by all branches, for any number of branches;
            ``"mlp"``: the features of all branches in one vector, for this ``max_branches`` only.
        encoder: number of units of the branch encoder.
        hidden: number of units of the hidden layers.
        atomic: use the single actions of ``AutoTTS-v0`` instead of macro-actions.
        max_branches: N, maximum number of branches of an episode; default 64, or the smallest
            number of branches of a question.
        num_envs: number of parallel environments.
        num_steps: timesteps per environment between two updates.
        learning_rate: initial learning rate; annealed to a tenth of it.
        ent_coef: initial weight of the entropy bonus; annealed to zero.
        latency_weight: w, the weight of sequential tokens in the cost, from 0 to 1, or a range
            (low, high) of which each episode draws one. The policy reads it, unless it is 0.
        threads: number of CPU threads of torch.
        progress: called after each update.

    Returns:
        The trained policy, which can be used like any controller.

    Raises:
        ImportError: torch is not installed.
        ValueError: an argument is out of range, or ``out`` holds another policy or training.
        TypeError: an unknown keyword argument; the message suggests a similar one.
    """
    try:
        import torch
    except ImportError as error:
        raise ImportError(f"train needs torch ({error}): pip install 'autotts-gym[rl]'") from error
    from autotts_gym.controllers.policy_network import Shape
    from autotts_gym.learning.trainer_factory import create_trainer
    from autotts_gym.learning.training_config import TrainingConfig
    from autotts_gym.traces.branch_width import default_width

    torch.set_num_threads(threads)
    rows = None if questions is None else integer_list(questions, "questions")
    is_validated = not (isinstance(validation, str) and validation == "none")
    validation_rows = (
        rows if validation is None or not is_validated else integer_list(validation, "validation")
    )
    stores = open_envs(envs)
    if max_branches is None:
        max_branches = default_width(stores.values())
    config = TrainingConfig(
        total_timesteps=total_timesteps,
        seed=seed,
        shape=Shape(network, max_branches, encoder, hidden, atomic),
        num_envs=num_envs,
        num_steps=num_steps,
        learning_rate=learning_rate,
        ent_coef=ent_coef,
        latency_weight=(latency_weight, latency_weight)
        if isinstance(latency_weight, int | float)
        else latency_weight,
    )
    trainer = create_trainer(
        algorithm,
        stores,
        rows,
        config,
        out,
        validate=is_validated,
        validation_rows=validation_rows,
        keep_best=keep_best,
    )
    trainer.run(progress)
    trainer.finish("autotts_gym.train")
    return load_controller(out)
