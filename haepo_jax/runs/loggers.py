"""TensorBoard scalars of chosen members, beside the metrics of all: `WORKDIR/tensorboard/member-NUMBER/`."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from haepo_jax.config.members import Member
from haepo_jax.errors import ConfigError


def check_request(chosen: Collection[int], num_members: int) -> None:
    """Refuses members that do not exist, and any where tensorboardX is not installed.

    Raises:
      ConfigError: so it is.
    """
    for index in chosen:
        if not 0 <= index < num_members:
            raise ConfigError(f"--tensorboard_members={index} is no member; there are members 0 to {num_members - 1}.")
    if chosen:
        try:
            import tensorboardX  # noqa: F401
        except ImportError as error:
            raise ConfigError("--tensorboard_members needs tensorboardX: pip install -e '.[tensorboard]'.") from error


class Scalars:
    """Writes the chosen ones of some members; what an earlier attempt wrote beyond its start does not show."""

    def __init__(self, directory: Path, members: Sequence[Member], chosen: Collection[int], first_update: int) -> None:
        """Opens a folder for each chosen member, from `first_update` on."""
        columns = {column: member.index for column, member in enumerate(members) if member.index in chosen}
        self._writers = {}
        if columns:
            from tensorboardX import SummaryWriter

            self._writers = {
                column: SummaryWriter(str(directory / f"member-{index:05d}"), purge_step=first_update)
                for column, index in columns.items()
            }

    def write(self, first_update: int, metrics: Mapping[str, np.ndarray], where: np.ndarray) -> None:
        """Adds updates.

        Args:
          first_update: the update of the first row.
          metrics: `[updates, members]` by name.
          where: `[updates, members]` boolean, the rows to write.
        """
        for column, writer in self._writers.items():
            for row in np.flatnonzero(where[:, column]):
                for name, values in metrics.items():
                    if not np.isnan(values[row, column]):  # there is none, as between two evaluations
                        writer.add_scalar(name, float(values[row, column]), first_update + int(row))
            writer.flush()

    def close(self) -> None:
        """Ends the writers."""
        for writer in self._writers.values():
            writer.close()
