import html
import re

import numpy as np
import pytest
from helpers.html_page import Page
from helpers.made_up_sweeps import UPDATES, read, write_sweep

from haepo_jax.reports.run.page import publish_page
from haepo_jax.reports.run.returns import describe_final
from haepo_jax.reports.sweep.diagnostics import Arm, make_diagnostics_chapter
from haepo_jax.reports.sweep.ranking import score_members


def learn(settings, seed):
    """Returns that rise to 100 and more; the last of six seeds diverges after 7 updates."""
    return np.arange(1.0, UPDATES + 1)[: 7 if seed == 5 else None] * 5 + seed


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The folder of a plain run, and its page."""
    folder = write_sweep(tmp_path_factory.mktemp("run"), [{}], learn, seeds=6, optimizer={"learning_rate": 0.5})
    page, finding = publish_page(folder)
    return folder, page.read_text(), finding


def test_the_page_of_a_run_has_returns_metrics_settings_and_time_and_needs_nothing_else(written):
    folder, text, _ = written
    page = Page(text)
    assert page.open == []
    assert {"returns", "diagnostics", "settings", "time", "configs", "provenance"} <= set(page.attributes("id"))
    references = page.attributes("src") + page.attributes("href")
    assert {r for r in references if not r.startswith(("#", "data:"))} == {"https://arxiv.org/abs/2508.18884"}
    assert "nan" not in re.findall(r"\w+", re.sub("<script>.*</script>", "", text, flags=re.DOTALL).lower())
    drawn = {path.name for path in (folder / "figures").iterdir()}
    assert drawn == {f"returns-{number}.{kind}" for number in (1, 2) for kind in ("svg", "png")}


def test_a_drawing_says_its_finding_to_those_who_do_not_see_it(written):
    curve, _, seeds, _ = re.findall('role="img" aria-label="([^"]*)"', written[1])  # each for two widths
    assert re.search(r"Return against environment steps, from [0-9.]+ at first: episodes of training end at", curve)
    assert seeds == "The final return of each of 6 seeds: from 77.5 to 81.5, median 79.5."


def test_a_curve_begins_where_the_first_episode_has_ended(tmp_path):
    def learn(settings, seed):
        return np.where(np.arange(UPDATES) < 3, np.nan, np.arange(UPDATES) - 200.0)

    page, _ = publish_page(write_sweep(tmp_path / "run", [{}], learn, seeds=2, env="Acrobot-v1"))
    (curve, *_) = re.findall('role="img" aria-label="([^"]*)"', page.read_text(encoding="utf-8"))
    assert curve.startswith("Return against environment steps, from -197 at first: episodes of training end at -186.")


def test_the_finding_counts_those_that_diverged_as_the_worst(written):
    assert written[2] == (
        "The final return is 79 [51.5, 80.8], the interquartile mean over 6 seeds; the worst has 25, the best 81.5. "
        "1 member diverged, counted as the worst final return."
    )


def test_members_that_diverged_are_listed_with_their_last_update(written):
    table = re.search(r"Members that diverged.*?<tbody>(.*?)</tbody>", written[1], re.DOTALL)[1]
    assert [cell for cell in Page(table).text if cell.strip()] == ["5", "5", "7", "4,200", "40"]


def test_settings_that_differ_from_the_defaults_are_listed_beside_them(written):
    table = re.search(r"Settings that differ from the defaults.*?<tbody>(.*?)</tbody>", written[1], re.DOTALL)[1]
    cells = [cell for cell in Page(table).text if cell.strip()]
    assert (
        cells[cells.index("optimizer.learning_rate") + 1] == "0.5" != cells[cells.index("optimizer.learning_rate") + 2]
    )


def test_time_and_attempts_are_shown(written):
    text = html.unescape(written[1])
    assert "environment steps of all members took 570 s without compilation" in text
    assert "2025-01-01T00:00:00+00:00" in text


def test_a_run_at_work_says_so(tmp_path):
    run = read(tmp_path, [{}], learn, seeds=5, rows=lambda member: 12, complete=False)
    assert describe_final(run, score_members(run)).endswith("The run is not complete: this is after 12 updates.")


def make_arms(folder, *levels):
    run = read(folder, [{}], lambda settings, seed: np.full(UPDATES, 1.0), seeds=5)
    scores, shape = score_members(run), (5, UPDATES)
    return [
        Arm(
            f"arm {number}", run, scores, 0, {name: np.broadcast_to(values, shape) for name, values in metrics.items()}
        )
        for number, metrics in enumerate(levels)
    ]


def test_metrics_that_no_run_writes_make_no_chapter(tmp_path):
    assert make_diagnostics_chapter(make_arms(tmp_path, {"loss": np.nan}), by_steps=True) is None


def test_each_metric_that_changes_has_axes_and_its_movement_in_words(tmp_path):
    falling, still = np.linspace(16, 2, UPDATES), np.full(UPDATES, 0.5)
    arms = make_arms(tmp_path, {"effective_sample_size": falling, "loss": still, "regret": -falling}, {"loss": still})
    chapter = make_diagnostics_chapter(arms, by_steps=False)
    weights, others = chapter.drawings
    assert (weights.folded, others.folded) == (False, True)
    assert weights.alt == "The weights against updates: effective sample size of arm 0 falls from 16 to 2."
    assert chapter.section.findings == ["The effective sample size: arm 0 falls from 16 to 2."]
    rows = {row[0]: row[1:] for row in chapter.section.tables[0].rows}
    assert rows["effective sample size, arm 0"] == ("16 [16, 16]", "2", "16", "2 [2, 2]")
    assert rows["loss, arm 1"] == ("0.5 [0.5, 0.5]", "0.5", "0.5", "0.5 [0.5, 0.5]")
