"""The choice of a microbatch, with made-up needs of memory."""

import dataclasses

import pytest

from haepo_jax.language.config import LanguageConfig
from haepo_jax.language.training.fitting import fit_to_memory, list_candidates


def of(gradient="smallest", microbatch=0, num_samples=6):
    config = LanguageConfig()
    rl = dataclasses.replace(
        config.rl, gradient=gradient, microbatch=microbatch, num_prompts=2, num_samples=num_samples
    )
    return dataclasses.replace(config, rl=rl)


def chosen(config, room, **needs):
    """Way and size, where a response takes 10 bytes of `two_pass`, and more of `one_shot`."""

    def count(config):
        each = {"one_shot": 20, "two_pass": 10}[config.rl.gradient]
        return None if config.rl.microbatch == 12 and needs.get("refused") else each * config.rl.microbatch

    rl = fit_to_memory(config, count, room).rl
    return rl.gradient, rl.microbatch


def test_candidates_need_less_and_less():
    assert [(one.rl.gradient, one.rl.microbatch) for one in list_candidates(of())] == [
        ("one_shot", 12),
        *(("two_pass", size) for size in (12, 6, 3, 2, 1)),
    ]
    only = [(one.rl.gradient, one.rl.microbatch) for one in list_candidates(of("one_shot"))]
    assert only == [("one_shot", size) for size in (12, 6, 3, 2, 1)]


@pytest.mark.parametrize(
    ("room", "expected"),
    [(1000, ("one_shot", 12)), (239, ("two_pass", 12)), (65, ("two_pass", 6)), (29, ("two_pass", 2))],
)
def test_the_largest_that_fits_is_chosen(room, expected):
    assert chosen(of(), room) == expected


def test_where_nothing_fits_one_response_at_a_time_is_left():
    assert chosen(of(), 5) == ("two_pass", 1)


def test_what_the_compiler_refuses_does_not_fit():
    assert chosen(of(), 1000, refused=True) == ("two_pass", 6)


def test_a_microbatch_that_was_given_stays():
    assert chosen(of(microbatch=5), 0) == ("smallest", 5)
