"""An environment's id may hold anything: no page runs it, no terminal obeys it, no figure takes it for a formula."""

import pytest
from helpers.command_runner import run

NAME = "<script>alert('1')</script>\x1b[2J\r\n\u202e\"$x^$[red]-v0"
CONFIG = f"""
import gymnax
from haepo_jax.config import default_config
from haepo_jax.environments.random_walk import RandomWalk
from haepo_jax.config.sweep import with_search

NAME = {NAME!r}


def get_config():
    if NAME not in gymnax.registered_envs:
        gymnax.register(NAME, RandomWalk)
    config = default_config()
    config.env, config.num_seeds, config.num_updates, config.num_trajectories = NAME, 2, 2, 4
    config.horizon, config.policy.hidden_sizes = 1000, (4,)
    return config
"""
SWEPT = """
    config = with_search(config)
    config.sweep = {"haepo": {"entropy_coef": (0.0, 0.1)}}
    return config
"""


def assert_quiet(text):
    assert "\x1b" not in text and "\r" not in text and "\u202e" not in text


@pytest.mark.slow
def test_a_run_of_such_an_environment_shows_it_and_obeys_nothing(tmp_path):
    (tmp_path / "odd.py").write_text(CONFIG)
    arguments = (f"--config={tmp_path / 'odd.py'}", f"--workdir={tmp_path / 'run'}")
    finished = run("experiments.train", *arguments)
    assert finished.code == 0, finished.err
    assert_quiet(finished.out + finished.err)
    assert "alert('1')" in finished.out and "$x^$[red]" in finished.out
    assert "ends its episodes after 500 steps; config.horizon 1000 has no effect." in finished.out
    assert list((tmp_path / "run").glob("*.png"))

    (tmp_path / "sweep.py").write_text(CONFIG.replace("\n    return config\n", SWEPT))
    folder = tmp_path / "sweep"
    swept = run("experiments.sweep", f"--config={tmp_path / 'sweep.py'}", f"--workdir={folder}")
    reported = run("experiments.report", f"--workdir={folder}")
    assert swept.code == reported.code == 0, swept.err + reported.err
    assert_quiet(swept.out + swept.err + reported.out + reported.err)
    page = (folder / "report.html").read_text()
    assert "<script>alert" not in page and "alert(" in page
    assert_quiet(page)

    refused = run("experiments.train", *arguments, "--config.env_params.slipp=0.1")
    assert refused.code == 2 and refused.err.count("\n") == 1
    assert_quiet(refused.err)
