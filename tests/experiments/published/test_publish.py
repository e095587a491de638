"""Results of a study, a benchmark or a run reach the file, the documents and the figures; the rest stays as it was."""

import shutil

import pytest
from helpers import made_up_agents
from helpers.made_up_segments import ONE_GAME, make_study
from helpers.made_up_suites import ONE_TASK, make_suite
from helpers.quotable_folders import write_benchmark, write_language, write_project, write_race, write_study

from experiments.published.documents import fill
from experiments.published.publish import publish
from haepo_jax.errors import ConfigError
from haepo_jax.runs.folder import write_json
from haepo_jax.runs.json_files import read_json


def texts(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def project(tmp_path):
    return write_project(tmp_path / "project")


def test_without_folders_nothing_changes(project):
    before = texts(project)
    assert publish(project, {}) == []
    assert texts(project) == before


def test_a_number_that_was_changed_by_hand_in_a_document_is_written_again(project):
    readme = project / "README.md"
    right = readme.read_text()
    readme.write_text(right.replace("499.9", "500.0", 1))
    assert publish(project, {}) == [readme]
    assert readme.read_text() == right


def test_a_study_brings_its_files_its_figures_and_its_numbers(project, tmp_path):
    study = write_study(tmp_path / "study", "paper", headline="All is new.")
    changed = {path.relative_to(project).as_posix() for path in publish(project, {"paper": study})}
    paper = {"verdicts.json", "report.json", "bandits.svg", "cartpole_returns.svg", "cartpole_steps_to_475.svg"}
    assert changed == {"docs/results.json", "docs/results.md"} | {f"docs/paper/{name}" for name in paper}
    assert "All is new." in (project / "docs" / "results.md").read_text()
    assert (project / "docs" / "paper" / "cartpole_steps_to_475.svg").read_text() == "cartpole 2"


def test_a_benchmark_and_a_race_replace_their_entries_alone(project, tmp_path):
    before = read_json(project / "docs" / "results.json")
    folders = {
        "benchmark": write_benchmark(tmp_path / "b", with_peer=False),
        "race": write_race(tmp_path / "r"),
    }
    publish(project, folders)
    after = read_json(project / "docs" / "results.json")
    assert after["race"]["rows"][1]["code"] == "Slow" and after["race"]["command"] == before["race"]["command"]
    assert [row["seeds"] for row in after["speed"]["rows"]] == [32]
    assert {name for name in after if after[name] != before[name]} == {"speed", "race"}
    assert "Slow 40.0 s" in (project / "README.md").read_text()


GPU = {"platform": "gpu", "devices": 1, "device_kind": "NVIDIA H100 80GB HBM3", "jax": "0.11.2"}


def test_the_benchmark_of_another_kind_of_device_stands_beside_that_of_cpus_and_replaces_its_own(project, tmp_path):
    before = read_json(project / "docs" / "results.json")
    pages = project / "docs" / "performance.md"
    publish(project, {"benchmark": write_benchmark(tmp_path / "one", with_peer=True, machine=GPU)})
    after = read_json(project / "docs" / "results.json")
    assert after["speed"] == before["speed"] and after["peers"] == before["peers"]
    assert [row["seeds"] for row in after["accelerators"]["1 x NVIDIA H100 80GB HBM3"]["speed"]["rows"]] == [32]
    once = pages.read_text()
    assert once.count("1 x NVIDIA H100 80GB HBM3") == 2 and "| Other | 0.4 |" in once
    publish(project, {"benchmark": write_benchmark(tmp_path / "two", with_peer=False, machine=GPU)})
    assert pages.read_text().count("1 x NVIDIA H100 80GB HBM3") == 1
    other = GPU | {"device_kind": "TPU v5 lite", "platform": "tpu"}
    publish(project, {"benchmark": write_benchmark(tmp_path / "three", with_peer=False, machine=other)})
    assert all(f"1 x {kind}" in pages.read_text() for kind in ("NVIDIA H100 80GB HBM3", "TPU v5 lite"))


def test_rates_of_language_models_have_a_table_for_each_kind_of_device(project, tmp_path):
    for name, machine in (("a", GPU), ("b", GPU | {"device_kind": "TPU v5 lite"})):
        publish(project, {"language": write_language(tmp_path / name, machine=machine)})
    text = (project / "docs" / "performance.md").read_text()
    assert text.count("| 40M | scoring | 64 x 512 | bfloat16 | 318,000 | 23.4% |") == 2
    assert "| 0.6B | learning | 64 x 512 | bfloat16 | does not fit | |" in text
    assert "Square products reach 790,400 GFLOP/s" in text


@pytest.mark.parametrize("name", ["paper", "tldr"])
def test_a_quick_study_changes_nothing(name, project, tmp_path):
    before = texts(project)
    with pytest.raises(ConfigError, match="quick run"):
        publish(project, {name: write_study(tmp_path / "study", name, quick=True)})
    assert texts(project) == before


def test_a_study_without_a_figure_that_is_shown_changes_nothing(project, tmp_path):
    study, before = write_study(tmp_path / "study", "tldr"), texts(project)
    (study / "figures" / "memory-1.svg").unlink()
    with pytest.raises(ConfigError, match=r"memory-1.svg, which the documents show, cannot be read: No such file"):
        publish(project, {"paper": write_study(tmp_path / "paper", "paper", headline="New."), "tldr": study})
    assert texts(project) == before


def test_a_folder_without_runs_of_shipped_configs_is_refused(project, tmp_path):
    with pytest.raises(ConfigError, match="holds no run that is named after a shipped config, such as cartpole"):
        publish(project, {"runs": tmp_path})


def test_an_unknown_block_is_refused_with_the_one_that_is_nearest():
    with pytest.raises(ConfigError, match=r"There is no block 'shiped'; did you mean shipped\?"):
        fill("<!-- results: shiped -->\n<!-- end -->", {"shipped": "", "race": ""})


WITH_TARGETS = {
    "suite": (
        lambda folder: make_suite(lambda task, method, member: 0.5, folder, ONE_TASK),
        "| On FrozenLake-misc HAEPO adaptive is at PPO's score or above, one setting each. | not shown |",
        ("methods.svg", "profiles.svg", "improvement.svg"),
    ),
    "segments": (
        lambda folder: make_study(lambda config, member: 0.5, folder, ONE_GAME),
        "| On Breakout-MinAtar HAEPO with segments is at PPO's score or above. | not shown |",
        ("games.svg", "lengths.svg", "sharpness.svg"),
    ),
    "agents": (
        lambda folder: made_up_agents.make_study(made_up_agents.Alike(), folder),
        "| On simple spread joint HAEPO is at IPPO's return or above. | not shown |",
        ("returns.svg", "sample_sizes.svg", "exploitability.svg", "ratings.svg"),
    ),
}


def test_a_section_whose_library_is_not_installed_keeps_saying_that_there_are_no_numbers(project, tmp_path):
    parts = ["ranking", "self_play"]
    made = made_up_agents.make_study(made_up_agents.Alike(), tmp_path, parts=parts, installed=False)
    publish(project, {"agents": made.folder})
    page = (project / "docs" / "agents.md").read_text()
    assert made.verdicts["headline"] in page and page.count("There are no numbers of record yet.") == 2
    play = (project / "docs" / "self_play.md").read_text()
    assert "(agents/exploitability.svg)" in play and "no numbers of record" not in play


@pytest.mark.parametrize("name", WITH_TARGETS)
def test_a_study_that_was_never_published_says_so_and_then_brings_its_numbers_and_figures(project, tmp_path, name):
    page, docs = project / "docs" / f"{name}.md", project / "docs"
    make, row, drawn = WITH_TARGETS[name]
    results = read_json(docs / "results.json")
    if name in results:
        shutil.rmtree(docs / name)
        write_json(docs / "results.json", {other: entry for other, entry in results.items() if other != name})
    publish(project, {})
    assert page.read_text().count("There are no numbers of record yet.") == 5
    made = make(tmp_path)
    publish(project, {name: made.folder})
    assert made.verdicts["headline"] in page.read_text() and "no numbers of record" not in page.read_text()
    assert row in page.read_text()
    assert {path.name for path in (docs / name).iterdir()} == {"report.json", "verdicts.json", "tables.json", *drawn}
    assert publish(project, {}) == []
