"""Turns the entries of `docs/results.json` into the blocks of Markdown that documents hold."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.studies.targets import WORDS
from haepo_jax.analysis.verdicts import VERDICTS
from haepo_jax.errors import ConfigError

Results = Mapping[str, Any]

_STEPS = "env steps to 475"

FIRST, NUMBERS, SHIPPED, ELSEWHERE, CLAIMS = "first", "numbers", "shipped", "elsewhere", "claims"
PAPER, CARTPOLE, TLDR, POLICIES = "paper", "cartpole", "tldr", "policies"
MEMORY_40M, MEMORY_06B, SPEED, PEERS, RACE = "memory_40m", "memory_06b", "speed", "peers", "race"
ACCELERATORS, LANGUAGE = "accelerators", "language"
SUITE, SUITE_METHODS, SUITE_ONE, SUITE_TUNED, SUITE_TASKS = (
    *("suite", "suite_methods", "suite_one", "suite_tuned", "suite_tasks"),
)
PBT = "pbt"
_SUITE_FIGURES = {
    "methods": "Interquartile mean of all methods, with one setting and tuned for each task",
    "profiles": "Performance profiles with one setting",
    "improvement": "Probability that HAEPO is better than each rival, with one setting",
}
_NO_NUMBERS = "There are no numbers of record yet.\n"
_OF_SUITE = (SUITE_METHODS, SUITE_ONE, SUITE_TUNED, SUITE_TASKS)
SEGMENTS, SEGMENTS_GAMES, SEGMENTS_LENGTHS, SEGMENTS_SHARPNESS, SEGMENTS_MEMORY = (
    *("segments", "segments_games", "segments_lengths", "segments_sharpness", "segments_memory"),
)
_SEGMENTS_FIGURES = {
    "games": "Returns of HAEPO with segments and of PPO on the MinAtar games against environment steps",
    "lengths": "Return on Breakout-MinAtar against the length of a segment",
    "sharpness": "Return on Breakout-MinAtar by what sets the sharpness of the target",
}
PUZZLES, PUZZLES_POLICIES, PUZZLES_RIVALS, PUZZLES_LEVELS = (
    *("puzzles", "puzzles_policies", "puzzles_rivals", "puzzles_levels"),
)
_PUZZLES_FIGURES = {
    "tokens": "Pass@1 of every method against response tokens learnt from",
    "kl": "Pass@1 of every method against KL from the fine-tuned policy",
}
_OF_PUZZLES = (PUZZLES_POLICIES, PUZZLES_RIVALS, PUZZLES_LEVELS)
_OF_SEGMENTS = (SEGMENTS_GAMES, SEGMENTS_LENGTHS, SEGMENTS_SHARPNESS, SEGMENTS_MEMORY)
AGENTS, AGENTS_RETURNS, AGENTS_WEIGHTS, AGENTS_SELF_PLAY, AGENTS_REFERENCES, AGENTS_RIDDLE, AGENTS_SPREAD = (
    *("agents", "agents_returns", "agents_weights", "agents_self_play", "agents_references"),
    *("agents_riddle", "agents_spread"),
)
_AGENTS_FIGURES = {
    "returns": "Returns on Signals-haepo against the number of agents",
    "sample_sizes": "Effective sample size of the rankings against the number of agents",
}
_SELF_PLAY_FIGURES = {
    "exploitability": "Exploitability over training, with a pool of earlier selves and without",
    "ratings": "Ratings of the policies of a run among themselves, with a pool of earlier selves and without",
}
_TARGETS = {
    SUITE: "on [all tasks with one setting](docs/suite.md)",
    SEGMENTS: "of [segments and memory](docs/segments.md)",
    AGENTS: "of [many agents](docs/agents.md)",
    PUZZLES: "on [puzzles](docs/puzzles.md)",
}
"""The studies that set their own targets, in words of the README."""
_OF_AGENTS = (
    *(AGENTS_RETURNS, AGENTS_WEIGHTS, AGENTS_SELF_PLAY, AGENTS_REFERENCES),
    *(AGENTS_RIDDLE, AGENTS_SPREAD),
)


def blocks(results: Results) -> dict[str, str]:
    """Renders all blocks.

    Args:
      results: what `docs/results.json` holds.

    Returns:
      The Markdown of each block by its name, each ending with a newline.

    Raises:
      ConfigError: a number that the README quotes is not there.
    """
    return {
        FIRST: _first(results),
        NUMBERS: _numbers(results),
        SHIPPED: _shipped(results["shipped"], results["elsewhere"]),
        ELSEWHERE: _elsewhere(results["elsewhere"]),
        CLAIMS: _claims(results["paper"]),
        PAPER: _study(results["paper"], ("claim of the paper", "verdict", "recommended form")),
        CARTPOLE: _quoted_table(results["paper"], CARTPOLE),
        **_study_with_targets(results.get(SUITE), SUITE, _OF_SUITE, _SUITE_FIGURES),
        **_study_with_targets(results.get(SEGMENTS), SEGMENTS, _OF_SEGMENTS, _SEGMENTS_FIGURES),
        **_agents(results.get(AGENTS)),
        PBT: _pbt(results.get(PBT)),
        **_study_with_targets(results.get(PUZZLES), PUZZLES, _OF_PUZZLES, _PUZZLES_FIGURES),
        TLDR: _study(results["tldr"], ("claim of the paper", "verdict")),
        **{name: _quoted_table(results["tldr"], name) for name in (POLICIES, MEMORY_40M, MEMORY_06B)},
        SPEED: _speed(results["speed"]),
        PEERS: _peers(results["peers"]),
        RACE: _race(results["race"]),
        ACCELERATORS: "\n".join(map(_accelerator, results.get(ACCELERATORS, {}).values())) or _NO_NUMBERS,
        LANGUAGE: "\n".join(map(_language, results.get(LANGUAGE, {}).values())) or _NO_NUMBERS,
    }


def _first(results: Results) -> str:
    """What the README shows first: what became of all claims and targets, and two figures."""
    paper, race = results["paper"], results["race"]
    targets = "; ".join(
        f"{len(results[name]['claims'])} targets {words}: "
        + _tally([WORDS[claim["verdict"]] for claim in results[name]["claims"]], tuple(WORDS.values()))
        for name, words in _TARGETS.items()
        if name in results
    )
    until = "; ".join(f"{row['code']} {_seconds(row)}" for row in race["rows"])
    images = [f"![{until}, until all seeds of CartPole are at 475](docs/figures/speed.svg)"]
    if SUITE in results:
        rows = results[SUITE]["tables"][SUITE_METHODS]["rows"]
        scores = ", ".join(f"{row[0]} {row[1].partition(' ')[0]}" for row in rows)
        images = [f"![Interquartile mean, one setting for all: {scores}](docs/figures/comparison.svg)", *images]
    return (
        f"Verdicts of [the paper's {len(paper['claims'])} claims](docs/paper.md) {_count_verdicts(paper)}. "
        f"{targets}.\n\n{' '.join(images)}\n"
    )


def _numbers(results: Results) -> str:
    """The numbers of the README."""
    cartpole, race, paper = results["shipped"]["cartpole"], results["race"], results["paper"]
    ours, *others = race["rows"]
    return _table(
        ("what", "measured", "command"),
        [
            (
                f"CartPole-v1, {cartpole['seeds']} seeds: return over the last updates",
                f"mean {cartpole['mean_return']:,}, worst seed {_or(cartpole['worst_seed'], 'diverged')}, in "
                f"{cartpole['training_seconds']:,} s and {cartpole['compile_seconds']:,} s to compile "
                f"({cartpole['devices']})",
                "`make demo`",
            ),
            (
                f"Cold start until all {ours['seeds']} seeds are at 475, beside other codes",
                "; ".join(f"{row['code']} {_seconds(row)}" for row in (ours, *others)) + f" ({race['devices']})",
                "`python -m experiments.race` with `--peer` ([how](docs/performance.md))",
            ),
            (
                f"{_STEPS.capitalize()} on CartPole-v1",
                _quote_steps(paper),
                f"`{paper['command']}`",
            ),
            *_number_of_suite(results.get(SUITE)),
        ],
    )


def _number_of_suite(suite: Results | None) -> list[tuple[str, str, str]]:
    """The row of the suite; none before it was published."""
    if suite is None:
        return []
    table = suite["tables"][SUITE_METHODS]
    one = "one setting for all tasks"
    scores = ", ".join(f"{row[0]} {_cell(table, row[0], one)}" for row in table["rows"])
    return [
        (
            f"One setting for every task: {_lower_first(table['caption'])}, 0 random play, 1 the best known",
            f"interquartile mean {scores}",
            f"`{suite['command']}` ([page](docs/suite.md))",
        )
    ]


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]


def _claims(paper: Results) -> str:
    """What became of the paper's claims, in a paragraph."""
    return (
        f"Of the paper's {len(paper['claims'])} claims, {_count_verdicts(paper)}. {_STEPS.capitalize()} on "
        f"CartPole-v1: {_quote_steps(paper)}\n"
    )


