"""The page of a language model's samples: what it wrote as it learned, and what rewards that earned."""

from html import escape as escape_markup
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from haepo_jax.language.stages.samples import read_samples
from haepo_jax.reports.html import escape, render_document
from haepo_jax.runs.files import StrPath
from haepo_jax.runs.folder import storage_errors, write_file
from haepo_jax.text import visible

PAGE = "samples.html"
NEWEST, PROMPTS = 10, 8
"""Of the updates that were written, and of the prompts of each: the page shows no more; the parquet parts have all."""

_STYLE = """
pre.text { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0.3em 0; padding: 0.5em 0.8em; background: #8881; }
p.reward { margin: 1em 0 0.2em; }
"""


def write_samples_page(workdir: StrPath) -> Path:
    """Writes `samples.html` into the folder of a run of stage `rl`; returns its path.

    Raises:
      ConfigError: the run has written no samples, or they cannot be read.
      StorageError: the page could not be written.
    """
    workdir = Path(workdir)
    text = render_samples(workdir.name, read_samples(workdir))
    with storage_errors(workdir):
        write_file(workdir / PAGE, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    return workdir / PAGE


def render_samples(name: str, samples: pa.Table) -> str:
    """Renders the page; the same samples give the same text, which refers to nothing outside.

    Args:
      name: of the run.
      samples: as `read_samples` gives them.
    """
    updates = np.unique(samples["update"].to_numpy())
    shown = updates[::-1][:NEWEST]
    columns = {column: samples[column].to_numpy(zero_copy_only=False) for column in samples.column_names}
    sections = [_render_update(int(update), _take(columns, columns["update"] == update)) for update in shown]
    lead = (
        f"The responses to the first {PROMPTS} prompts of the last {len(shown)} of {len(updates)} updates that were "
        "written, the newest first, and those of a prompt by their reward; samples/ holds all."
    )
    title = f"Samples of {name}"
    header = f'<header><h1>{escape(title)}</h1><p class="lead">{escape(lead)}</p></header>'
    return render_document(title, header, sections, _STYLE)


def _take(columns: dict[str, np.ndarray], which: Any) -> dict[str, np.ndarray]:
    return {name: values[which] for name, values in columns.items()}


def _render_update(update: int, rows: dict[str, np.ndarray]) -> str:
    starts = np.flatnonzero(rows["sample"] == 0)
    ends = [*starts[1:], len(rows["sample"])]
    prompts = [
        _render_prompt(_take(rows, slice(start, end))) for start, end in list(zip(starts, ends, strict=True))[:PROMPTS]
    ]
    facts = (
        f"{len(starts)} prompts, {len(rows['reward'])} responses, mean reward {np.mean(rows['reward']):.3g}, "
        f"{np.mean(rows['tokens']):.3g} tokens, {np.mean(rows['ended']):.0%} ended by themselves."
    )
    return "\n".join(
        [
            f'<section id="update-{update}">',
            f"<h2>Update {update}</h2>",
            f"<p>{escape(facts)}</p>",
            *prompts,
            "</section>",
        ]
    )


def _render_prompt(rows: dict[str, np.ndarray]) -> str:
    rewards = rows["reward"]
    responses = [_render_response(_take(rows, slice(k, k + 1))) for k in np.argsort(-rewards, kind="stable")]
    summary = f"{rows['row'][0]}: rewards {rewards.min():.3g} to {rewards.max():.3g}"
    return "\n".join(
        [
            f"<details><summary>{escape(summary)}</summary>",
            _render_text(rows["prompt"][0]),
            *responses,
            "</details>",
        ]
    )


def _render_response(row: dict[str, np.ndarray]) -> str:
    parts = [f"{name.removeprefix('reward/')} {row[name][0]:.3g}" for name in row if name.startswith("reward/")]
    end = "" if row["ended"][0] else ", cut at its length"
    of = f" ({', '.join(parts)})" if parts else ""
    facts = f"Reward {row['reward'][0]:.3g}{of}, {row['tokens'][0]} tokens{end}"
    return f'<p class="reward">{escape(facts)}</p>\n{_render_text(row["completion"][0])}'


def _render_text(text: str) -> str:
    lines = (escape_markup(visible(line)) for line in text.split("\n"))
    return f'<pre class="text">{"\n".join(lines)}</pre>'
