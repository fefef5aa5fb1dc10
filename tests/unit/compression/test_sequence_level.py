"""The teacher's translations come back in the order of the sources, and survive an interruption."""

import pytest

from optops.compression.distillation.sequence_level import closest, interpolated_targets, teacher_targets

SOURCES = [[4] * (1 + index % 7) + [index] for index in range(25)]


class Teacher:
    """Reverses what it reads; may fail at a call, and remembers what it was asked."""

    def __init__(self, fails_at=None):
        self.calls, self.fails_at = [], fails_at

    def __call__(self, batch):
        if len(self.calls) == self.fails_at:
            raise ConnectionError("killed")
        self.calls.append(batch)
        return [source[::-1] for source in batch]


def run(folder, teacher, name="teacher-1 beam 4", sources=SOURCES, **changes):
    return teacher_targets(sources, teacher, teacher=name, folder=folder, **({"shard_size": 4} | changes))


def test_each_source_gets_its_translation_in_batches_of_similar_length(tmp_path):
    teacher, reports = Teacher(), []
    targets = run(tmp_path, teacher, report=lambda done, total: reports.append((done, total)))
    assert targets == [source[::-1] for source in SOURCES]
    lengths = [len(source) for batch in teacher.calls for source in batch]
    assert lengths == sorted(lengths, reverse=True)
    assert [len(batch) for batch in teacher.calls] == [4] * 6 + [1]
    assert (reports[0], reports[-1]) == ((4, 25), (25, 25))


def test_an_interrupted_run_translates_only_what_is_missing(tmp_path):
    with pytest.raises(ConnectionError):
        run(tmp_path, Teacher(fails_at=3))
    teacher = Teacher()
    assert run(tmp_path, teacher) == [source[::-1] for source in SOURCES]
    assert len(teacher.calls) == 7 - 3
    again = Teacher()
    run(tmp_path, again)
    assert again.calls == []


def test_a_damaged_shard_is_made_again(tmp_path, caplog):
    run(tmp_path, Teacher())
    shards = sorted(tmp_path.iterdir())
    shards[1].write_text(shards[1].read_text()[:-20])
    shards[2].write_text(shards[2].read_text().replace("4", "5", 1))
    teacher = Teacher()
    assert run(tmp_path, teacher) == [source[::-1] for source in SOURCES]
    assert len(teacher.calls) >= 1
    assert "damaged" in caplog.text


def test_shards_of_another_teacher_or_other_sources_are_not_used(tmp_path):
    run(tmp_path, Teacher())
    other = Teacher()
    run(tmp_path, other, name="teacher-2 beam 4")
    assert len(other.calls) == 7
    changed = Teacher()
    run(tmp_path, changed, name="teacher-2 beam 4", sources=[[9], *SOURCES[1:]])
    assert changed.calls


def test_a_translation_too_few_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="gave 3 translations for 4 sources"):
        run(tmp_path, lambda batch: batch[1:])


def test_the_interpolated_target_is_the_hypothesis_closest_to_gold_and_the_teachers_favourite_of_equals():
    options = [[5, 6, 7, 8], [5, 6, 9, 9], [5, 6, 7, 9, 10]]
    assert closest(options, [5, 6, 7, 9]) == [5, 6, 7, 9, 10]
    assert closest(options, [5, 6, 7, 8]) == [5, 6, 7, 8]
    assert closest([[4, 5], [5, 4]], [11, 12]) == [4, 5]
    with pytest.raises(ValueError, match="no hypothesis"):
        closest([], [5])


def test_interpolated_targets_follow_the_gold_of_each_source_and_are_kept(tmp_path):
    gold = [source if index % 2 else source[::-1] for index, source in enumerate(SOURCES)]
    calls = []

    def both_ways(batch):
        calls.append(batch)
        return [[source, source[::-1]] for source in batch]

    def run_again(targets):
        return interpolated_targets(SOURCES, targets, both_ways, teacher="t", folder=tmp_path, shard_size=4)

    assert run_again(gold) == gold
    assert len(calls) == 7
    assert run_again(gold) == gold
    assert len(calls) == 7
    assert run_again(SOURCES) == SOURCES
    assert len(calls) > 7


def test_interpolation_without_a_target_for_each_source_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="25 sources but 24 targets"):
        interpolated_targets(SOURCES, SOURCES[1:], lambda batch: [], teacher="t", folder=tmp_path)