def _count_verdicts(paper: Results) -> str:
    """By form, how many claims have each verdict."""
    return "; ".join(
        f"on {form}: {_tally([claim[field] for claim in paper['claims']])}"
        for form, field in ((paper["judged"], "verdict"), ("the form recommended here", "recommended"))
    )


def _quote_steps(paper: Results) -> str:
    quoted = ", ".join(
        f"{method} {_cell(paper['tables'][CARTPOLE], method, _STEPS)}"
        for method in ("HAEPO, log_ratio", "PPO", "PPO, 10 epochs")
    )
    return f"{quoted}."


def _cell(table: Results, row: str, column: str) -> str:
    for cells in table["rows"]:
        if cells[0] == row and column in table["columns"]:
            return cells[table["columns"].index(column)]
    raise ConfigError(f"The README quotes {column!r} of {row!r}, which the table {table['caption']!r} does not hold.")


def _tally(words: Sequence[str], kinds: Sequence[str] = VERDICTS) -> str:
    return ", ".join(f"{words.count(word)} {word}" for word in kinds if word in words or word == kinds[0])


def _shipped(entries: Results, elsewhere: Results) -> str:
    """The table of the shipped configs."""
    rows = []
    for name, entry in entries.items():
        size = f"{entry['seeds']} x {entry['updates']} x {entry['episodes_an_update']}"
        rows.append(
            (
                f"`{name}`",
                f"{size}{', ' if entry['what'] else ''}{entry['what']}",
                f"{entry['mean_return']:,}",
                _or(entry["worst_seed"], "diverged"),
                f"{entry['million_env_steps']:,}",
                f"{entry['million_env_steps'] / entry['seeds']:.2g}",
                f"{entry['training_seconds']:,}",
                f"{entry['compile_seconds']:,}",
                f"{entry['thousand_env_steps_per_second']:,}",
                _name_others(elsewhere.get(entry["env"], {"codes": ()})),
                f"{entry['date']}, {entry['devices']}",
            )
        )
    return _table(
        (
            "config",
            "seeds x updates x episodes an update",
            "mean return at the end",
            "worst seed",
            "env steps, million",
            "a seed",
            "training, s",
            "compile, s",
            "thousand env steps/s",
            "elsewhere",
            "measured",
        ),
        rows,
    )


