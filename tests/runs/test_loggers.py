import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.listing_logger import Listing

from haepo_jax.config.members import Member
from haepo_jax.errors import ConfigError
from haepo_jax.runs.loggers import MemberLoggers, make_request
from haepo_jax.runs.loggers import open_loggers as of_folder

MEMBERS = [Member(index, seed, {"haepo.temperature": 0.5}) for index, seed in ((4, 0), (5, 1), (6, 2))]
CONFIG = {"env": "Catch-bsuite", "haepo": {"score": "sum"}, "sweep": {}}


class Failing(Listing):
    def write(self, update, metrics):
        raise OSError("the server is gone")


@pytest.fixture(autouse=True)
def _none_made():
    Listing.made.clear()


def open_loggers(folder, *loggers, members=(5,), first_update=3):
    request = make_request(loggers, members, 7)
    return MemberLoggers(request, folder, MEMBERS, run_id="abc", config=CONFIG, first_update=first_update)


def write(loggers, first_update, values):
    """Rows of members 4 to 6; the second row of member 5 is of an update in which it did not run."""
    loss = np.float32(values)[:, None] * np.ones(3, np.float32)
    where = np.ones(loss.shape, bool)
    where[1:, 1] = False
    loggers.write(first_update, {"loss": loss, "evaluation_return": np.full_like(loss, np.nan)}, where)


def test_a_logger_gets_the_rows_of_its_member_that_ran_with_the_metrics_that_there_are(tmp_path):
    loggers = open_loggers(tmp_path / "run", Listing)
    write(loggers, 3, [0.5, 0.25])
    (logger,) = Listing.made
    assert logger.rows == [(3, {"loss": 0.5})]
    assert not logger.closed
    loggers.close()
    assert logger.closed


def test_a_logger_is_made_with_what_names_its_member(tmp_path):
    open_loggers(tmp_path / "run", Listing, members=(4, 5))
    first, run = (logger.run for logger in Listing.made)
    assert (first.id, run.id) == ("abc-4", "abc-5")
    assert (run.name, run.group) == ("run/member-00005", "run")
    assert run.folder == tmp_path / "run" / "Listing" / "member-00005"
    assert (run.member, run.seed, run.settings) == (5, 1, {"haepo.temperature": 0.5})
    assert (run.config, run.first_update) == (CONFIG, 3)


def test_one_that_fails_is_reported_once_and_left_out_and_the_others_go_on(tmp_path, capsys):
    loggers = open_loggers(tmp_path, Failing, Listing)
    write(loggers, 3, [0.5])
    write(loggers, 4, [0.25])
    loggers.close()
    assert [update for update, _ in Listing.made[1].rows] == [3, 4]
    assert capsys.readouterr().err == (
        "The logger Failing of member 5 fails (OSError: the server is gone); the run continues without it.\n"
    )


def test_one_that_fails_is_closed_so_that_what_it_has_taken_before_is_written(tmp_path, capsys):
    class Buffered(Listing):
        def write(self, update, metrics):
            if update == 4:
                raise ValueError("no such metric")
            super().write(update, metrics)

        def close(self):
            super().close()
            raise TimeoutError("nobody answers")

    loggers = open_loggers(tmp_path, Buffered)
    write(loggers, 3, [0.5])
    write(loggers, 4, [0.25])
    (logger,) = Listing.made
    assert logger.rows == [(3, {"loss": 0.5})] and logger.closed
    loggers.close()
    assert capsys.readouterr().err.count("\n") == 1


class Exits:
    """Ends the process, as programs do, where it is told to."""

    def __init__(self, run):
        self.end()

    def write(self, update, metrics):
        self.end()

    def close(self):
        self.end()

    def end(self):
        sys.exit("no account")


@pytest.mark.parametrize("where", ["__init__", "write", "close"])
def test_one_that_ends_the_process_is_left_out_too(tmp_path, capsys, where):
    logger = type("Logger", (Listing,), {where: getattr(Exits, where), "end": Exits.end})
    loggers = open_loggers(tmp_path, logger)
    write(loggers, 3, [0.5])
    loggers.close()
    assert capsys.readouterr().err == (
        "The logger Logger of member 5 fails (SystemExit: no account); the run continues without it.\n"
    )


