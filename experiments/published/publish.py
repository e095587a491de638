"""Brings the numbers of record up to date: `docs/results.json`, the studies' files in `docs/`, and the documents."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.published import blocks, gather
from experiments.published.documents import documents, fill
from haepo_jax.errors import ConfigError
from haepo_jax.runs.files import read_json, to_json_text
from haepo_jax.runs.folder import storage_errors, write_file

SOURCES = ("runs", "paper", "tldr", "benchmark", "race")
"""Folders that numbers may come from."""

_SAME = ("report.json", "verdicts.json", "tables.json")
_FIGURES = {
    "paper": {
        "bandits.svg": "bandits-1.svg",
        "cartpole_returns.svg": "cartpole-1.svg",
        "cartpole_steps_to_475.svg": "cartpole-2.svg",
    },
    "tldr": {
        "gold_against_kl.svg": "comparison-1.svg",
        "effective_sample_size.svg": "comparison-4.svg",
        "memory.svg": "memory-1.svg",
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
    "tldr": {
        blocks.POLICIES: ("comparison", 0, ()),
        blocks.MEMORY_40M: ("memory", 0, ()),
        blocks.MEMORY_06B: ("memory", 2, ()),
    },
}
"""For each study the tables that documents show: section, number there from 0, and columns, all if none is named."""
_COMMANDS = {
    "paper": "python -m experiments.paper --workdir=runs/paper",
    "tldr": "python -m experiments.tldr_report --workdir=runs/tldr_report",
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
    changed = []
    with storage_errors(docs):
        if "runs" in folders:
            _take_runs(root, folders["runs"], results["shipped"])
        for name in TABLES:
            if name in folders:
                changed += _copy_study(name, folders[name], docs / name)
            results[name] = {"command": _COMMANDS[name]} | gather.study(docs / name, TABLES[name])
        if "benchmark" in folders:
            results["speed"] |= gather.speed(folders["benchmark"])
            results["peers"] |= gather.peers(folders["benchmark"]) or {}
        if "race" in folders:
            results["race"] |= gather.cold_start(folders["race"])
        rendered = blocks.blocks(results)
        filled = {path: fill(path.read_text(encoding="utf-8"), rendered) for path in documents(root)}
        filled[docs / "results.json"] = to_json_text(results)
        for path, text in filled.items():
            if path.read_text(encoding="utf-8") != text:
                write_file(path, lambda temporary, text=text: temporary.write_text(text, encoding="utf-8"))
                changed.append(path)
    return changed


def _take_runs(root: Path, folder: Path, entries: dict[str, Any]) -> None:
    """Replaces the entries of the configs of which the folder holds a run."""
    configs = {path.stem: path for path in sorted((root / "configs").glob("*.py")) if (folder / path.stem).is_dir()}
    if not configs:
        raise ConfigError(f"--runs {folder} holds no run that is named after a shipped config, such as cartpole.")
    for name, config in configs.items():
        entries[name] = {"what": "", "elsewhere": ""} | entries.get(name, {}) | gather.shipped(folder / name, config)


def _copy_study(name: str, source: Path, target: Path) -> list[Path]:
    """Copies what documents quote of a study into `docs/`, once it is known to be a full one."""
    gather.study(source, TABLES[name])
    pairs = {target / file: source / file for file in _SAME}
    pairs |= {target / shown: source / "figures" / drawn for shown, drawn in _FIGURES[name].items()}
    if missing := [str(path) for path in pairs.values() if not path.is_file()]:
        raise ConfigError(f"{source} is no complete study: {', '.join(missing)} is missing.")
    target.mkdir(exist_ok=True)
    changed = [path for path, made in pairs.items() if not path.exists() or path.read_bytes() != made.read_bytes()]
    for path in changed:
        write_file(path, lambda temporary, made=pairs[path]: shutil.copyfile(made, temporary))
    return changed