def _name_others(reference: Results) -> str:
    """What others reach on an environment, each with its million environment steps."""
    if "most" in reference:
        return f"{reference['most']} is the most there is"
    return "; ".join(
        f"{other['code']} {other['return']:g} ({other['million_env_steps']:g})" for other in reference["codes"]
    )


def _elsewhere(references: Results) -> str:
    """The table of what others reach, on environments of shipped configs and on others."""
    rows = [
        (
            env,
            other["code"],
            f"{other['return']:g}",
            f"{other['million_env_steps']:g}",
            other["source"],
        )
        for env, reference in references.items()
        for other in reference["codes"]
    ]
    return _table(("environment", "code and method", "return", "env steps, million", "from"), rows)


def _study(entry: Results, columns: tuple[str, ...]) -> str:
    """The headline of a study and a line for each claim."""
    fields = ("text", "verdict", "recommended")[: len(columns)]
    rows = [tuple(claim[field] for field in fields) for claim in entry["claims"]]
    return f"{_from(entry)}\n{entry['headline']}\n\n{_table(columns, rows)}"


def _study_with_targets(
    entry: Results | None, folder: str, tables: Sequence[str], figures: Mapping[str, str]
) -> dict[str, str]:
    """The blocks of a study that sets its own targets; without numbers of record each of them says so."""
    if entry is None:
        return dict.fromkeys((folder, *tables), _NO_NUMBERS)
    claims = [{**claim, "verdict": WORDS[claim["verdict"]]} for claim in entry["claims"]]
    study = _study({**entry, "claims": claims}, ("target", "verdict")) + _show(folder, figures)
    return {folder: study} | {name: _quoted_table(entry, name) for name in tables}


def _show(folder: str, figures: Mapping[str, str]) -> str:
    return "".join(f"\n![{words}]({folder}/{name}.svg)\n" for name, words in figures.items())


