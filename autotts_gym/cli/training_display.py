"""``TrainingDisplay``: shows the progress of a training, and writes TensorBoard logs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from autotts_gym.cli.console import ProgressLines, progress_bar

if TYPE_CHECKING:
    from autotts_gym.learning.progress import Progress
    from autotts_gym.learning.validation import ValidationScore


class TrainingDisplay:
    """Progress as a bar on a terminal, or as a line every 30 seconds elsewhere.

    Args:
        unit: what a timestep is, for messages.
        logs: folder of TensorBoard logs; None for no logs.
        num_timesteps: timesteps before this run; later entries of older logs are purged.
    """

    def __init__(self, unit: str, logs: Path | None, num_timesteps: int) -> None:
        self._unit = unit
        self._writer: Any = None
        if logs is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(logs), purge_step=num_timesteps)
        self._bar = progress_bar()
        self._task = self._bar.add_task("training", total=1000)
        self._lines = ProgressLines(self._bar)

    def __enter__(self) -> TrainingDisplay:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
        if self._writer is not None:
            self._writer.close()

    def update(self, progress: Progress) -> None:
        """Show and log the metrics of an update."""
        metrics = (
            f"return {progress.mean_return:.3f}, accuracy {progress.accuracy:.1%}, "
            f"cost {progress.cost:.3f} C, {progress.timesteps_per_second:,.0f}/s"
        )
        self._bar.update(self._task, description=metrics, completed=round(1000 * progress.fraction))
        if progress.validation is not None:
            line = f"{progress.timesteps:,} {self._unit}: {_describe(progress.validation)}"
            self._bar.console.print(line, highlight=False, soft_wrap=True)
        if self._writer is not None:
            for name, value in progress.scalars().items():
                self._writer.add_scalar(name, value, progress.timesteps)
        self._lines.print(
            f"{progress.fraction:.0%}, {progress.timesteps:,} {self._unit}, {metrics}"
        )


def _describe(score: ValidationScore) -> str:
    text = f"validation return {score.mean_return:.4f}"
    if not score.matched_fraction:
        return f"{text}, less accurate than CMC in every comparison"
    comparisons = sum(len(shares) for shares in score.token_shares.values())
    return (
        f"{text}, as accurate as CMC for {score.mean_token_share:.0%} of its tokens "
        f"(in {round(score.matched_fraction * comparisons)} of {comparisons} comparisons)"
    )
