"""Where an attempt at a run begins: at the newest good checkpoint, or at the first update."""

from haepo_jax.checkpointing import Checkpoint, Checkpointer
from haepo_jax.recording import MetricsWriter
from haepo_jax.run_folder import Provenance


def starting_point(
    fresh: Checkpoint, checkpointer: Checkpointer, writer: MetricsWriter, provenance: Provenance, total: int
) -> Checkpoint:
    """The newest good checkpoint, or `fresh`; nothing of what comes after it stays in the folder.

    Says what was damaged and where the run goes on.

    Args:
      fresh: the run before its first update.
      checkpointer: of its folder.
      writer: of its metrics, which drops those behind the checkpoint.
      provenance: of this attempt, which notes where it began.
      total: updates of the whole run.

    Raises:
      OSError: the folder could not be written to.
    """
    found, damaged = checkpointer.restore(fresh)
    for update, reason in damaged:
        print(f"The checkpoint after update {update} is damaged ({reason}); it is set aside.")
    if damaged and found is None:
        print("No good checkpoint is left: starting again from the first update.")
    start = fresh if found is None else found
    updates_done = int(start.state.updates_done[0])
    writer.drop_from(updates_done)
    if updates_done:
        print(f"Going on after update {updates_done} of {total}.")
    provenance.update(resumed_after_update=updates_done)
    return start
