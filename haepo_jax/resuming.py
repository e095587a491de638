"""Where an attempt at a run begins: at the newest good checkpoint, or at the first update."""

from pathlib import Path

from haepo_jax import processes
from haepo_jax.checkpointing import Checkpoint, Checkpointer, Tree


def newest_checkpoint(checkpointer: Checkpointer, template: Tree, *, first: int = 0) -> Checkpoint | None:
    """The newest good checkpoint; None when there is none. Says what was damaged.

    Args:
      checkpointer: of the folder.
      template: see `Checkpointer.restore`.
      first: the row of the saved arrays that becomes the first one.

    Raises:
      OSError: a damaged checkpoint could not be set aside.
    """
    found, damaged = checkpointer.restore(template, first=first)
    if processes.is_first():
        for update, reason in damaged:
            print(f"The checkpoint after update {update} is damaged ({reason}); it is set aside.")
        if damaged and found is None:
            print("No good checkpoint is left: starting again from the first update.")
    return found


def what_is_left(workdir: Path) -> str:
    """Says where the same command begins if the process ends now.

    Args:
      workdir: a run folder whose run is under way.
    """
    folders = [*workdir.glob("checkpoints/*"), *workdir.glob("checkpoints/*/*")]
    if any(folder.name.isdecimal() for folder in folders):  # others are not yet whole
        return "the same command resumes from the last checkpoint."
    return "there is no checkpoint yet, so the same command starts from the first update."
