"""The blocks say what the numbers of record say, and on which form of the method a verdict is."""

from pathlib import Path

import pytest

from experiments.published import blocks
from haepo_jax.runs.json_files import read_json

ROOT = Path(__file__).parents[3]


@pytest.fixture
def results():
    return read_json(ROOT / "docs" / "results.json")


def row_of(text, name):
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {name} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.parametrize("block", [blocks.FIRST, blocks.CLAIMS])
def test_verdicts_are_quoted_with_the_form_that_they_are_on(results, block):
    results["paper"]["judged"] = "a form of its own"
    for claim in results["paper"]["claims"]:
        claim |= {"verdict": "contradicted", "recommended": "undecided"}
    text = blocks.blocks(results)[block]
    number = len(results["paper"]["claims"])
    assert f"on a form of its own: 0 reproduced, {number} contradicted; on the form recommended here: 0 " in text
    assert "the paper's form" not in text


def test_what_others_reach_stands_beside_a_config_with_their_environment_steps(results):
    results["elsewhere"]["Pendulum-v1"] = {
        "codes": [
            {"code": "A, PPO", "return": -172.2, "million_env_steps": 0.1, "source": "a"},
            {"code": "B, SAC", "return": -157.0, "million_env_steps": 0.02, "source": "b"},
        ]
    }
    rendered = blocks.blocks(results)
    assert "A, PPO -172.2 (0.1); B, SAC -157 (0.02)" in row_of(rendered[blocks.SHIPPED], "`pendulum`")
    assert "500 is the most there is" in row_of(rendered[blocks.SHIPPED], "`cartpole`")
    assert "| Pendulum-v1 | B, SAC | -157 | 0.02 | b |" in rendered[blocks.ELSEWHERE]


def test_a_config_on_an_environment_that_nobody_is_known_on_has_an_empty_cell(results):
    del results["elsewhere"]["Pendulum-v1"]
    assert "" in row_of(blocks.blocks(results)[blocks.SHIPPED], "`pendulum`")


@pytest.mark.parametrize(
    ("env", "code", "reached", "million_env_steps"),
    [
        ("Pendulum-v1", "RL Zoo, PPO", -172.2, 0.1),
        ("Pendulum-v1", "RL Zoo, SAC", -157.0, 0.02),
        ("Pendulum-v1", "gymnax, PPO or ES", -130.0, 1.0),
        ("Acrobot-v1", "RL Zoo, PPO", -73.5, 1.0),
        ("Acrobot-v1", "gymnax, PPO or ES", -80.0, 0.5),
        ("MountainCar-v0", "RL Zoo, PPO", -110.4, 1.0),
        ("MountainCar-v0", "gymnax, PPO or ES", -118.0, 0.25),
    ],
)
def test_the_strongest_references_are_named_with_their_environment_steps(
    results, env, code, reached, million_env_steps
):
    (other,) = [other for other in results["elsewhere"][env]["codes"] if other["code"] == code]
    assert (other["return"], other["million_env_steps"]) == (reached, million_env_steps)


def test_a_seed_has_its_share_of_the_environment_steps_of_all(results):
    results["shipped"]["pendulum"] |= {"million_env_steps": 122.9, "seeds": 16}
    assert row_of(blocks.blocks(results)[blocks.SHIPPED], "`pendulum`")[4:6] == ["122.9", "7.7"]


def test_the_readme_quotes_each_method_of_the_suite_with_its_one_setting(results):
    table = {
        "caption": "All methods over 3 tasks x 4 seeds",
        "columns": ["method", "one setting for all tasks", "tuned for each task"],
        "rows": [["HAEPO adaptive", "0.8 [0.7, 0.9]", "0.85"], ["PPO", "0.6 [0.5, 0.7]", "0.65"]],
        "note": "",
    }
    suite = results["paper"] | {"command": "python -m suite", "tables": dict.fromkeys(blocks._OF_SUITE, table)}
    text = blocks.blocks(results | {"suite": suite})[blocks.NUMBERS]
    assert "all methods over 3 tasks x 4 seeds, 0 random play" in text
    assert "interquartile mean HAEPO adaptive 0.8 [0.7, 0.9], PPO 0.6 [0.5, 0.7] | `python -m suite`" in text
    results.pop("suite", None)
    assert "One setting" not in blocks.blocks(results)[blocks.NUMBERS]


def test_sweeps_quote_population_based_training_once_it_was_published(results):
    results.pop("pbt", None)
    assert blocks.blocks(results)[blocks.PBT] == "There are no numbers of record yet.\n"
    study = results["paper"] | {"command": "python -m pbt", "headline": "PBT is ahead by 3."}
    assert "\nPBT is ahead by 3.\n\n| claim | verdict |\n" in blocks.blocks(results | {"pbt": study})[blocks.PBT]
