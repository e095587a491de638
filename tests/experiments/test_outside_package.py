"""A package in a folder of its own, which ours knows nothing of, goes through all that a run goes through."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from helpers.run_folders import table

ROOT = Path(__file__).parents[2]
PACKAGE = {
    "garden/__init__.py": "",
    "garden/world.py": '''
        """A hare looks for the carrot in a garden of `side` x `side` beds; a step may slip."""

        import flax.struct
        import jax
        import jax.numpy as jnp
        from gymnax.environments import environment, spaces


        @flax.struct.dataclass
        class State(environment.EnvState):
            time: jax.Array
            hare: jax.Array
            carrot: jax.Array


        @flax.struct.dataclass
        class Params(environment.EnvParams):
            slip: float = 0.0
            max_steps_in_episode: int = 12


        class Garden(environment.Environment):
            info_metrics = ("found",)

            def __init__(self, side: int = 4):
                super().__init__()
                self.side = side

            @property
            def default_params(self):
                return Params()

            def reset_env(self, key, params):
                hare, carrot = jax.random.randint(key, (2, 2), 0, self.side)
                state = State(jnp.int32(0), hare, carrot)
                return self.get_obs(state), state

            def step_env(self, key, state, action, params):
                slips = jax.random.bernoulli(key, params.slip)
                way = jnp.array([[1, 0], [-1, 0], [0, 1], [0, -1]])[jnp.where(slips, 0, action)]
                hare = jnp.clip(state.hare + way, 0, self.side - 1)
                state = State(state.time + 1, hare, state.carrot)
                found = (hare == state.carrot).all()
                reward = found.astype(jnp.float32)
                return self.get_obs(state), state, reward, found, {"found": reward}

            def is_truncated(self, state, params):
                return state.time >= params.max_steps_in_episode

            def get_obs(self, state, params=None, key=None):
                image = jnp.zeros((self.side, self.side, 2))
                return image.at[(*state.hare, 0)].set(1).at[(*state.carrot, 1)].set(1)

            def observation_space(self, params):
                return spaces.Box(0, 1, (self.side, self.side, 2))

            def action_space(self, params=None):
                return spaces.Discrete(4)
        ''',
    "garden/eyes.py": '''
        import flax.linen as nn


        class Eyes(nn.Module):
            """Two small convolutions."""

            features: tuple = (4, 8)

            @nn.compact
            def __call__(self, images):
                x = images
                for size in self.features:
                    x = nn.relu(nn.Conv(size, (2, 2))(x))
                return x.reshape(*images.shape[:-3], -1)


        def kinked(x):
            return nn.leaky_relu(x, 0.3)
        ''',
    "garden/learning.py": '''
        import dataclasses

        import jax
        import jax.numpy as jnp
        import optax

        from haepo_jax.fields import number
        from haepo_jax.methods import EpochsConfig, Method, Sees


        @dataclasses.dataclass(frozen=True)
        class ImitationConfig(EpochsConfig):
            """Imitation of the better half."""

            sharpness: float = number(2.0, above=0.0)
            """Of the weights."""


        def objective(settings, group, reference):
            weights = jax.nn.softmax(settings.sharpness * group.returns)

            def loss(log_likelihoods):
                return -((weights - weights.mean()) * log_likelihoods).sum(), {"heaviest": weights.max()}

            return loss


        METHOD = Method(objective, Sees.SUMS, ImitationConfig(), metrics=("heaviest",))


        def by_length(log_likelihoods, group, *, power):
            return (log_likelihoods - group.behaviour_log_likelihoods) / group.lengths**power


        def momentum(*, decay):
            return optax.trace(decay)


        def stairs(step, num_steps, *, floor):
            return jnp.where(step < num_steps / 2, 1.0, floor)


        def hurry(steps, *, price):
            return steps.rewards - price


        def corners(steps):
            at = steps.observations[..., 0, 0, 0]
            return {"in_the_corner": jnp.mean(at, where=steps.mask)}
        ''',
    "train_config.py": """
        from haepo_jax.config import default_config


        def get_config():
            config = default_config()
            config.env = "garden.world:Garden"
            config.env_kwargs = {"side": 3}
            config.env_params = {"slip": 0.1}
            config.policy.network = "garden.eyes:Eyes"
            config.policy.network_kwargs = {"features": (3, 5)}
            config.algorithm = "garden.learning:METHOD"
            config.algorithm_kwargs = {
                "num_epochs": 2,
                "sharpness_schedule": "garden.learning:stairs",
                "sharpness_schedule_kwargs": {"floor": 0.5},
            }
            config.algorithm_params = {"sharpness": 3.0}
            config.optimizer.learning_rate = 0.03
            config.optimizer.transform = "garden.learning:momentum"
            config.optimizer.transform_params = {"decay": 0.8}
            config.optimizer.schedule = "garden.learning:stairs"
            config.optimizer.schedule_params = {"floor": 0.1}
            config.returns = "garden.learning:hurry"
            config.returns_params = {"price": 0.02}
            config.metrics = "garden.learning:corners"
            config.num_seeds = 2
            config.num_updates = 400
            config.num_trajectories = 8
            config.min_batch_steps = None
            return config
        """,
    "sweep_config.py": """
        import train_config


        def get_config():
            config = train_config.get_config()
            config.algorithm = "haepo"
            config.algorithm_kwargs, config.algorithm_params = {}, {}
            config.haepo.score = "garden.learning:by_length"
            config.haepo.score_params = {"power": 0.5}
            config.policy.activation = "garden.eyes:kinked"
            config.num_updates = 5
            config.sweep = {
                "haepo": {"score": ("log_ratio", "garden.learning:by_length")},
                "optimizer": {"transform_params": {"decay": (0.5, 0.9)}},
                "env_params": {"slip": (0.0, 0.2)},
            }
            return config
        """,
}


def start(command, *arguments, cwd, pythonpath=()):
    """A command as its user would call it in that folder; our package is installed, and theirs is not."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *map(str, pythonpath)])}
    environment["JAX_DISABLE_MOST_OPTIMIZATIONS"] = str(jax.config.read("jax_disable_most_optimizations"))
    return subprocess.Popen(
        [sys.executable, "-m", f"experiments.{command}", *map(str, arguments)],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(command, *arguments, cwd, pythonpath=(), code=0):
    process = start(command, *arguments, cwd=cwd, pythonpath=pythonpath)
    out, err = process.communicate(timeout=300)
    assert process.returncode == code, err
    return out if code == 0 else err


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    for name, text in PACKAGE.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(textwrap.dedent(text))
    return folder


@pytest.fixture(scope="module")
def trained(project, tmp_path_factory):
    """A run that was killed after its first checkpoint and then resumed, from another folder each time."""
    workdir, elsewhere = tmp_path_factory.mktemp("runs") / "killed", tmp_path_factory.mktemp("elsewhere")
    arguments = (f"--config={project / 'train_config.py'}", "--checkpoint_seconds=0", f"--workdir={workdir}")
    process = start("train", *arguments, cwd=project)
    end = time.monotonic() + 200
    while not list(workdir.glob("checkpoints/*/[0-9]*")) and time.monotonic() < end and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL and not (workdir / "summary.json").exists()
    run("train", *arguments, cwd=elsewhere)
    return workdir


@pytest.mark.slow
def test_nothing_of_the_package_is_named_in_ours():
    ours = "".join(path.read_text() for name in ("haepo_jax", "experiments") for path in (ROOT / name).rglob("*.py"))
    assert not any(word in ours for word in ("garden", "ImitationConfig", "by_length", "in_the_corner"))


@pytest.mark.slow
def test_a_killed_run_resumes_and_ends_as_an_undisturbed_one(project, trained, tmp_path):
    run("train", f"--config={project / 'train_config.py'}", f"--workdir={tmp_path / 'whole'}", cwd=project)
    left, right = table(trained), table(tmp_path / "whole")
    assert left.column_names == right.column_names and {"in_the_corner", "found", "heaviest"} <= set(left.column_names)
    sharpness = left["algorithm_params.sharpness_scheduled"].to_numpy().reshape(2, 400)
    np.testing.assert_array_equal(sharpness, np.repeat([[3.0, 1.5]], 200, axis=1).repeat(2, axis=0))
    for name in left.column_names:
        np.testing.assert_array_equal(left[name].to_numpy(), right[name].to_numpy(), err_msg=name)
    returns = left["episode_return"].to_numpy().reshape(2, 400)
    assert returns[:, -50:].mean() > returns[:, :50].mean() + 0.1


@pytest.mark.slow
def test_its_policies_are_evaluated_from_elsewhere_and_after_a_move_where_pythonpath_says_so(
    project, trained, tmp_path
):
    assert "garden.world:Garden after update 400" in run("evaluate", f"--workdir={trained}", "--episodes=4", cwd="/")
    moved = tmp_path / "moved"
    project.rename(moved)
    try:
        sentence = run("evaluate", f"--workdir={trained}", "--episodes=4", cwd="/", code=2)
        assert sentence.count("\n") == 1 and "cannot be imported: there is no module garden" in sentence
        run("evaluate", f"--workdir={trained}", "--episodes=4", cwd="/", pythonpath=[moved])
        world = moved / "garden" / "world.py"
        world.write_text(world.read_text() + "\n# a remark\n")
        said = run("evaluate", f"--workdir={trained}", "--episodes=4", cwd="/", pythonpath=[moved])
        assert "Since the run was begun config.env garden.world:Garden has changed (" in said
    finally:
        moved.rename(project)


@pytest.mark.slow
def test_its_settings_are_swept_in_few_programs_and_reported(project, tmp_path):
    workdir = tmp_path / "sweep"
    out = run("sweep", f"--config={project / 'sweep_config.py'}", f"--workdir={workdir}", cwd=project)
    assert "Group haepo.score=garden.learning:by_length: members 8 to 15 of 16." in out
    members = json.loads((workdir / "members.json").read_text())
    assert {member["settings"]["optimizer.transform_params.decay"] for member in members} == {0.5, 0.9}
    rows = table(workdir)
    final = rows["loss"].to_numpy().reshape(16, 5)[:, -1]
    assert len(set(final.tolist())) == 16  # every setting and every seed has a loss of its own
    run("report", f"--workdir={workdir}", cwd="/")
    page = (workdir / "report.html").read_text()
    assert "transform_params.decay" in page and "garden.learning:by_length" in page
    assert "garden.world:Garden after update 5" in run("evaluate", f"--workdir={workdir}", "--episodes=2", cwd="/")


@pytest.mark.slow
def test_an_argument_that_the_package_does_not_have_is_one_sentence(project, tmp_path):
    for flag, sentence in (
        (
            "optimizer.transform_params.decai=0.5",
            "transform_params.decai is not an argument of momentum; did you mean",
        ),
        ("algorithm_params.sharpnes=0.5", "did you mean sharpness?"),
        ("env_kwargs.sides=3", "config.env_kwargs.sides is not an argument of Garden; did you mean side?"),
        ("policy.network=garden.eyes:Eye", "eyes.py) has no Eye; did you mean Eyes?"),
    ):
        workdir = tmp_path / "refused"
        said = run(
            *("train", f"--config={project / 'train_config.py'}", f"--config.{flag}", f"--workdir={workdir}"),
            cwd=project,
            code=2,
        )
        assert said.count("\n") == 1 and sentence in said and not workdir.exists(), said
