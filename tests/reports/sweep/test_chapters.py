import html

import numpy as np
import pytest
from helpers.made_up_folders import FOLDERS, GRID, SCORES, rows_of_score
from helpers.made_up_sweeps import (
    ENTROPY,
    RATE,
    RATES,
    SCORE,
    UPDATES,
    grid,
    hump,
    hump_that_diverges,
    write_sweep,
)

from haepo_jax.reports import figures
from haepo_jax.reports.figures import heat_map
from haepo_jax.reports.sweep.analysis import analyse_sweep
from haepo_jax.reports.sweep.folder import read_sweep
from haepo_jax.reports.sweep.page import make_chapters, write_headline, write_report


def chapters(folder, name):
    numbers = analyse_sweep(read_sweep(FOLDERS[name](folder)))
    return {chapter.section.slug: chapter for chapter in make_chapters(numbers)}


def captured(drawing):
    """What a figure is drawn from."""
    return drawing.draw.func, drawing.draw.args, drawing.draw.keywords


def test_the_heat_map_shows_scores_and_who_diverged(tmp_path):
    (drawing,) = chapters(tmp_path, "grid")["pairs"].drawings
    draw, (score, failed), options = captured(drawing)
    assert draw is heat_map and score.shape == (6, 3)
    assert options["y_names"] == ("0.0001", "0.0003", "0.001", "0.003", "0.01", "0.03")
    assert options["x_names"] == ("0", "0.005", "0.03")
    assert (options["y_label"], options["x_label"]) == ("learning_rate", "entropy_coef")
    assert (failed == np.repeat([[0.0]] * 5 + [[0.5]], 3, axis=1)).all()
    best = np.unravel_index(score.argmax(), score.shape)
    assert f"is at learning_rate=0.003, entropy_coef={options['x_names'][best[1]]}." in drawing.alt
    assert "members diverged" in drawing.caption and "Grey" not in drawing.caption


def test_every_pair_has_a_heat_map_those_of_the_most_sensitive_settings_in_view(tmp_path):
    parts = chapters(tmp_path, "random")
    ranked = [row[0] for row in parts["sensitivity"].section.tables[0].rows]
    assert ranked[0] == "learning_rate" and len(ranked) == 5
    pairs = [frozenset(captured(d)[2][side] for side in ("x_label", "y_label")) for d in parts["pairs"].drawings]
    assert set(pairs) == {frozenset((one, other)) for one in ranked for other in ranked if one != other}
    assert set(pairs[:6]) == {frozenset((one, other)) for one in ranked[:4] for other in ranked[:4] if one != other}
    assert [drawing.folded for drawing in parts["pairs"].drawings] == [False] * 6 + [True] * 4
    assert parts["pairs"].section.findings[0].startswith("In view are the pairs of the 4 settings that explain most")
    # One scale, from the least to the most of all cells.
    (limits,) = {captured(drawing)[2]["limits"] for drawing in parts["pairs"].drawings}
    cells_shown = np.concatenate([captured(drawing)[1][0].ravel() for drawing in parts["pairs"].drawings])
    assert limits == (np.nanmin(cells_shown), np.nanmax(cells_shown))
    assert "Ranges of" in parts["pairs"].drawings[0].caption


def test_one_setting_has_an_interval_for_each_value(tmp_path):
    (drawing,) = chapters(tmp_path, "one setting")["values"].drawings
    draw, (rows,), _ = captured(drawing)
    assert draw is figures.intervals
    assert [row[0] for row in rows] == ["0.0001", "0.0003", "0.001", "0.003", "0.01", "0.03 (50% diverged)"]
    assert all(low <= value <= high for _, value, low, high in rows)


