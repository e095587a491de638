"""Tokens a second of a decoder that is small enough to measure here."""

import jax
import jax.numpy as jnp
import pytest

from experiments.benchmarks import language
from haepo_jax.language.model.architecture import make_architecture
from haepo_jax.language.training import memory
from haepo_jax.language.training.memory import Case

CASE = Case("40M", "haepo", "chunked", 2, 4, 32)


@pytest.fixture
def tiny(monkeypatch):
    def make(shape, vocab_size):
        sizes = {"hidden_size": 8, "num_layers": 1, "num_heads": 2, "num_kv_heads": 1, "intermediate_size": 8}
        return make_architecture("qwen3", head_dim=4, vocab_size=vocab_size, rope_theta=1e4, max_length=99, **sizes)

    for module in (language, memory):
        monkeypatch.setattr(module, "make_architecture_of_shape", make)


@pytest.mark.slow
def test_each_measure_has_a_rate_and_its_share_of_the_matrix_rate(tiny):
    rate = language.measure_matrix_rate(jnp.dtype("float32"), 1)
    rows = language.measure_rows(CASE, jnp.dtype("float32"), repeats=2, matrix_rate=rate)
    assert [row["measure"] for row in rows] == ["sampling", "scoring", "learning"]
    for row in rows:
        assert row["tokens_per_second_least"] <= row["tokens_per_second"] <= row["tokens_per_second_most"]
        assert 0 < row["flop_utilisation"] < 1
    # 32 x 8 embedding, head as large, 8 x (8 + 4 + 4) + 8 x 8 + 3 x 8 x 8, norms of 8, 8, 4, 4 and 8.
    assert language._count_parameters(CASE) == 256 + 256 + 128 + 64 + 192 + 32
    seconds = 8 / rows[2]["tokens_per_second"]
    computed = 2 * (memory.PROMPT_LENGTH + 4)
    assert rows[2]["flop_utilisation"] == pytest.approx(8 * 928 * computed / seconds / rate)


@pytest.mark.slow
def test_what_the_memory_does_not_hold_is_left_out(tiny, monkeypatch):
    monkeypatch.setattr(language, "_usable_bytes", lambda: 1000)
    rows = language.measure_rows(CASE, jnp.dtype("float32"), repeats=1, matrix_rate=1.0)
    assert all(row["needs_bytes"] > 900 and "tokens_per_second" not in row for row in rows)


@pytest.mark.parametrize(("backend", "expected"), [("cpu", 24), ("gpu", 3)])
def test_the_one_device_that_is_used_has_what_the_others_leave(monkeypatch, backend, expected):
    monkeypatch.setattr(language, "device_bytes", lambda: 3)
    monkeypatch.setattr(language.host, "memory_bytes", lambda: 24)
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    assert language._usable_bytes() == expected


def test_the_table_says_what_does_not_fit(monkeypatch):
    monkeypatch.setattr(language, "_usable_bytes", lambda: 2**30)
    common = {"shape": "0.6B", "responses": 64, "response_length": 512}
    rates = {"tokens_per_second": 1234.5, "tokens_per_second_least": 1000.0, "tokens_per_second_most": 2000.0}
    rows = [
        {"measure": "scoring", "flop_utilisation": 0.251, "compile_seconds": 3.0, **common, **rates},
        {"measure": "learning", "needs_bytes": 3 * 2**30, **common},
    ]
    first, second = language.format_rows(rows)
    assert first == ("0.6B", "scoring", "64 x 512", "1,234", "1,000 to 2,000", "25.1%", "3.0 s")
    assert second[:3] == ("0.6B", "learning", "64 x 512") and second[3].startswith("needs 3")
    assert len(first) == len(second) == len(language.COLUMNS)
