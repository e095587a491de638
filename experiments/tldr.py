"""Fine-tunes a language model, stage by stage, in one folder.

python -m experiments.tldr --config=tldr_generated --workdir=runs/tldr --stage=sft
python -m experiments.tldr --config=tldr_generated --workdir=runs/tldr --stage=reward
python -m experiments.tldr --config=tldr_generated --workdir=runs/tldr --stage=rl --config.algorithm=grpo
python -m experiments.tldr --config=tldr_generated --workdir=runs/tldr --stage=evaluate
python -m experiments.tldr --config=tldr_generated --workdir=runs/tldr --stage=memory
python -m experiments.tldr --config=tldr_generated --workdir=runs/tldr --stage=samples
"""

from experiments.cli import launch

if __name__ == "__main__":
    launch.start()  # before what takes seconds to import

from pathlib import Path

from absl import flags

from experiments.cli import command_line
from haepo_jax.errors import ConfigError
from haepo_jax.language.config import from_config_dict, settings, unread
from haepo_jax.runs.folder import lock_folder, refuse_run

STAGES = ("sft", "reward", "rl", "evaluate", "memory", "samples")

command_line.define_config(settings)
command_line.define_workdir()
command_line.define_loggers(of_members=False)
flags.DEFINE_enum("stage", None, STAGES, "What to do; each stage builds on those before it.")
flags.DEFINE_float(
    "checkpoint_seconds", 30.0, "Least seconds between two checkpoints; metrics are written with each.", lower_bound=0
)
flags.DEFINE_string(
    "topology",
    "",
    "For --stage=memory: a TPU topology to compile for too, such as v5e:2x2; needs jax[tpu], not a TPU.",
)


def main() -> int:
    """Runs the stage and prints its summary."""
    workdir = command_line.read_workdir()
    config = from_config_dict(command_line.read_config_values("tldr_generated"))
    stage = flags.FLAGS.stage
    if stage is None:
        raise ConfigError(f"--stage is missing: choose one of {', '.join(STAGES)}.")
    command_line.report_unread(config, unread(config))

    refuse_run(workdir, "a language model")

    from haepo_jax.language.stages import evaluation, stages, status

    if stage == "evaluate":
        evaluation.evaluate(config, workdir)
        print((workdir / "evaluation.json").read_text(encoding="utf-8"), end="")
        return 0
    if stage == "memory":
        from experiments.studies.tldr import reproduction

        with lock_folder(workdir):
            print(reproduction.report_memory(workdir, flags.FLAGS.topology))
        return 0
    if stage == "samples":
        _write_page(stages.find_folder("rl", config, workdir))
        return 0
    run = {"sft": stages.run_sft, "reward": stages.run_reward, "rl": stages.run_rl}[stage]
    folder = stages.find_folder(stage, config, workdir)
    done = run(config, workdir, checkpoint_seconds=flags.FLAGS.checkpoint_seconds, loggers=flags.FLAGS.loggers)
    update = status.find_divergence(folder)
    if done:
        print((folder / "summary.json").read_text(encoding="utf-8"), end="")
    elif update is None:
        print(f"{folder} is complete already; nothing to do.")
    else:
        print(f"{folder} diverged at update {update} already; nothing to do.")
    if stage == "rl" and (folder / "samples").is_dir():
        _write_page(folder)
    return 0 if update is None else command_line.ALL_DIVERGED


def _write_page(folder: Path) -> None:
    """Writes the page of the samples of a run."""
    from experiments.cli import closing
    from haepo_jax.reports.samples import write_samples_page

    with lock_folder(folder):
        closing.print_sentence(f"Written to {write_samples_page(folder)}.")


if __name__ == "__main__":
    command_line.run(main)