def test_the_best_ten_and_the_default_are_listed(tmp_path):
    points = grid(optimizer__learning_rate=RATES, haepo__entropy_coef=(0.0, 1e-3, 2e-3, 5e-3))
    folder = write_sweep(tmp_path, points, hump_that_diverges, seeds=6, optimizer={"learning_rate": RATES[0]})
    numbers = analyse_sweep(read_sweep(folder))
    chapter = {c.section.slug: c for c in make_chapters(numbers)}["best"]
    table, exactly = chapter.section.tables
    assert table.columns == (
        *("rank", "learning_rate", "entropy_coef", "seeds", "final return", "median seed", "worst seed", "diverged"),
        "beside the first",
    )
    assert [row[0] for row in table.rows[:10]] == [str(place) for place in range(1, 11)]
    scores = [float(row[4].split()[0]) for row in table.rows]
    assert scores == sorted(scores, reverse=True)
    default = table.rows[-1]
    assert len(table.rows) == 11 and table.marked == [0] and default[1:3] == ("0.0001", "0.005")
    assert table.rows[0][-1] == "the best" and default[-1] == "behind it, the default"
    (sentence,) = [line for line in chapter.section.findings if "is number" in line]
    assert f"is number {default[0]} of 24 with {default[4]}: behind it." in sentence
    assert exactly.rows[0] == ("optimizer.learning_rate", table.rows[0][1]) and exactly.folded
    _, (series,), _ = captured(chapter.drawings[0])
    assert [curve.label for curve in series] == ["best", "default"]
    for curve, (row) in zip(series, (table.rows[0], default), strict=True):
        assert (
            float(row[6]) < curve.centre[-1]
            and (curve.low <= curve.centre).all()
            and (curve.centre <= curve.high).all()
        )


def test_numbers_of_the_table_are_those_of_the_members(tmp_path):
    parts = chapters(tmp_path, "grid")
    finals = np.array([hump({RATE: RATES[-1], ENTROPY: 0.0}, seed)[:7].mean() for seed in range(6)])
    numbers = analyse_sweep(read_sweep(tmp_path))
    assert numbers.scores.worst < finals.max()
    sentence = f"has the worst final return that any member has, {numbers.scores.worst:.3g}, so that"
    assert any(sentence in finding for finding in parts["progress"].section.findings)
    assert parts["best"].section.tables[0].marked


@pytest.mark.parametrize(
    ("changes", "finding", "caption", "labels"),
    [
        ({"haepo": {"entropy_coef": 0.02}}, "The sweep does not hold the default", "does not hold", ["best"]),
        ({}, "is number", "and the default, learning_rate=0.003", ["best", "default"]),
        ({"haepo": {"entropy_coef": 0.0}}, "; it is the default. ", "is the default", ["best, the default"]),
    ],
)
def test_the_page_reports_the_rank_of_the_default(tmp_path, changes, finding, caption, labels):
    def learn(settings, seed):
        return np.full(UPDATES, 100.0 * (settings[RATE] == 3e-3) - 1000 * settings[ENTROPY] + seed)

    folder = write_sweep(tmp_path, GRID, learn, seeds=5, **changes)
    numbers = analyse_sweep(read_sweep(folder))
    best = make_chapters(numbers)[0]
    assert any(finding in line for line in best.section.findings)
    _, (series,), _ = captured(best.drawings[0])
    assert caption in best.drawings[0].caption and [curve.label for curve in series] == labels


def test_a_default_that_has_not_begun_is_reported(tmp_path):
    def rows(member):
        return UPDATES * (member.settings[RATE] != 3e-3)

    folder = write_sweep(tmp_path, GRID, hump, rows=rows, complete=False)
    numbers = analyse_sweep(read_sweep(folder))
    best = make_chapters(numbers)[0]
    assert "The default has not come so far yet." in best.section.findings
    assert "The default has not come so far yet." in best.drawings[0].caption


def test_a_running_sweep_says_how_far_it_is(tmp_path):
    parts = chapters(tmp_path, "running")
    findings = " ".join(parts["progress"].section.findings)
    assert "Of 162 members 108 have begun and 57 are done." in findings
    assert "They are 54 combinations of 3 settings, 3 seeds each." in findings
    assert "compared after the same number of updates, 12." in findings
    assert parts["progress"].section.tables[0].rows == [
        ("haepo.score=log_ratio", "54", "54", "54", "3", "20"),
        ("haepo.score=mean", "54", "54", "3", "3", "12"),
        ("haepo.score=sum", "54", "0", "0", "0", "0"),
    ]
    page = html.unescape(write_report(tmp_path).read_text())
    assert "18 more combinations have not come so far. The sweep is not complete: all are compared after 12" in page
    grey = [
        drawing.caption for drawing in parts["pairs"].drawings if "Grey: no member has come so far." in drawing.caption
    ]
    assert len(grey) == 2  # those with the score


