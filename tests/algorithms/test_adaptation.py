"""Methods that set some of their settings while they learn: the state that learners keep, and what it changes."""

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.devices import some_devices
from helpers.run_folders import TINY, assert_same_end, checkpoints, table
from helpers.settings import add_fixed, fixed_config
from helpers.tolerances import assert_close
from helpers.updates import arrays_of, assert_identical, distance

from haepo_jax.config import traced_settings
from haepo_jax.config.sweep import from_values
from haepo_jax.errors import ConfigError
from haepo_jax.population import make_population
from haepo_jax.population.member import make_member
from haepo_jax.runs.experiment import run_sweep
from haepo_jax.runs.states import load_states

OWN = "helpers.own_methods"


def config_of(adapt, **changes):
    """CartPole with strong pushes, so that episodes have several lengths."""
    own = {"adapt": adapt, "num_epochs": 3, "entropy_coef": 0.3, "kl_coef": 0.2} | changes.pop("haepo", {})
    basic = {
        "env_params": {"force_mag": 40.0},
        "num_trajectories": 4,
        "horizon": 8,
        "num_updates": 4,
        "policy": {"hidden_sizes": (8,)},
        "optimizer": {"learning_rate": 0.05},
        "haepo": own,
    }
    return fixed_config(basic | changes)


PROGRAMS = {}


def train(config, updates=3, **settings):
    """The state after these updates, and the metrics of each; configs that are alike share a program."""
    if repr(config) not in PROGRAMS:
        functions = make_member(config)
        PROGRAMS[repr(config)] = (
            functions.init,
            jax.jit(lambda state: functions.learn(state, functions.collect(state))),
        )
    init, update = PROGRAMS[repr(config)]
    state, history = init(jax.random.key(0), arrays_of(traced_settings(config) | settings)), []
    for _ in range(updates):
        state, metrics = update(state)
        history.append(metrics)
    return state, history


@pytest.mark.parametrize("adapt", [pytest.param("dual", marks=pytest.mark.slow), "meta"])
def test_weights_begin_at_the_coefficients_and_move_with_each_batch(adapt):
    _, (first, _, third) = train(config_of(adapt))
    assert (first["entropy_weight"], first["kl_weight"]) == (pytest.approx(0.3), pytest.approx(0.2))
    moved = np.log([third["entropy_weight"] / 0.3, third["kl_weight"] / 0.2])
    assert (np.abs(moved) > 1e-6).all() and (np.abs(moved) < 2 * 0.1 + 1e-5).all()


@pytest.mark.slow
@pytest.mark.parametrize("adapt", ["dual", "meta"])
def test_a_learning_rate_of_almost_nothing_is_fixed(adapt):
    still = train(config_of(adapt), **{f"haepo.{adapt}_learning_rate": 1e-12})
    fixed = train(config_of("fixed"))
    assert_close(still[0].learner.params, fixed[0].learner.params, rtol=1e-5)
    moving = train(config_of(adapt), **{f"haepo.{adapt}_learning_rate": 1.0})
    assert distance(moving[0].learner.params, fixed[0].learner.params) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("adapt", ["dual", "meta"])
def test_every_memory_gives_the_same_adaptation(adapt):
    states = [train(config_of(adapt, memory=memory))[0] for memory in ("store", "remat", "recompute")]
    for other in states[1:]:
        assert_close(other.learner.params, states[0].learner.params, rtol=1e-3, atol=1e-5)
        assert_close(other.learner.adaptation, states[0].learner.adaptation, rtol=1e-3, atol=1e-5)


def test_an_outside_method_may_adapt_too():
    config = config_of("fixed", algorithm=f"{OWN}:FADING", haepo={})
    state, history = train(config)
    assert state.learner.adaptation == 0.125 and [row["weight"] for row in history] == [1, 0.5, 0.25]
    fixed, _ = train(dataclasses.replace(config, algorithm_kwargs={**config.algorithm_kwargs, "kind": "plain"}), 1)
    assert fixed.learner.adaptation is None


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("FADES_TO_NOTHING", "has an adaptation that gives 3; it must give an Adaptation, or None."),
        ("OTHER_STATE", "makes a state of its adaptation with .* where those of the state before have"),
        ("OTHER_SETTINGS", "adapts its settings to 1.0; they must stay what they are."),
        ("FAILING_STATE", "fails at line .*own_methods.py: ZeroDivisionError: "),
    ],
)
def test_a_slip_in_an_adaptation_is_one_sentence_that_names_the_method(name, sentence):
    with pytest.raises(ConfigError, match=f"^config.algorithm {OWN}:{name} {sentence}"):
        train(config_of("fixed", algorithm=f"{OWN}:{name}", haepo={}), 1)


