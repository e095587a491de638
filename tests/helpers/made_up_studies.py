"""Stories of studies: runs that nobody trained, whose numbers decide what a study has to say."""

import dataclasses
import json
import zlib

import numpy as np
import pytest
from helpers.made_up_runs import SMALL, UPDATES, Trainer

from experiments.studies import runs as study_runs
from experiments.studies.paper import bandits, sharpness
from experiments.studies.paper import gradients as gradient_study
from experiments.studies.paper.reproduction import reproduce
from experiments.studies.paper.tuning import TUNING_SEED
from haepo_jax.reports import figures
from haepo_jax.reports.page import Figure

GOALS = {"CartPole-v1": 500.0, "RandomWalk-haepo": 1.0, "DeepSea-bsuite": 0.99}
INSTANCE = "env_params.instance"
QUICK_SMALL = dataclasses.replace(SMALL, quick=True, tuning_seeds=0, arms=(3,), bernoulli=False, deep_seas=(4,))
PROGRESS = np.linspace(0, 1, UPDATES)


def learn(config, member, *, speed, level=1.0, wobble=0.01):
    """Rises to its level within a share `1 / speed` of the run, a little differently for every seed."""
    words = f"{config.algorithm} {config.env} {config.haepo.score} {member.seed} {member.settings.get(INSTANCE)}"
    noise = wobble * np.random.default_rng(zlib.crc32(words.encode())).uniform(size=UPDATES)
    share = np.minimum(PROGRESS * speed, 1.0) * level
    if "Bandit" in config.env:
        return 1 - share + noise
    return GOALS[config.env] * share * (1 - noise)


def is_papers_form(config):
    """Whether a run is of HAEPO in the form that the claims are judged by."""
    haepo = config.haepo
    return config.algorithm == "haepo" and (haepo.score, haepo.normalization, haepo.num_epochs) == ("sum", "sum", 1)


def haepo_first(config, member):
    """The paper's score learns fastest, then the other two, then all others; without KL term it hardly learns."""
    if config.algorithm != "haepo":
        levels = {"CartPole-v1": 1.0, "RandomWalk-haepo": 0.9, "DeepSea-bsuite": 0.3}
        return learn(config, member, speed=1.5, level=levels.get(config.env, 0.8), wobble=0.04)
    level = 0.5 if member.settings.get("haepo.kl_coef") == 0.0 else 1.0
    return learn(config, member, speed={"sum": 8.0, "mean": 6.0, "log_ratio": 5.0}[config.haepo.score], level=level)


def paper_form_never(config, member):
    """HAEPO in the paper's form hardly ever learns, its score in other forms fastest."""
    if config.algorithm == "haepo":
        return learn(config, member, speed=8.0, level=0.1 if is_papers_form(config) else 1.0)
    return learn(config, member, speed=1.5, level=0.3 if "Sea" in config.env else 0.97)


def recommended_first(config, member):
    """The score log_ratio learns fastest, the other two hardly ever."""
    if config.algorithm == "haepo":
        return learn(config, member, speed=8.0, level=1.0 if config.haepo.score == "log_ratio" else 0.1)
    return learn(config, member, speed=1.5, level=0.3 if "Sea" in config.env else 0.97)


def haepo_never(config, member):
    """HAEPO does not get there, PPO does in half of its seeds, all others do."""
    if config.algorithm == "haepo":
        return learn(config, member, speed=1.0, level=0.3)
    lost = config.algorithm == "ppo" and member.seed % 2 == 1
    return learn(config, member, speed=3.0, level=0.2 if lost else 1.0)


def some_diverge(config, member):
    """The first seed of every run diverges, some at once."""
    values = learn(config, member, speed=3.0)
    if member.seed not in (0, TUNING_SEED):
        return values
    return values[: 1 if config.algorithm == "dpo" else 5]


def all_equal(config, member):
    """Not a bit of difference anywhere."""
    return np.zeros(UPDATES)


STORIES = (haepo_first, recommended_first, haepo_never, some_diverge, all_equal)


class MadeStudy:
    """What a study wrote."""

    def __init__(self, folder, trainer):
        self.folder = folder
        self.configs = trainer.configs
        self.verdicts = json.loads((folder / "verdicts.json").read_text())
        self.tables = json.loads((folder / "tables.json").read_text())
        self.page = (folder / "report.html").read_text()

    def claim(self, words):
        (found,) = [claim for claim in self.verdicts["claims"] if words in claim["text"]]
        return found


class MadeReport(MadeStudy):
    """What a reproduction wrote."""

    def words(self, words):
        """The verdicts on a claim: on the paper's form and on the recommended one."""
        claim = self.claim(words)
        return claim["verdict"], claim["recommended"]


def without_training(patch, story, folder):
    """Makes the studies use made-up numbers for all that takes long."""
    trainer = Trainer(story, folder)
    patch.setattr(study_runs, "run_sweep", trainer)
    patch.setattr(bandits, "measure_regrets", made_up_regrets)
    patch.setattr(gradient_study, "train_actor_critic", lambda config, updates: [None] * len(updates))
    patch.setattr(gradient_study, "measure_batch_gradients", made_up_gradients)
    patch.setattr(gradient_study, "measure_sample_sizes", made_up_sizes)
    patch.setattr(sharpness, "measure_target_sizes", made_up_target_sizes)
    return trainer


def made_up_regrets(env, rule, *, num_arms, pulls, instances, seeds):
    falling = 1 / np.sqrt(1 + np.arange(pulls))
    return np.broadcast_to(falling, (len(instances), seeds, pulls))


def made_up_gradients(config, points, *, batches):
    signal = 3.0 if config.algorithm == "haepo" else 0.3
    slopes = signal + np.random.default_rng(len(config.algorithm)).normal(size=(batches, 6))
    return [(slopes, 100.0) for _ in points]


def made_up_sizes(config, *, sharpness, horizons, groups):
    falling = np.broadcast_to(16 / (1 + 0.01 * sharpness * np.log(horizons)), (groups, len(horizons)))
    return {"sum": falling, "mean": falling, "log_ratio": falling, "step_std": np.full(groups, 0.1)}


def made_up_target_sizes(config, *, normalization, temperatures, groups, varied=""):
    """Wider under `sum`, where no batch of the walk has a target."""
    sizes = np.full((groups, len(temperatures)), 1.0 if normalization == "zscore" else 4.0)
    return sizes * np.nan if normalization == "sum" and "Walk" in config.env else sizes


def not_drawn(draw, *arguments, alt, caption, **options):
    return Figure(b"<svg/>", alt, caption)


def make_report(story, folder, scale=SMALL, *, drawn=False):
    with pytest.MonkeyPatch.context() as patch:
        trainer = without_training(patch, story, folder)
        if not drawn:
            patch.setattr(figures, "responsive", not_drawn)
        published = reproduce(folder / "w", scale)
    assert published.page == folder / "w" / "report.html"
    assert published.headline == json.loads((folder / "w" / "verdicts.json").read_text())["headline"]
    return MadeReport(folder / "w", trainer)