def _agents(entry: Results | None) -> dict[str, str]:
    """The blocks of the study of many agents, of which some may be missing, as the library they need may."""
    if entry is None:
        return _study_with_targets(None, AGENTS, _OF_AGENTS, {})
    there = [name for name in _OF_AGENTS if name in entry["tables"]]
    found = dict.fromkeys(_OF_AGENTS, _NO_NUMBERS) | _study_with_targets(entry, AGENTS, there, _AGENTS_FIGURES)
    return found | {AGENTS_SELF_PLAY: found[AGENTS_SELF_PLAY] + _show(AGENTS, _SELF_PLAY_FIGURES)}


def _pbt(entry: Results | None) -> str:
    """What the comparison with random search came to."""
    return _NO_NUMBERS if entry is None else _study(entry, ("claim", "verdict"))


def _quoted_table(entry: Results, name: str) -> str:
    """A table as the study wrote it, with its caption and its small print."""
    table = entry["tables"][name]
    note = f"\n{table['note']}\n" if table["note"] else ""
    return f"{table['caption']}:\n\n{_table(table['columns'], table['rows'])}{note}"


def _speed(entry: Results) -> str:
    columns = (
        "seeds",
        "random play",
        "play by the policy",
        "training",
        "of random play",
        "of play by the policy",
        "a short update takes",
        "temporaries of training",
    )
    rows = [
        (
            f"{row['seeds']:,}",
            *(f"{row[name]:,}" for name in ("random_play", "play", "training")),
            f"{row['percent_of_random_play']}%",
            f"{row['percent_of_play']}%",
            f"{row['short_update_percent']}% of a full one",
            f"{row['temporaries_mib']:,} MiB a device",
        )
        for row in entry["rows"]
    ]
    return (
        f"{_from(entry)}\nMillion environment steps a second:\n\n{_table(columns, rows)}\n"
        f"The machine does {entry['gflops_per_second']:,} GFLOP/s in products of `[128, 64]` and `[64, 64]`, and "
        f"{entry['billion_tanh_per_second']:,} billion tanh a second, on all its devices.\n"
    )


def _accelerator(entry: Results) -> str:
    """The tables of one kind of devices: our own programs, and other codes where they were measured beside them."""
    peers = entry["peers"]
    beside = "" if peers is None else "\n" + _peers({"command": entry["speed"]["command"], **peers})
    return _speed(entry["speed"]) + beside


def _language(entry: Results) -> str:
    """The table of the language models on one kind of devices."""
    rows = [
        (
            row["shape"],
            row["measure"],
            f"{row['responses']} x {row['response_length']}",
            row["dtype"],
            "does not fit" if row["tokens_per_second"] is None else _format_rate(row["tokens_per_second"]),
            "" if row["percent_of_matrix_rate"] is None else f"{row['percent_of_matrix_rate']}%",
        )
        for row in entry["rows"]
    ]
    columns = ("shape", "measure", "responses", "dtype", "tokens a second", "of the matrix rate")
    return (
        f"{_from(entry)}\n{_table(columns, rows)}\nSquare products reach {entry['gflops_per_second']:,} GFLOP/s on "
        "one of its devices.\n"
    )


def _format_rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:g}"


def _peers(entry: Results) -> str:
    rows = [
        (
            row["code"],
            f"{row['million_env_steps_per_second']:,}",
            "" if row["compile_seconds"] is None else f"{row['compile_seconds']:,} s",
            "" if row["training_is_times_this"] is None else f"{row['training_is_times_this']:,} times as fast",
        )
        for row in entry["rows"]
    ]
    return _from(entry) + "\n" + _table(("code", "million env steps a second", "compile", "ours is"), rows)


def _race(entry: Results) -> str:
    rows = [
        (
            row["code"],
            f"{row['seeds_at_475']} of {row['seeds']}",
            _seconds(row),
            f"{row['whole_seconds']:,} s",
            row["ours_takes"],
        )
        for row in entry["rows"]
    ]
    columns = ("code", "seeds at 475", "until all are", "whole command", "ours takes")
    return _from(entry) + "\n" + _table(columns, rows)


def _seconds(row: Results) -> str:
    return "not all get there" if row["seconds"] is None else f"{row['seconds']:,} s"


def _from(entry: Results) -> str:
    return f"`{entry['command']}` ({entry['date']}, {entry['devices']}).\n"


def _or(value: float | None, word: str) -> str:
    return word if value is None else f"{value:,}"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(cells)} |\n".replace("|  |", "| |") for cells in lines)