def test_combinations_that_are_left_out_are_counted(tmp_path):
    folder = write_sweep(
        tmp_path, SCORES, hump, seeds=3, fixed=[SCORE], complete=False, rows=lambda m: min(rows_of_score(m), 5) or 3
    )
    findings = " ".join(make_chapters(analyse_sweep(read_sweep(folder)))[-1].section.findings)
    assert (
        "updates, 5; combinations that have not come so far, with 54 members that have begun, are left out."
        in findings
    )


def test_the_share_explained_by_chance_is_shown_only_where_values_are_drawn(tmp_path):
    for name, drawn_apart in (("grid", False), ("random", True)):
        (table,) = chapters(tmp_path / name, name)["sensitivity"].section.tables
        assert ("by chance" in table.columns) == ("By chance" in table.note) == drawn_apart
        shares = [float(row[2].split("%")[0]) for row in table.rows]
        assert shares == sorted(shares, reverse=True) and table.rows[0][0] == "learning_rate"


def test_names_are_short_where_no_two_are_alike(tmp_path):
    points = grid(haepo__num_epochs=(1, 2), ppo__num_epochs=(1, 2), algorithm=("haepo", "ppo"))
    folder = write_sweep(tmp_path, points, lambda s, k: np.full(UPDATES, s["haepo.num_epochs"] + 0.1 * k))
    parts = make_chapters(analyse_sweep(read_sweep(folder)))
    assert parts[0].section.tables[0].columns[1:4] == ("haepo.num_epochs", "ppo.num_epochs", "algorithm")
    assert "Sweep: several algorithms on CartPole-v1" in write_report(folder).read_text()


def test_ties_with_the_best_are_named_and_the_best_is_marked(tmp_path):
    def learn(settings, seed):
        # The noise is larger than what a little entropy takes, and smaller than what a learning rate does.
        level = 100.0 * (settings[RATE] == 3e-3) - 10 * settings[ENTROPY]
        return np.full(UPDATES, level + np.random.default_rng([seed, int(1e6 * settings[RATE])]).normal())

    folder = write_sweep(tmp_path, GRID, learn, seeds=8)
    numbers = analyse_sweep(read_sweep(folder))
    best = make_chapters(numbers)[0].section
    table = best.tables[0]
    assert table.marked == [0] and "✓ marks the best." in table.note
    beside = [row[-1].removesuffix(", the default") for row in table.rows]
    assert beside[:3] == ["the best", "ties with it", "ties with it"] and set(beside[3:]) == {"behind it"}
    assert {row[1] for row in table.rows[:3]} == {"0.003"}
    assert "2 others tie with it: no difference is shown." in best.findings[0]
    assert all(f"learning_rate=0.003, entropy_coef={row[2]} with" in best.findings[1] for row in table.rows[1:3])
    assert "2 others tie with it" in write_headline(numbers)


@pytest.mark.parametrize("seeds", [1, 2, 4])
def test_few_seeds_have_no_best_and_no_interval(tmp_path, seeds):
    folder = write_sweep(tmp_path, GRID, hump, seeds=seeds)
    numbers = analyse_sweep(read_sweep(folder))
    parts = {chapter.section.slug: chapter for chapter in make_chapters(numbers)}
    best = parts["best"].section
    table = best.tables[0]
    assert table.marked == [] and "None is marked as the best" in table.note
    beside = [row[-1].removesuffix(", the default") for row in table.rows]
    assert beside[0] == "the highest" and set(beside[1:]) == {"undecided"}
    assert "No setting is called the best: fewer than 5 seeds decide nothing." in best.findings[0]
    assert not [cell for row in table.rows for cell in row if "[" in cell]
    _, (series,), _ = captured(parts["best"].drawings[0])
    assert series[0].label.startswith("highest") and all(np.isnan(curve.low).all() for curve in series)
    assert "No setting is called the best" in write_headline(numbers) and "is best" not in write_headline(numbers)


def test_the_best_stands_before_the_progress(tmp_path):
    assert [*chapters(tmp_path, "one setting")] == ["best", "values", "progress"]
