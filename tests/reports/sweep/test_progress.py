from helpers.made_up_sweeps import RATE, RATES, SCORE, SCORES, UPDATES, hump, read

from haepo_jax.reports.sweep.progress import measure_progress


def test_progress_counts_the_members_of_each_group(tmp_path):
    def rows(member):
        ahead = 2 * (member.settings[RATE] == RATES[0])
        return {"log_ratio": UPDATES, "mean": 8 + ahead, "sum": 0}[member.settings[SCORE]]

    def learn(settings, seed):
        return hump(settings, seed)[: 5 if seed == 3 else None]

    sweep = read(tmp_path, SCORES, learn, seeds=4, fixed=[SCORE], rows=rows, complete=False)
    assert measure_progress(sweep) == (
        ("haepo.score=log_ratio", 8, 8, 8, 2, 20, 20),
        ("haepo.score=mean", 8, 8, 2, 2, 8, 10),
        ("haepo.score=sum", 8, 0, 0, 0, 0, 0),
    )
