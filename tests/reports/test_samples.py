"""The page of samples: what it shows, and that texts stay texts."""

import pyarrow as pa
import pytest
from pyarrow import parquet

from haepo_jax.errors import ConfigError
from haepo_jax.language.stages.samples import SamplesWriter, list_parts, read_samples
from haepo_jax.reports.samples import NEWEST, PROMPTS, render_samples, write_samples_page


def columns(prompts=2, completion="fine"):
    count = 2 * prompts
    return {
        "row": [f"a.jsonl, line {1 + k // 2}" for k in range(count)],
        "prompt": [f"prompt {k // 2}" for k in range(count)],
        "sample": pa.array([0, 1] * prompts, pa.int32()),
        "completion": [f"{completion} {k}" for k in range(count)],
        "reward": pa.array([float(k) for k in range(count)], pa.float32()),
        "reward/exact_match": pa.array([float(k % 2) for k in range(count)], pa.float32()),
        "tokens": pa.array([3] * count, pa.int32()),
        "ended": [k > 0 for k in range(count)],
        "reference_kl": pa.array([0.0] * count, pa.float32()),
    }


def write(workdir, updates, **options):
    writer = SamplesWriter(1)
    for update in updates:
        writer.add(update, columns(**options))
    writer.write(workdir)


def test_every_so_many_updates_are_wanted():
    assert [update for update in range(9) if SamplesWriter(3).wants(update)] == [2, 5, 8]
    assert not any(SamplesWriter(0).wants(update) for update in range(9))


def test_the_parts_of_updates_that_are_done_again_go_when_a_run_begins(tmp_path):
    write(tmp_path, (1, 3, 5))
    SamplesWriter(2).begin(tmp_path, 5)  # updates 0 to 4 are done
    assert [update for update, _ in list_parts(tmp_path)] == [1, 3]
    assert read_samples(tmp_path)["update"].to_pylist() == [1] * 4 + [3] * 4


def test_responses_stand_under_their_prompt_the_best_first(tmp_path):
    write(tmp_path, (1, 3))
    text = write_samples_page(tmp_path).read_text()
    assert text.index("Update 3<") < text.index("Update 1<")
    assert "a.jsonl, line 2: rewards 2 to 3" in text
    first, second = (
        text.index("Reward 3 (exact_match 1), 3 tokens<"),
        text.index("Reward 2 (exact_match 0), 3 tokens<"),
    )
    assert first < text.index("fine 3") < second < text.index("fine 2")
    assert "Reward 0 (exact_match 0), 3 tokens, cut at its length" in text
    assert "2 prompts, 4 responses, mean reward 1.5, 3 tokens, 75% ended by themselves." in text


def test_texts_are_neither_markup_nor_do_they_steer_a_terminal(tmp_path):
    write(tmp_path, (0,), completion="<script>alert(1)</script>\n\x1b[2Jsecond line")
    text = render_samples("run <b>", read_samples(tmp_path))
    assert "<script>" not in text and "\x1b" not in text and "run &lt;b&gt;" in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;\n\\x1b[2Jsecond line 0" in text


def test_a_long_run_has_a_page_of_its_newest_samples(tmp_path):
    write(tmp_path, range(NEWEST + 3), prompts=PROMPTS + 2)
    text = write_samples_page(tmp_path).read_text()
    assert text.count("<section") == NEWEST and "Update 2<" not in text and "Update 3<" in text
    assert text.count("<details>") == NEWEST * PROMPTS


def test_a_run_without_samples_and_a_damaged_part_are_one_sentence(tmp_path):
    with pytest.raises(
        ConfigError, match=r"samples holds no samples; a run writes them with --config.rl.write_samples"
    ):
        write_samples_page(tmp_path)
    write(tmp_path, (1,))
    (tmp_path / "samples" / "part-00000-00000001.parquet").write_bytes(b"PAR1")
    with pytest.raises(ConfigError, match=r"part-00000-00000001.parquet cannot be read: "):
        write_samples_page(tmp_path)


def test_a_part_of_another_run_or_of_another_update_is_refused(tmp_path):
    write(tmp_path, (1, 3))
    first, second = (path for _, path in list_parts(tmp_path))
    for other in (first.read_bytes(), None):
        if other is None:
            parquet.write_table(pa.table({"x": [1]}), second)
        else:
            second.write_bytes(other)
        with pytest.raises(ConfigError, match=r"00000003.parquet is not what this run has written under that name; "):
            write_samples_page(tmp_path)
    second.unlink()
    second.mkdir()
    with pytest.raises(ConfigError, match=r"00000003.parquet cannot be read: .*[^.]\.$"):
        write_samples_page(tmp_path)
