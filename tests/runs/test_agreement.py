"""What processes compare, here by what each would say."""

import jax
import numpy as np
import pytest

import haepo_jax
from haepo_jax.config.sweep import from_values
from haepo_jax.errors import ConfigError
from haepo_jax.runs import agreement
from haepo_jax.runtime import processes

BASE = {"num_seeds": 2, "sweep": {"haepo": {"entropy_coef": (0.0, 0.1)}}}


def facts(**changes):
    return agreement._collect_facts(from_values(BASE | changes), {"members_per_device": None})


def test_a_difference_names_the_values_and_who_has_them():
    assert agreement.find_differences([{"a": "1", "b": "2"}, {"a": "1", "b": "3"}, {"a": "1", "b": "2"}]) == [
        "b is 2 on processes 0, 2, 3 on process 1"
    ]


def test_a_value_that_one_has_not_is_a_difference():
    assert agreement.find_differences([{"a": "1"}, {}]) == ["a is 1 on process 0, not there on process 1"]


def test_a_long_value_is_cut():
    (difference,) = agreement.find_differences([{"a": "x" * 1000}, {"a": "y"}])
    assert len(difference) < 120


def test_equal_processes_have_no_difference():
    assert agreement.find_differences([facts(), facts()]) == []


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"seed": 5}, ["config.seed"]),
        ({"optimizer": {"learning_rate": 0.5}}, ["config.optimizer.learning_rate"]),
        ({"haepo": {"score": "mean", "temperature": 0.7}}, ["config.haepo.score", "config.haepo.temperature"]),
        ({"sweep": {"haepo": {"entropy_coef": (0.0, 0.2)}}}, ["config.sweep.haepo.entropy_coef"]),
        ({"num_updates": 7, "num_seeds": 3}, ["config.num_seeds", "config.num_updates"]),
        ({"env": "Catch-bsuite"}, ["config.env"]),
        ({"env_params": {"gravity": 9.0}}, ["config.env_params", "config.env_params.gravity"]),
    ],
)
def test_the_fields_of_the_config_that_differ_are_named(changes, names):
    found = agreement.find_differences([facts(), facts(**changes)])
    assert [text.split(" is ")[0] for text in found] == names


def test_members_that_differ_though_the_config_does_not_are_a_difference():
    sweep = from_values(BASE)
    (group,) = sweep.groups
    other = sweep._replace(groups=(group._replace(members=group.members[:-1]),))
    (difference,) = agreement.find_differences(
        [agreement._collect_facts(sweep, {}), agreement._collect_facts(other, {})]
    )
    assert difference.startswith("members is ")


def test_flags_versions_and_code_are_compared(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")
    own = facts()
    monkeypatch.setattr(agreement, "list_package_versions", lambda: {"jax": "0.1"})
    monkeypatch.setattr(agreement, "_digest_code", lambda: "other")
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true --xla_force_host_platform_device_count=7")
    with jax.numpy_dtype_promotion("strict"), jax.default_matmul_precision("highest"):
        other = facts()
    found = " ".join(agreement.find_differences([own, other]))
    for name in (
        *("the version of jax is", "the code of haepo_jax is", 'XLA_FLAGS is "" on', "JAX_NUMPY_DTYPE_PROMOTION is"),
        "JAX_DEFAULT_MATMUL_PRECISION is",
    ):
        assert name in found, found
    assert "device_count" not in found


@pytest.fixture
def two(monkeypatch):
    """This process and another one, which says what `answers` holds."""
    answers = {}
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(processes, "gathered", lambda values: np.stack([values, answers.get("gathered", values)]))
    monkeypatch.setattr(processes, "from_first", lambda values: values)
    monkeypatch.setattr(processes, "texts", lambda own: [own, answers["text"]])
    return answers


def test_processes_that_differ_are_refused_and_others_not(two):
    sweep = from_values(BASE)
    agreement.check(sweep, {"dry_run": False})
    two["gathered"] = np.zeros(32, np.uint8)
    two["text"] = '{"config.seed": "9"}'
    with pytest.raises(ConfigError, match=r"The processes of this run differ: .*, and \d+ more\. Start all with"):
        agreement.check(sweep, {"dry_run": False})


def test_a_folder_that_all_see_holds_nothing_of_the_comparison(two, tmp_path):
    with agreement.one_folder(tmp_path / "run"):
        assert list((tmp_path / "run").iterdir()) == []


def test_a_folder_that_another_does_not_see_is_refused_and_not_left_behind(two, tmp_path):
    two["gathered"] = np.array(False)
    sentence = "is another folder on process 1 than on process 0"
    with pytest.raises(ConfigError, match=sentence), agreement.one_folder(tmp_path / "runs" / "one"):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("made", "left"), [([], []), (["config.json"], ["run"])])
def test_a_run_that_is_refused_leaves_no_folder_unless_something_is_in_it(two, tmp_path, made, left):
    def refuse():
        for name in made:
            (tmp_path / "run" / name).touch()
        raise ConfigError("why")

    with pytest.raises(ConfigError, match="why"), agreement.one_folder(tmp_path / "run"):
        refuse()
    assert [path.name for path in tmp_path.iterdir()] == left


def test_a_folder_that_cannot_be_made_is_left_to_the_one_who_opens_it(two, tmp_path):
    (tmp_path / "file").write_text("")
    with agreement.one_folder(tmp_path / "file" / "run"):
        pass


def test_the_code_that_is_compared_is_that_of_the_whole_package(tmp_path, monkeypatch):
    (tmp_path / "losses").mkdir()
    (tmp_path / "losses" / "haepo.py").write_text("one")
    monkeypatch.setattr(haepo_jax, "__file__", str(tmp_path / "__init__.py"))
    before = agreement._digest_code.__wrapped__()
    (tmp_path / "losses" / "haepo.py").write_text("other")
    assert agreement._digest_code.__wrapped__() != before
