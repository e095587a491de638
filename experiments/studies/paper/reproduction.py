"""The whole reproduction: every study in turn, then the page and the files that it is quoted from."""

from collections.abc import Mapping

from experiments.studies.claims import count_verdicts
from experiments.studies.paper import ablations, bandits, cartpole, deep_sea, gradients, references, sharpness, walk
from experiments.studies.paper.methods import PAPER_FORM, SETTINGS_OF_PAPER, SETTINGS_PER_METHOD
from experiments.studies.paper.scale import Scale
from experiments.studies.paper.tasks import CARTPOLE, WALK
from experiments.studies.paper.tuning import TUNING_SEED, Tuned
from experiments.studies.report_parts import describe_provenance, list_configs, make_tuning_table
from experiments.studies.runs import Runs
from haepo_jax.reports.formatting import name_bands
from haepo_jax.reports.page import Fairness, Report
from haepo_jax.reports.publishing import PublishedReport, publish
from haepo_jax.runs.files import StrPath

COMMAND = "python -m experiments.paper"
JUDGED = f"the paper's form ({PAPER_FORM})"


def reproduce(directory: StrPath, scale: Scale) -> PublishedReport:
    """Does what is missing of the studies, and writes `report.html`, `verdicts.json` and `figures/`.

    Args:
      directory: where everything goes. What an earlier call left there whole is kept.
      scale: how large the studies are.

    Returns:
      The page and its first paragraph.

    Raises:
      StorageError: the folder could not be written to any more.
      Interrupted: SIGTERM or SIGINT; called again, it resumes.
    """
    runs = Runs(directory, scale)
    poles = cartpole.run_study(runs)
    walks, walk_tuned = walk.run_study(runs, poles.recommended)
    games, bandit_tuned = bandits.run_study(runs, poles.recommended)
    seas, sea_tuned = deep_sea.run_study(runs, poles.recommended)
    parts = ablations.run_study(runs, poles.recommended, {CARTPOLE.name: poles.tuned, WALK.name: walk_tuned})
    rules = references.run_study(runs, poles.recommended, poles.tuned)
    noise = gradients.run_study(runs, poles.tuned)
    sections = (games, walks, poles.section, seas, parts, rules, noise, sharpness.run_study(runs))
    report = Report(
        title="HAEPO and its baselines on bandits, a random walk, CartPole and DeepSea",
        first_paragraph=f"{count_verdicts(sections, JUDGED)} {poles.headline}",
        sections=sections,
        configs=list_configs(runs, COMMAND),
        provenance=describe_provenance(runs),
        fairness=_describe_fairness(scale, (poles.tuned, walk_tuned, bandit_tuned, sea_tuned)),
        judged=JUDGED,
        quick=scale.quick,
    )
    return PublishedReport(publish(directory, report), report.first_paragraph)


def _describe_tuning(scale: Scale) -> str:
    if not scale.tuning_seeds:
        return "Nothing is tuned in this quick version: each method has the first of its settings."
    return (
        f"Each has the same number of settings to choose from, {SETTINGS_PER_METHOD}, but for the paper's form, which "
        f"has {SETTINGS_OF_PAPER}: all of the paper's range with three learning rates and two temperatures. What is "
        "tried for it beyond the others' number can only speak for it. Each setting is tried on "
        f"{scale.tuning_seeds} seeds counted from {TUNING_SEED}, which are never reported. The setting whose curve is "
        "best in the mean over learning is taken; on bandits, in the mean over the last tenth of the pulls. Bandits "
        f"are tuned with {scale.arms[-1]} arms and DeepSea at size {scale.deep_seas[0]}, and played elsewhere with "
        "the same settings."
    )


def _describe_fairness(scale: Scale, choices: tuple[Mapping[str, Tuned], ...]) -> Fairness:
    tables = []
    for tuned in choices if scale.tuning_seeds else ():
        task = next(iter(tuned.values())).task
        judged = "learning" if task.judged_share == 1 else f"its last {task.judged_share:.0%}"
        tables.append(
            make_tuning_table(
                tuned.values(),
                caption=f"{task.label}: every setting tried, by {task.metric.replace('_', ' ')}, mean over {judged}",
                score_label="score on tuning seeds",
                format_score="{:.4g}".format,
                larger=task.better > 0,
            )
        )
    return Fairness(
        paragraphs=(
            "Every method has the same network (two hidden layers of 64 tanh units; PPO's critic is another of "
            "the same shape), the same optimiser, and the same budget of environment steps on each task. "
            + _describe_tuning(scale),
            "Methods that learn from whole episodes take M = 16 of them an update (64 on bandits, as many pulls as "
            "PPO takes) and four gradient steps on each batch (REINFORCE and the paper's form one). PPO takes "
            "segments of the sizes that PPO codes ship, four epochs of four minibatches, and on CartPole also ten "
            "epochs, which makes it faster there.",
            f"Reported are {scale.seeds} seeds from 0 up, all seeds of a method in one compiled program; on bandits "
            f"{scale.instance_seeds} seeds on each of {scale.instances} bandits. Curves and tables give interquartile "
            f"means {name_bands(scale.seeds, '95% stratified bootstrap intervals')} unless they say otherwise.",
            "HAEPO got more attention than the others: its four epochs and the grid of its score log_ratio were set "
            "after several dozen settings had been tried on CartPole, on tuning seeds "
            "(docs/experiments/cartpole_race_settings.md). The grids of "
            "the others are from their literature, and the same care could well make those better too.",
            f"The verdicts are on {JUDGED}. That much is known of the paper's form. All else is ours: the learning "
            "rates, a temperature other than 1, the network, the optimiser and its clipping, 64 pulls an update on "
            "bandits, and the reference policy, which is that of one update before. The paper has two normalisations, "
            "z-scores for long horizons and rewards that are rare: its form with z-scores stands beside it on "
            "CartPole and on the walk, and is judged on DeepSea, where without the treasure every return is negative. "
            "The forms called sum, mean and log_ratio are ours: z-scored returns, four steps a batch, and betas that "
            "leave the paper's range.",
            "The recommended form has the score that did best on tuning seeds of CartPole, and z-scored returns.",
        ),
        tables=tables,
    )
