"""Programs over several devices whose functions hold constants without elements: the compiler crashes on them."""

import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from haepo_jax.errors import ConfigError
from haepo_jax.population.empty_constants import with_empty_constants_inside


def run(script):
    """Runs it in a process of its own, as the crash would end the tests too."""
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"exit code {done.returncode}: {done.stderr[-2000:]}"
    return done.stdout


@pytest.mark.slow
def test_an_environment_that_writes_whole_arrays_runs_on_several_devices():
    out = run("""
        import jax, jax.numpy as jnp
        from haepo_jax.config import from_config_dict
        from haepo_jax.environments import Discrete, Environment
        from haepo_jax.environments.interface import Step
        from haepo_jax.population import make_population
        from haepo_jax.population.member import make_member

        jax.config.update("jax_disable_most_optimizations", True)

        def reset(params, key):
            return jnp.zeros(2), jnp.zeros(2)

        def step(params, key, state, action):
            state = state.at[:].set(state + 1)
            return Step(state, state, state[0], state[0] >= 3, state[0] >= 3, {})

        config = from_config_dict({"num_seeds": 4, "num_updates": 1, "num_trajectories": 2, "algorithm": "reinforce",
                                   "policy": {"hidden_sizes": (2,)}})
        environment = Environment("writer", (2,), Discrete(2), 5, {}, (), reset, step)
        population = make_population(
            config, devices=jax.devices()[:2], functions=make_member(config, environment=environment)
        )
        print(population.run([{}], range(4))["episode_return"].tolist())
    """)
    assert out == "[[[6.0], [6.0], [6.0], [6.0]]]\n"


def test_an_argument_or_result_without_elements_is_refused_before_compilation():
    inside = with_empty_constants_inside(lambda tree: {"kept": tree["x"][:0]})
    with pytest.raises(ConfigError, match=r"^\[0\]\[0\]\['x'\] of a program over devices has the shape \(3, 0\)"):
        inside({"x": jnp.zeros((3, 0))})
    with pytest.raises(ConfigError, match=r"^\[1\]\['kept'\] of a program over devices has the shape \(0, 2\)"):
        inside({"x": jnp.zeros((3, 2))})


def test_moving_empty_constants_inside_does_not_change_the_function():
    table, nothing = np.arange(6, dtype=np.float32).reshape(2, 3), np.zeros((0, 3), np.float32)

    def function(tree, keys):
        rows = jnp.concatenate([nothing, tree["rows"], jnp.asarray(table)])
        rows = jax.lax.fori_loop(0, 3, lambda i, rows: rows.at[:].add(i), rows)
        return {"rows": rows, "noise": (jax.vmap(jax.random.uniform)(keys), None)}

    args = {"rows": jnp.ones((1, 3))}, jax.random.split(jax.random.key(0), 4)
    expected, inside = function(*args), with_empty_constants_inside(function)
    for same in (inside, jax.jit(inside)):
        jax.tree.map(np.testing.assert_array_equal, expected, same(*args))
    assert inside.__name__ == "function"  # which names the compiled program
    assert not any(const.size == 0 for const in jax.make_jaxpr(inside)(*args).consts)
