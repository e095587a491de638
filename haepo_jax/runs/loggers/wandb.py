"""Logs to Weights & Biases: a run of its own for each member, in the group of the run folder.

Project, entity and mode are those of the environment variables of wandb: `WANDB_PROJECT`, `WANDB_ENTITY`,
`WANDB_MODE=offline`. Offline runs lie in `WORKDIR/wandb/member-NUMBER/`, for `wandb sync`.
"""

import os
from collections.abc import Mapping

import wandb

from haepo_jax.runs.loggers.interface import LoggedRun


class WandbLogger:
    """Writes one run of Weights & Biases, which a later attempt resumes by its id."""

    def __init__(self, run: LoggedRun) -> None:
        """Begins the run, or resumes it."""
        run.folder.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "haepo_jax"),
            id=run.id,
            name=run.name,
            group=run.group,
            dir=str(run.folder),
            config={**run.config, "seed": run.seed, "member": run.member, "swept": dict(run.settings)},
            resume="allow",
            reinit="create_new",  # the members of a process have a run each
            settings=wandb.Settings(silent=True),
        )

    def write(self, update: int, metrics: Mapping[str, float]) -> None:
        """Logs one step. Steps that an earlier attempt has logged already are kept as they are by wandb."""
        self._run.log(dict(metrics), step=update)

    def close(self) -> None:
        """Ends the run, and waits until it is written or sent."""
        self._run.finish()