@pytest.mark.parametrize(
    ("logger", "reason"),
    [
        (lambda run, project: Listing(run), "TypeError: "),
        (lambda run: None, "AttributeError: 'NoneType' object has no attribute 'write'"),
    ],
)
def test_one_of_another_form_is_left_out(tmp_path, capsys, logger, reason):
    loggers = open_loggers(tmp_path, logger)
    write(loggers, 3, [0.5])
    loggers.close()
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"of member 5 fails ({reason}" in said


def test_a_run_in_the_working_directory_is_called_by_its_folder(tmp_path, monkeypatch):
    folder = tmp_path / "my runs"
    folder.mkdir()
    monkeypatch.chdir(folder)
    open_loggers(Path("."), Listing)
    (logger,) = Listing.made
    assert (logger.run.name, logger.run.group) == ("my runs/member-00005", "my runs")


def test_one_that_cannot_be_made_is_reported_and_left_out(tmp_path, capsys):
    def no_account(run):
        raise PermissionError("log in first")

    loggers = open_loggers(tmp_path, no_account, Listing)
    write(loggers, 3, [0.5])
    assert len(Listing.made[0].rows) == 1
    assert "no_account of member 5 fails (PermissionError: log in first)" in capsys.readouterr().err.replace(
        f"{test_one_that_cannot_be_made_is_reported_and_left_out.__qualname__}.<locals>.", ""
    )


def test_one_that_cannot_be_closed_is_reported(tmp_path, capsys):
    class NeverClosed(Listing):
        def close(self):
            raise TimeoutError("nobody answers")

    open_loggers(tmp_path, NeverClosed).close()
    assert "TimeoutError: nobody answers" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("loggers", "members", "sentence"),
    [
        (["tensorbord"], (0,), "--loggers 'tensorbord' is not known; allowed: tensorboard, wandb, mlflow, or one of"),
        (["no_such.module:Logger"], (0,), "--loggers no_such.module:Logger cannot be imported: there is no module"),
        (["math:pi"], (0,), "--loggers math:pi is 3.14159"),
        ([Listing, Listing], (0,), "--loggers names Listing twice; give it once."),
        ([Listing], (7,), "--logged_members=7 is no member; there are members 0 to 6."),
    ],
)
def test_what_cannot_be_is_refused(loggers, members, sentence):
    with pytest.raises(ConfigError) as refused:
        make_request(loggers, members, 7)
    assert sentence in str(refused.value)


@pytest.mark.parametrize(("logger", "package"), [("tensorboard", "tensorboardX"), ("wandb", "wandb")])
def test_a_missing_package_is_named_with_what_installs_it(monkeypatch, logger, package):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match=rf"--loggers={logger} needs {package}: pip install 'haepo_jax\[{logger}\]'\."
    ):
        make_request([logger], (0,), 7)


@pytest.mark.parametrize("text", [None, "raise RuntimeError('no protobuf')"])
def test_a_folder_named_as_a_package_is_none_and_one_that_cannot_be_imported_is_refused(tmp_path, monkeypatch, text):
    (tmp_path / "wandb").mkdir()
    if text is not None:
        (tmp_path / "wandb" / "__init__.py").write_text(text)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *(path for path in sys.path if "site-packages" not in path)])
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    monkeypatch.delitem(sys.modules, "haepo_jax.runs.loggers.wandb", raising=False)
    with pytest.raises(ConfigError) as refused:
        make_request(["wandb"], (0,), 7)
    assert str(refused.value) == (
        "--loggers=wandb needs wandb: pip install 'haepo_jax[wandb]'."
        if text is None
        else "--loggers=wandb needs wandb, which cannot be imported (RuntimeError: no protobuf): "
        "pip install 'haepo_jax[wandb]' installs a version that can."
    )


@pytest.mark.parametrize(("loggers", "members"), [((), (99,)), ((Listing,), (3,))])
def test_without_a_logger_of_these_members_no_file_is_read_and_nothing_is_written(tmp_path, loggers, members):
    opened = of_folder(make_request(loggers, members, 7), tmp_path, MEMBERS, first_update=0)
    write(opened, 0, [1.0])
    opened.close()
    assert Listing.made == list(tmp_path.iterdir()) == []  # there is no config.json to read


