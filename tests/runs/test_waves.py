import pytest

from haepo_jax.config.members import Member
from haepo_jax.runs.waves import make_next_wave

MEMBERS = tuple(Member(index, index, {}) for index in range(10, 30))


def waves(directory, capacity):
    """`(first, end, folder, sources)` of every wave of the group, in order."""
    done, result = 0, []
    while done < len(MEMBERS):
        wave = make_next_wave(MEMBERS, done, capacity, directory)
        assert wave.members == MEMBERS[done : done + len(wave.members)] and wave.members
        sources = [(source.directory.name, wave.indices.start - source.members.start) for source in wave.sources]
        result.append((wave.members[0].index, wave.members[-1].index + 1, wave.directory.name, sources))
        done += len(wave.members)
    return result


@pytest.fixture
def saved(tmp_path):
    def make(*ranges):
        for first, end in ranges:
            (tmp_path / f"members-{first:06d}-{end:06d}").mkdir()
        return tmp_path

    return make


def test_a_group_that_fits_is_one_wave(tmp_path):
    assert waves(tmp_path / "none", 64) == [(10, 30, "members-000010-000030", [])]


def test_a_larger_group_runs_in_waves_and_the_last_may_be_smaller(saved):
    assert [wave[:2] for wave in waves(saved(), 8)] == [(10, 18), (18, 26), (26, 30)]


def test_a_wave_resumes_from_its_own_folder(saved):
    assert waves(saved((10, 18), (18, 26)), 8)[1] == (
        *(18, 26, "members-000018-000026"),
        [("members-000018-000026", 0)],
    )


def test_with_fewer_devices_a_wave_splits_and_begins_in_the_midst_of_its_old_folder(saved):
    old = "members-000010-000026"
    assert waves(saved((10, 26)), 8) == [
        (10, 18, "members-000010-000018", [(old, 0)]),
        (18, 26, "members-000018-000026", [(old, 8)]),
        (26, 30, "members-000026-000030", []),
    ]


def test_with_more_devices_a_wave_does_not_reach_beyond_what_was_saved_together(saved):
    assert [wave[:2] for wave in waves(saved((10, 18)), 64)] == [(10, 18), (18, 30)]


def test_nor_into_what_another_folder_holds(saved):
    assert [wave[:2] for wave in waves(saved((18, 26)), 64)] == [(10, 18), (18, 26), (26, 30)]


def test_the_narrower_of_two_folders_is_the_later_one(saved):
    (first, second, _) = waves(saved((10, 26), (10, 18)), 16)
    assert first == (10, 18, "members-000010-000018", [("members-000010-000018", 0), ("members-000010-000026", 0)])
    assert second == (18, 26, "members-000018-000026", [("members-000010-000026", 8)])


def test_folders_of_other_groups_and_files_do_not_matter(saved):
    directory = saved((0, 10), (30, 40))
    (directory / "members-000010-000030_damaged").mkdir()
    assert [wave[:2] for wave in waves(directory, 64)] == [(10, 30)]
