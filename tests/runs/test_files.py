"""The JSON files of a run folder: whatever is in their place, the reader has a value of its types or a sentence."""

import json

import pytest
from helpers.made_up_sweeps import RATES, grid, hump, write_sweep

from haepo_jax.errors import ConfigError
from haepo_jax.runs.files import is_complete, read_attempts, read_members, read_placement, read_record, read_summary
from haepo_jax.runs.folder import write_json
from haepo_jax.runs.json_files import read_json

READERS = {
    "config.json": read_record,
    "members.json": read_members,
    "placement.json": lambda workdir: read_placement(workdir, ["all"]),
    "provenance.json": read_attempts,
    "summary.json": read_summary,
}
PLACEMENT = {"members_per_device": {"all": 1}, "memory": {"all": "remat"}, "trajectory_devices": 1}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = write_sweep(tmp_path_factory.mktemp("folders") / "run", grid(optimizer__learning_rate=RATES[:2]), hump)
    write_json(folder / "placement.json", PLACEMENT)
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    for name in READERS:
        (tmp_path / name).write_bytes((whole / name).read_bytes())
    return tmp_path


def unlink_first(make):
    def harm(path):
        path.unlink()
        make(path)

    return harm


DAMAGES = {
    "absent": unlink_first(lambda path: None),
    "empty": lambda path: path.write_bytes(b""),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-20]),
    "a number": lambda path: path.write_text("7"),
    "null": lambda path: path.write_text("null"),
    "a text": lambda path: path.write_text('"run"'),
    "nested deep": lambda path: path.write_text("[" * 100_000 + "]" * 100_000),
    "nested a little too deep": lambda path: path.write_text('{"a":' * 900 + "1" + "}" * 900),
    "not UTF-8": lambda path: path.write_bytes(b'{"seed": "\xff"}'),
    "binary": lambda path: path.write_bytes(bytes(range(256))),
    "no number of JSON": lambda path: path.write_text('{"a": NaN}'),
    "a number of many digits": lambda path: path.write_text("1" * 5000),
    "a whole number beyond 64 bits": lambda path: path.write_text('{"a": -' + "1" * 401 + "}"),
    "a number that is infinite in 64 bits": lambda path: path.write_text('{"a": 1e999}'),
    "a folder": unlink_first(lambda path: path.mkdir()),
    "a link to nothing": unlink_first(lambda path: path.symlink_to("nowhere")),
    "a link to itself": unlink_first(lambda path: path.symlink_to(path.name)),
    "a link to a device": unlink_first(lambda path: path.symlink_to("/dev/zero")),
}


@pytest.mark.parametrize("name", READERS)
def test_a_whole_file_is_read(folder, name):
    assert READERS[name](folder) == READERS[name](str(folder))


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("damage", DAMAGES)
def test_an_unreadable_file_of_a_run_is_refused_in_one_sentence_that_names_it(folder, name, damage):
    DAMAGES[damage](folder / name)
    with pytest.raises(ConfigError) as error:
        READERS[name](folder)
    assert str(folder) in str(error.value) and name in str(error.value)
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("members.json", lambda value: value[1].pop("seed"), "[1] has no seed"),
        ("members.json", lambda value: value[1].update(seed="1"), "[1].seed is a text, not a whole number"),
        ("members.json", lambda value: value[1].update(seed=True), "[1].seed is true or false, not a whole number"),
        ("members.json", lambda value: value.reverse(), "does not list members 0, 1, 2 and so on"),
        ("members.json", list.clear, "does not list members 0, 1, 2 and so on"),
        ("members.json", lambda value: value[1].update(settings={}), "differ in which settings they have"),
        ("members.json", lambda value: value[1].update(group=None), "differ in which settings they have"),
        ("placement.json", lambda value: value.pop("memory"), "it has no memory"),
        ("placement.json", lambda value: value.update(memory={"b": "remat"}), "memory has no all"),
        ("placement.json", lambda value: value["members_per_device"].update(all=0), "below 1"),
        ("placement.json", lambda value: value.update(trajectory_devices=-1), "below 1"),
        ("provenance.json", lambda value: value[0].pop("started"), "[0] has no started"),
        ("provenance.json", lambda value: value[0].update(run_seconds=None), "null, not a number"),
        ("provenance.json", lambda value: value[0].update(run_seconds=1e308), "1e+308, which no run can take"),
        ("provenance.json", lambda value: value[0].update(compile_seconds=-1), "-1, which no run can take"),
        ("summary.json", lambda value: value["wall_clock"].update(run_seconds=1e308), "which no run can take"),
        ("summary.json", lambda value: value.pop("wall_clock"), "it has no wall_clock"),
        ("summary.json", lambda value: value["members"][0].update(final_return="1"), "not a number or null"),
        ("summary.json", lambda value: value["members"][0].update(seed=99), "is of another run"),
        ("summary.json", lambda value: value["members"].pop(), "is of another run"),
    ],
)
def test_a_file_of_other_types_or_of_another_run_is_one_sentence(folder, name, change, words):
    value = json.loads((folder / name).read_text())
    change(value)
    (folder / name).write_text(json.dumps(value))
    with pytest.raises(ConfigError) as error:
        READERS[name](folder)
    assert str(folder / name) in str(error.value) and words in str(error.value)


def test_a_run_is_complete_where_its_summary_is_whole(folder):
    assert is_complete(folder)
    path = folder / "summary.json"
    path.write_text(path.read_text()[:-20])
    assert not is_complete(folder)
    path.unlink()
    assert not is_complete(folder)


def test_the_summary_of_a_stage_of_a_language_model_is_known_as_such(tmp_path):
    clock = {"compile_seconds": 1.0, "run_seconds": 2}
    summary = {"stage": "sft", "status": "ok", "updates": 3, "tokens": 4, "wall_clock": clock, "held_out_nll": None}
    write_json(tmp_path / "summary.json", summary)
    assert is_complete(tmp_path) and read_summary(tmp_path) == summary
    write_json(tmp_path / "summary.json", summary | {"wall_clock": {}})
    assert not is_complete(tmp_path)


def test_a_folder_that_may_not_be_read_is_one_sentence(tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.lstat", refuse)
    with pytest.raises(ConfigError, match="cannot be read: Permission denied"):
        read_record(tmp_path)
    monkeypatch.setattr("pathlib.Path.is_file", refuse)
    with pytest.raises(ConfigError, match=r"file\.json cannot be read: Permission denied"):
        read_json(tmp_path / "file.json")
