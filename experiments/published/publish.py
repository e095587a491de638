"""Brings the numbers of record up to date: `docs/results.json`, the studies' files in `docs/`, and the documents."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.published import blocks, figures, gather
from experiments.published.documents import documents, fill
from haepo_jax.errors import ConfigError
from haepo_jax.reports.colours import add_dark_rules
from haepo_jax.runs.folder import storage_errors, write_file
from haepo_jax.runs.json_files import format_json, read_json

SOURCES = ("runs", "paper", "suite", "segments", "agents", "pbt", "tldr", "puzzles", "benchmark", "language", "race")
"""Folders that numbers may come from."""

_SAME = ("report.json", "verdicts.json", "tables.json")
FIGURES = {
    "paper": {
        "bandits.svg": "bandits-1.svg",
        "cartpole_returns.svg": "cartpole-1.svg",
        "cartpole_steps_to_475.svg": "cartpole-2.svg",
    },
    "suite": {
        "methods.svg": "one-setting-1.svg",
        "profiles.svg": "one-setting-2.svg",
        "improvement.svg": "one-setting-3.svg",
    },
    "segments": {
        "games.svg": "games-1.svg",
        "lengths.svg": "lengths-1.svg",
        "sharpness.svg": "sharpness-1.svg",
    },
    "agents": {
        "returns.svg": "ranking-1.svg",
        "sample_sizes.svg": "ranking-2.svg",
        "exploitability.svg": "self-play-1.svg",
        "ratings.svg": "self-play-2.svg",
    },
    "pbt": {},
    "tldr": {
        "gold_against_kl.svg": "comparison-1.svg",
        "effective_sample_size.svg": "comparison-4.svg",
        "memory.svg": "memory-1.svg",
    },
    "puzzles": {
        "tokens.svg": "comparison-1.svg",
        "kl.svg": "comparison-2.svg",
    },
}
"""For each study the figures that documents show, by their names there."""
TABLES: Mapping[str, Mapping[str, tuple[str, int, tuple[str, ...]]]] = {
    "paper": {
        # Seconds and rates stay out: studies run beside other work.
        blocks.CARTPOLE: (
            "cartpole",
            0,
            ("method", "env steps to 475", "final return, IQM", "worst seed", "seeds at 475", "variance over seeds"),
        )
    },
    "suite": {
        blocks.SUITE_METHODS: ("one-setting", 0, ()),
        blocks.SUITE_ONE: ("one-setting", 1, ()),
        blocks.SUITE_TUNED: ("tuned", 0, ()),
        blocks.SUITE_TASKS: ("tasks", 0, ()),
    },
    "segments": {
        blocks.SEGMENTS_GAMES: ("games", 0, ()),
        blocks.SEGMENTS_LENGTHS: ("lengths", 0, ()),
        blocks.SEGMENTS_SHARPNESS: ("sharpness", 0, ()),
        blocks.SEGMENTS_MEMORY: ("memory", 0, ()),
    },
    "agents": {
        blocks.AGENTS_RETURNS: ("ranking", 0, ()),
        blocks.AGENTS_WEIGHTS: ("ranking", 1, ()),
        blocks.AGENTS_SELF_PLAY: ("self-play", 0, ()),
        blocks.AGENTS_REFERENCES: ("self-play", 1, ()),
        blocks.AGENTS_RIDDLE: ("switch-riddle", 0, ()),
        blocks.AGENTS_SPREAD: ("simple-spread", 0, ()),
    },
    "pbt": {},
    "tldr": {
        blocks.POLICIES: ("comparison", 0, ()),
        blocks.MEMORY_40M: ("memory", 0, ()),
        blocks.MEMORY_06B: ("memory", 2, ()),
    },
    "puzzles": {
        blocks.PUZZLES_POLICIES: ("comparison", 0, ()),
        blocks.PUZZLES_RIVALS: ("comparison", 1, ()),
        blocks.PUZZLES_LEVELS: ("levels", 0, ()),
    },
}
"""For each study the tables that documents show: section, number there from 0, and columns, all if none is named."""
_COMMANDS = {
    "paper": "python -m experiments.paper --workdir=runs/paper",
    "suite": "python -m experiments.suite --workdir=runs/suite",
    "segments": "python -m experiments.segments --workdir=runs/segments",
    "agents": "python -m experiments.agents --workdir=runs/agents",
    "pbt": "python -m experiments.pbt_study --workdir=runs/pbt",
    "tldr": "python -m experiments.tldr_report --workdir=runs/tldr_report",
    "puzzles": "python -m experiments.puzzles --workdir=runs/puzzles --every_method",
}


def publish(root: Path, folders: Mapping[str, Path]) -> list[Path]:
    """Reads what is given, keeps the entries of what is not, and writes everything that follows from them.

    Args:
      root: the project.
      folders: some of `SOURCES`, with the folder of each.

    Returns:
      The files whose text has changed.

    Raises:
      ConfigError: a folder holds no such results, or those of a quick run; a document names an unknown block.
      StorageError: a file cannot be written.
    """
    docs = root / "docs"
    results = read_json(docs / "results.json", dict)
    # All is read before anything is written: a folder that is refused changes nothing.
    texts: dict[Path, bytes] = {}
    if "runs" in folders:
        _take_runs(root, folders["runs"], results["shipped"])
    for name, quoted in TABLES.items():
        source = folders.get(name, docs / name)
        if name not in folders and name not in results:
            continue  # it was never published
        results[name] = {"command": _COMMANDS[name]} | gather.study(source, quoted)
        if name in folders:
            texts |= {docs / name / file: _read(source / file) for file in _SAME}
        for shown, drawn in FIGURES[name].items():
            figure = _read(source / "figures" / drawn if name in folders else source / shown)
            texts[docs / name / shown] = add_dark_rules(figure.decode()).encode()
    if "benchmark" in folders:
        _take_benchmark(folders["benchmark"], results)
    if "language" in folders:
        devices, entry = gather.language(folders["language"])
        results.setdefault("language", {})[devices] = entry
    if "race" in folders:
        results["race"] |= gather.cold_start(folders["race"])
    for shown, drawing in figures.draw_figures(results).items():
        path = docs / figures.FOLDER / shown
        if not path.exists() or not figures.says_the_same(path.read_bytes(), drawing):
            texts[path] = drawing
    rendered = blocks.blocks(results)
    texts |= {path: fill(path.read_text(encoding="utf-8"), rendered).encode() for path in documents(root)}
    texts[docs / "results.json"] = format_json(results).encode()
    changed = [path for path, text in texts.items() if not path.exists() or path.read_bytes() != text]
    with storage_errors(docs):
        for path in changed:
            path.parent.mkdir(exist_ok=True)  # that of a study is new at its first publication
            write_file(path, functools.partial(_write, text=texts[path]))
    return changed


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}, which the documents show, cannot be read: {error.strerror}.") from error


def _write(path: Path, *, text: bytes) -> None:
    path.write_bytes(text)


def _take_benchmark(folder: Path, results: dict[str, Any]) -> None:
    """Replaces the entry of the machine that a benchmark is from: CPUs have one, other devices one for each kind."""
    elsewhere = gather.accelerator(folder)
    if elsewhere is None:
        results["speed"] |= gather.speed(folder)
        results["peers"] |= gather.peers(folder) or {}
        return
    devices, entry = elsewhere
    results.setdefault("accelerators", {})[devices] = entry


def _take_runs(root: Path, folder: Path, entries: dict[str, Any]) -> None:
    """Replaces the entries of the configs of which the folder holds a run."""
    configs = {path.stem: path for path in sorted((root / "configs").glob("*.py")) if (folder / path.stem).is_dir()}
    if not configs:
        raise ConfigError(f"--runs {folder} holds no run that is named after a shipped config, such as cartpole.")
    for name, config in configs.items():
        entries[name] = {"what": ""} | entries.get(name, {}) | gather.shipped(folder / name, config)
