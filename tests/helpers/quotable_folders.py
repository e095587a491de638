"""Folders with results that documents could quote, written in a moment: studies, benchmarks, races."""

import shutil
from pathlib import Path

from helpers.made_up_sweeps import ATTEMPT

from haepo_jax.runs.folder import write_json
from haepo_jax.runs.json_files import read_json

ROOT = Path(__file__).parents[2]
MACHINE = {"devices": 4, "device_kind": "cpu"}


def write_study(folder, name, *, quick=False, **headline):
    """A study as its command leaves it, with the numbers that `docs/` quotes and perhaps another headline."""
    figures = folder / "figures"
    figures.mkdir(parents=True)
    for file in ("verdicts.json", "tables.json", "report.json"):
        write_json(folder / file, read_json(ROOT / "docs" / name / file))
    write_json(folder / "verdicts.json", read_json(folder / "verdicts.json") | headline)
    made = read_json(folder / "report.json")
    provenance = made["provenance"] | {"last run": "2031-02-03T04:05:06+00:00", "device": "8 x cpu"}
    write_json(folder / "report.json", made | {"quick": quick, "provenance": provenance})
    for section in ("bandits", "cartpole", "comparison", "memory"):
        for number in range(1, 5):
            (figures / f"{section}-{number}.svg").write_text(f"{section} {number}")
    return folder


def write_benchmark(folder, *, with_peer, machine=MACHINE):
    """What `experiments.benchmark` writes, for one number of seeds."""
    folder.mkdir()
    rates = {"random_rollout": 50e6, "policy_rollout": 8e6, "training": 2.3456e6, "training_on_short_episodes": 1e6}
    rows = [{"measure": measure, "seeds": 32, "env_steps_per_second": rate} for measure, rate in rates.items()]
    rows[2] |= {
        "share_of_random_rollout": 0.047,
        "share_of_policy_rollout": 0.293,
        "temporary_bytes_a_device": 3 * 2**20,
        "compile_seconds": 4.0,
    }
    rows[3]["share_of_a_full_update"] = 0.1234
    if with_peer:
        rows.append({"measure": "training", "seeds": 32, "beside": "peers", "env_steps_per_second": 2e6})
        peer = {"measure": "peer", "name": "Other", "env_steps_per_second": 0.4e6, "compile_seconds": 6.04}
        rows.append(peer | {"training_is_times_this": 5.04})
    ceilings = {"flops_per_second": 200.4e9, "tanh_per_second": 7.77e9}
    write_json(folder / "benchmark.json", {"machine": machine, "ceilings": ceilings, "rows": rows})
    write_json(folder / "provenance.json", [ATTEMPT])
    return folder


def write_language(folder, *, machine=MACHINE):
    """What `experiments.benchmark --language` writes: a rate, and a shape that memory does not hold."""
    folder.mkdir()
    row = {"shape": "40M", "measure": "scoring", "responses": 64, "response_length": 512, "dtype": "bfloat16"}
    rows = [row | {"tokens_per_second": 318_432.0, "flop_utilisation": 0.2345}]
    rows.append(row | {"shape": "0.6B", "measure": "learning", "needs_bytes": 10**12})
    write_json(folder / "language.json", {"machine": machine, "matrix_flops_per_second": 790.4e12, "rows": rows})
    write_json(folder / "provenance.json", [ATTEMPT])
    return folder


def write_race(folder):
    """What `experiments.race` writes: ours, a slower one, and one that does not get there."""
    folder.mkdir()
    ours = {"name": "haepo_jax", "seeds": 32, "seeds_at_475": 32, "whole_seconds": 30.0}
    ours |= {"seconds": 20.04, "seconds_least": 19.0, "seconds_most": 21.0}
    slow = ours | {"name": "Slow", "seconds": 40.0, "seconds_least": 39.0, "seconds_most": 41.0}
    lost = {"name": "Lost", "seeds": 32, "seeds_at_475": 7, "whole_seconds": 25.0, "seconds": None}
    rows = [ours, slow | {"ours_takes_of_this": 0.501}, lost | {"ours_takes_of_this": 0.8016}]
    write_json(folder / "race.json", {"machine": MACHINE, "rows": rows})
    write_json(folder / "provenance.json", [ATTEMPT])
    return folder


def write_project(root):
    """A project with our documents, configs and numbers of record."""
    shutil.copytree(ROOT / "docs", root / "docs")
    shutil.copytree(ROOT / "configs", root / "configs")
    shutil.copy(ROOT / "README.md", root)
    return root
