"""What the commands of studies share: a quick look that compiles faster, and a study between lock and words."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from haepo_jax.reports.publishing import PublishedReport


def compile_quickly() -> None:
    """Has XLA optimise less; to be called before JAX is imported.

    Compiling is most of a quick look's time, and takes a third less of it so.
    """
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=1"


def do_study(workdir: Path, study: "Callable[[], PublishedReport]", count_finished: Callable[[Path], int]) -> None:
    """Does a study while its folder is held, and prints where its page is and what it found.

    Args:
      workdir: its folder.
      study: does what is missing of it.
      count_finished: counts the finished runs in the folder; see `hold_folder`.
    """
    from experiments.cli import closing  # takes seconds, and brings JAX
    from experiments.studies.study_folder import hold_folder

    started = time.monotonic()
    with hold_folder(workdir, count_finished):
        page, headline = study()
    closing.print_sentence(f"Written to {page}, after {(time.monotonic() - started) / 60:.1f} minutes.")
    closing.print_sentence(headline)
