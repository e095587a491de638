"""Logs to TensorBoard: event files in `WORKDIR/tensorboard/member-NUMBER/`."""

from collections.abc import Mapping

from tensorboardX import SummaryWriter

from haepo_jax.runs.loggers.interface import LoggedRun


class TensorBoardLogger:
    """Writes scalars by tensorboardX. What an earlier attempt wrote beyond the start of this one does not show."""

    def __init__(self, run: LoggedRun) -> None:
        """Opens the member's folder."""
        self._writer = SummaryWriter(str(run.folder), purge_step=run.first_update)

    def write(self, update: int, metrics: Mapping[str, float]) -> None:
        """Adds a point to the curve of each metric."""
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, update)

    def close(self) -> None:
        """Writes what is left."""
        self._writer.close()