def scalars_of(directory):
    """`(tag, update, value)` of every event, as TensorBoard's files have them."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(directory.iterdir()):
        content, position = path.read_bytes(), 0
        while position < len(content):
            length = int.from_bytes(content[position : position + 8], "little")
            event = Event.FromString(content[position + 12 : position + 12 + length])
            found += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
            position += 16 + length
    return found


def test_tensorboard_has_the_curves_of_a_member(tmp_path):
    pytest.importorskip("tensorboardX")
    loggers = open_loggers(tmp_path, "tensorboard")
    write(loggers, 3, [0.5, 0.25])
    loggers.close()
    assert [path.name for path in (tmp_path / "tensorboard").iterdir()] == ["member-00005"]
    assert scalars_of(tmp_path / "tensorboard" / "member-00005") == [("loss", 3, 0.5)]


def test_mlflow_has_a_run_of_a_member_which_a_later_attempt_resumes(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # for the client of the test
    for first in (3, 4):
        loggers = open_loggers(tmp_path, "mlflow", first_update=first)
        write(loggers, first, [first / 2])
        loggers.close()
    client = mlflow.MlflowClient((tmp_path / "mlflow").as_uri())
    (experiment,) = client.search_experiments(filter_string="name = 'haepo_jax'")
    (run,) = client.search_runs([experiment.experiment_id])
    assert [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, "loss")] == [
        (3, 1.5),
        (4, 2.0),
    ]
    assert run.data.params["haepo.score"] == "sum" and run.data.params["haepo.temperature"] == "0.5"
    assert (run.info.run_name, run.info.status) == (f"{tmp_path.name}/member-00005", "FINISHED")


_OFFLINE = """
import sys
from pathlib import Path
import numpy as np
from haepo_jax.config.members import Member
from haepo_jax.runs.loggers import MemberLoggers, make_request

request = make_request(["wandb"], (5,), 7)
loggers = MemberLoggers(
    request, Path(sys.argv[1]), [Member(5, 1, {})], run_id="abc", config={"env": "Catch-bsuite"}, first_update=3
)
loggers.write(3, {"loss": np.full((2, 1), 0.5, np.float32)}, np.ones((2, 1), bool))
loggers.close()
"""


def records_of(path):
    """What an offline run of wandb holds: records in blocks of 32 KiB, as LevelDB's log has them."""
    from wandb.proto import wandb_internal_pb2

    content, position, record = path.read_bytes(), 7, b""
    while position < len(content):
        if (left := 32768 - position % 32768) < 7:
            position += left
        length, kind = int.from_bytes(content[position + 4 : position + 6], "little"), content[position + 6]
        record += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            yield wandb_internal_pb2.Record.FromString(record)
            record = b""


def test_wandb_writes_an_offline_run_of_a_member(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    # In a process of its own, as wandb starts a service beside it.
    subprocess.run([sys.executable, "-c", _OFFLINE, str(tmp_path)], check=True, timeout=120)
    (recorded,) = (tmp_path / "wandb" / "member-00005").rglob("run-abc-5.wandb")
    records = list(records_of(recorded))
    (run,) = (record.run for record in records if record.WhichOneof("record_type") == "run")
    assert (run.run_id, run.project, run.display_name) == ("abc-5", "haepo_jax", f"{tmp_path.name}/member-00005")
    rows = [
        {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
        for record in records
        if record.WhichOneof("record_type") == "history"
    ]
    assert [(row["_step"], row["loss"]) for row in rows] == [(3, 0.5), (4, 0.5)]


def test_one_whose_error_cannot_say_what_it_is_does_not_stop_the_run(tmp_path, capsys):
    class Slip(Exception):
        def __str__(self):
            return self.args[1]

    def no_account(run):
        raise Slip("a")

    loggers = open_loggers(tmp_path, no_account, Listing)
    write(loggers, 3, [0.5])
    assert len(Listing.made[0].rows) == 1
    assert "of member 5 fails (Slip); the run continues without it." in capsys.readouterr().err