def test_a_member_whose_adaptation_is_no_longer_finite_is_frozen():
    state, _ = train(config_of("fixed", algorithm=f"{OWN}:UNBOUNDED", haepo={}), 2)
    assert state.diverged and state.diverged_at == 0 and state.learner.adaptation == 1


SETTINGS = TINY | {
    "num_updates": 5,
    "haepo": {"num_epochs": 2, "entropy_coef": 0.1, "kl_coef": 0.1, "dual_learning_rate": 0.3},
}
SWEPT = {"haepo": {"target_effective_sample_size": (0.3, 0.8)}}


@pytest.fixture(scope="module", params=[pytest.param(name, marks=pytest.mark.slow) for name in ("dual", "meta")])
def finished(request, tmp_path_factory):
    """A run with the states of all its updates."""
    sweep = SWEPT if request.param == "dual" else {"haepo": {"meta_learning_rate": (0.1, 0.5)}}
    settings = add_fixed(SETTINGS | {"haepo": SETTINGS["haepo"] | {"adapt": request.param}, "sweep": sweep})
    workdir = tmp_path_factory.mktemp("run") / "run"
    run_sweep(from_values(add_fixed(settings)), workdir, checkpoint_seconds=0, keep_checkpoints_every=1)
    return settings, workdir


def test_a_run_that_resumes_from_an_earlier_checkpoint_moves_its_weights_as_if_never_stopped(finished, tmp_path):
    settings, whole = finished
    workdir = shutil.copytree(whole, tmp_path / "run")
    (workdir / "summary.json").unlink()
    for path in workdir.glob("checkpoints/members-*/*"):
        if int(path.name) > 2:
            shutil.rmtree(path)
    run_sweep(from_values(add_fixed(settings)), workdir)
    assert max(checkpoints(workdir)) == 5
    assert_same_end(whole, workdir)
    [(population, state, _)] = load_states(workdir)
    assert len(set(population.here(jax.tree.leaves(state.learner.adaptation)[0]).tolist())) > 1


def test_the_weights_of_each_member_follow_its_own_settings(finished):
    rows = table(finished[1])
    weights = rows["entropy_weight"].to_numpy().reshape(4, 5)
    np.testing.assert_allclose(weights[:, 0], 0.1, rtol=1e-6)
    assert not np.allclose(weights[0], weights[2])


@pytest.mark.slow
def test_meta_brings_a_weight_that_is_far_too_large_down_and_learns_faster_for_it():
    """On a bandit of 32 seeds, from weights of 2 and 2 where 0.01 and 0.01 learns fastest."""
    regret = {}
    for adapt in ("fixed", "meta"):
        settings = {
            "env": "GaussianBandit-haepo",
            "num_updates": 100,
            "policy": {"hidden_sizes": (8,)},
            "optimizer": {"learning_rate": 0.01},
            "haepo": {"adapt": adapt, "entropy_coef": 2.0, "kl_coef": 2.0},
        }
        trained = make_population(fixed_config(settings)).run([{}], range(32))
        regret[adapt] = trained["regret"][0].mean(axis=-1)
    gain = regret["fixed"] - regret["meta"]
    assert gain.mean() > 3 * gain.std(ddof=1) / np.sqrt(32)
    assert (trained["entropy_weight"][0, :, -1] < 1.5).mean() > 0.9


@pytest.mark.slow
@pytest.mark.parametrize(
    "layout", [{"num_devices": 2, "members_per_device": 2}, {"num_devices": 4, "trajectory_devices": 2}]
)
@pytest.mark.parametrize("adapt", ["ess", "dual", "meta"])
def test_devices_that_share_members_or_trajectories_give_the_numbers_of_one(adapt, layout):
    # Without Adam, which makes steps of the rounding of a gradient that is 0.
    plain = {"transform": "optax:identity", "learning_rate": 0.3}
    # No whole number of episodes: where just as many tie for the best, rounding decides how small b is.
    rho = {"target_effective_sample_size": 0.6}
    config = config_of(adapt, num_seeds=4, optimizer=plain, haepo=rho)
    alone = make_population(config, devices=jax.devices()[:1])
    shared = {name: value for name, value in layout.items() if name != "num_devices"}
    other = make_population(config, devices=some_devices(layout["num_devices"]), **shared)
    (state, _), (expected, _) = (each.advance(each.init(), jnp.int32(3)) for each in (other, alone))
    assert_close(other.to_host(state).learner, alone.to_host(expected).learner, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("adapt", ["ess", "dual", "meta"])
def test_the_same_seed_gives_the_same_bits(adapt):
    first, _ = train(config_of(adapt))
    PROGRAMS.clear()
    assert_identical(first.learner, train(config_of(adapt))[0].learner)
