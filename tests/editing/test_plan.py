"""When what is edited and trained."""

from collections import Counter

import pytest

from ntalker_ns.editing.plan import EditConfig, EditPlan, Strength, make_plan
from ntalker_ns.errors import NTalkerError


def test_the_papers_edit_takes_eighty_thousand_steps():
    plan = make_plan(EditConfig())
    assert plan.rounds == [0, 20_000, 40_000, 60_000]
    assert plan.total_steps == 80_000
    edits = {step: plan.edit_before(step) for step in (0, 1, 20_000, 40_000, 60_000)}
    assert edits[1] is None
    assert edits[60_000] is None
    for number, step, strength in ((1, 0, (3.0, 10)), (2, 20_000, (4.5, 15)), (3, 40_000, (6.0, 20))):
        edit = edits[step]
        assert edit is not None
        assert (edit.number, len(edit.frames), edit.original_condition) == (number, 200, False)
        assert edit.strength == Strength(*strength, 20)
    assert not plan.on_lips(59_999)
    assert plan.on_lips(60_000)


def test_one_time_edits_once_at_the_upper_bounds_for_the_same_budget():
    plan = make_plan(EditConfig(strategy="one-time"))
    assert plan.total_steps == 80_000
    assert [step for step in range(0, 60_001, 500) if plan.edit_before(step)] == [0]
    edit = plan.edit_before(0)
    assert edit is not None
    assert edit.strength == Strength(6.0, 20, 20)


def test_iterative_edits_every_frame_equally_often_at_random_steps():
    config = EditConfig(strategy="iterative", num_frames=7, epochs=60, lip_epochs=10, interval=5)
    plan = make_plan(config)
    assert plan.total_steps == 70 * 7
    edits = [edit for step in range(plan.total_steps) if (edit := plan.edit_before(step))]
    assert len(edits) == 60 * 7 // 5
    assert set(Counter(edit.frames for edit in edits).values()) == {12}
    assert {edit.strength.guidance for edit in edits} == {6.0}
    assert {edit.strength.steps for edit in edits} == set(range(10, 21))
    assert all(edit.original_condition for edit in edits)
    assert make_plan(config).edit_before(35) == plan.edit_before(35)


def test_an_epoch_shows_every_frame_once_and_ranks_differ():
    plan = make_plan(EditConfig(num_frames=9))
    epochs = [
        [plan.frame_of(step, rank) for step in range(9 * epoch, 9 * epoch + 9)] for epoch in (0, 1) for rank in (0, 1)
    ]
    assert all(sorted(epoch) == list(range(9)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert plan.patch_rng(3, 0).integers(1 << 30) == plan.patch_rng(3, 0).integers(1 << 30)
    assert plan.patch_rng(3, 0).integers(1 << 30) != plan.patch_rng(3, 1).integers(1 << 30)


def test_noise_is_shared_or_each_frames_own():
    assert make_plan(EditConfig(seed=5)).seeds((0, 3)) == [5, 5]
    own = make_plan(EditConfig(seed=5, noise="frame"))
    assert len(set(own.seeds((0, 1, 2)))) == 3
    assert own.seeds((2,)) == own.seeds((0, 1, 2))[2:]


def test_bounds_come_from_the_user_then_the_preset_then_the_paper():
    def bounds(config: EditConfig) -> object:
        return make_plan(config, (2.0, 4.0), None).bounds

    assert bounds(EditConfig()) == ((2.0, 4.0), (10, 20))
    assert bounds(EditConfig(guidance=(1.0, 9.0), steps=(3, 4))) == ((1.0, 9.0), (3, 4))


def test_fewer_epochs_than_updates_still_end_at_the_upper_bounds():
    plan = EditPlan(EditConfig(epochs=2, num_frames=5), ((3.0, 6.0), (10, 20)))
    assert plan.rounds == [0, 0, 5, 10]
    first, last = plan.edit_before(0), plan.edit_before(5)
    assert first is not None
    assert last is not None
    assert (first.number, last.number) == (2, 3)
    assert last.strength == Strength(6.0, 20, 20)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"updates": 0}, "--edit.updates must be at least 1, not 0"),
        ({"num_frames": 0}, "--edit.num-frames must be at least 1"),
        ({"patch_size": 8}, "--edit.patch-size must be at least 16"),
        ({"epochs": 0, "lip_epochs": 0}, "nothing to train"),
        ({"guidance": (6.0, 3.0)}, "from 6 to 3"),
        ({"steps": (20, 10)}, "from 20 to 10"),
    ],
)
def test_what_cannot_be_is_said(fields: dict, said: str):
    with pytest.raises(NTalkerError, match=said):
        make_plan(EditConfig(**fields))
