"""The schedule of an edit: Equation 3, updates, patches."""

from collections import Counter
from fractions import Fraction
from math import floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntalker_ns.editing.plan import EditConfig, EditPlan, Strength, make_plan, progressive_schedule
from ntalker_ns.errors import NTalkerError

PAPER = {"guidance": (3.0, 6.0), "steps": (10, 20)}


@pytest.mark.parametrize(
    ("updates", "expected"),
    [
        (1, [(6.0, 20)]),
        (2, [(3.0, 10), (6.0, 20)]),
        (3, [(3.0, 10), (4.5, 15), (6.0, 20)]),
        (4, [(3.0, 10), (4.0, 13), (5.0, 16), (6.0, 20)]),
    ],
)
def test_the_papers_bounds_give_its_schedule(updates: int, expected: list[tuple[float, int]]):
    found = progressive_schedule(updates, **PAPER)
    assert [(step.guidance, step.steps) for step in found] == expected
    assert {step.full_steps for step in found} == {20}


def test_steps_between_are_rounded_down():
    # 10 + floor(i / 3 * 5): 10, 11.67, 13.33, 15.
    assert [step.steps for step in progressive_schedule(4, (1.0, 2.0), (10, 15))] == [10, 11, 13, 15]
    # 1 / 49 * 49 is 0.9999999999999999 in floating point.
    assert [step.steps for step in progressive_schedule(50, (1.0, 2.0), (1, 50))] == list(range(1, 51))


@given(st.integers(2, 40), st.integers(1, 50), st.integers(0, 60))
def test_steps_are_the_exact_floor_and_rise(updates: int, lowest: int, span: int):
    found = [step.steps for step in progressive_schedule(updates, (1.0, 9.0), (lowest, lowest + span))]
    assert found == [lowest + floor(Fraction(i, updates - 1) * span) for i in range(updates)]
    assert found == sorted(found)


def test_equal_bounds_give_equal_strengths():
    assert progressive_schedule(2, (4.0, 4.0), (7, 7)) == [Strength(4.0, 7, 7)] * 2


@pytest.mark.parametrize(
    ("updates", "guidance", "steps", "said"),
    [
        (0, (3.0, 6.0), (10, 20), "at least one dataset update, not 0"),
        (3, (6.0, 3.0), (10, 20), r"from 6 to 3: check --edit\.guidance"),
        (3, (0.0, 6.0), (10, 20), "from 0 to 6"),
        (3, (3.0, 6.0), (20, 10), r"from 20 to 10: check --edit\.steps"),
        (3, (3.0, 6.0), (0, 10), "from 0 to 10"),
        (1, (3.0, 6.0), (20, 10), "from 20 to 10"),
    ],
)
def test_impossible_bounds_are_errors(updates: int, guidance: tuple[float, float], steps: tuple[int, int], said: str):
    with pytest.raises(NTalkerError, match=said):
        progressive_schedule(updates, guidance, steps)


def test_the_papers_edit_takes_eighty_thousand_steps():
    plan = make_plan(EditConfig())
    assert plan.rounds == [0, 20_000, 40_000, 60_000]
    assert plan.total_steps == 80_000
    edits = {step: plan.update_before(step) for step in (0, 1, 20_000, 40_000, 60_000)}
    assert edits[1] is None
    assert edits[60_000] is None
    for number, step, strength in ((1, 0, (3.0, 10)), (2, 20_000, (4.5, 15)), (3, 40_000, (6.0, 20))):
        edit = edits[step]
        assert edit is not None
        assert (edit.number, edit.step, len(edit.frames), edit.is_whole) == (number, step, 200, True)
        assert edit.strength == Strength(*strength, 20)
    assert not plan.on_lips(59_999)
    assert plan.on_lips(60_000)


def test_one_time_edits_once_at_the_upper_bounds_for_the_same_budget():
    plan = make_plan(EditConfig(strategy="one-time"))
    assert plan.total_steps == 80_000
    assert [step for step in range(0, 60_001, 500) if plan.update_before(step)] == [0]
    edit = plan.update_before(0)
    assert edit is not None
    assert edit.strength == Strength(6.0, 20, 20)


def test_iterative_edits_every_frame_equally_often_at_random_steps():
    config = EditConfig(strategy="iterative", num_frames=7, epochs=60, lip_epochs=10, interval=5)
    plan = make_plan(config)
    assert plan.total_steps == 70 * 7
    edits = list(plan.updates(0, plan.total_steps))
    assert len(edits) == 60 * 7 // 5
    assert set(Counter(edit.frames for edit in edits).values()) == {12}
    assert {edit.strength.guidance for edit in edits} == {6.0}
    assert {edit.strength.steps for edit in edits} == set(range(10, 21))
    assert not any(edit.is_whole for edit in edits)
    assert make_plan(config).update_before(35) == plan.update_before(35)


def test_an_epoch_has_each_frame_once_in_another_order_for_each_process():
    plan = make_plan(EditConfig(num_frames=9))
    epochs = [
        [plan.frame_of(step, rank) for step in range(9 * epoch, 9 * epoch + 9)] for epoch in (0, 1) for rank in (0, 1)
    ]
    assert all(sorted(epoch) == list(range(9)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert plan.patch_rng(3, 0).integers(1 << 30) == plan.patch_rng(3, 0).integers(1 << 30)
    assert plan.patch_rng(3, 0).integers(1 << 30) != plan.patch_rng(3, 1).integers(1 << 30)


def test_frames_share_their_noise_or_have_their_own():
    assert make_plan(EditConfig(seed=5)).seeds((0, 3)) == [5, 5]
    own = make_plan(EditConfig(seed=5, noise="frame"))
    assert len(set(own.seeds((0, 1, 2)))) == 3
    assert own.seeds((2,)) == own.seeds((0, 1, 2))[2:]


def test_bounds_are_the_users_else_the_presets_else_the_papers():
    def bounds(config: EditConfig) -> object:
        return make_plan(config, (2.0, 4.0), None).bounds

    assert bounds(EditConfig()) == ((2.0, 4.0), (10, 20))
    assert bounds(EditConfig(guidance=(1.0, 9.0), steps=(3, 4))) == ((1.0, 9.0), (3, 4))


def test_fewer_epochs_than_updates_still_end_at_the_upper_bounds():
    plan = EditPlan(EditConfig(epochs=2, num_frames=5), ((3.0, 6.0), (10, 20)))
    assert plan.rounds == [0, 0, 5, 10]
    first, last = plan.update_before(0), plan.update_before(5)
    assert first is not None
    assert last is not None
    assert (first.number, last.number) == (2, 3)
    assert last.strength == Strength(6.0, 20, 20)


@pytest.mark.parametrize("steps", [4, 37, 800, 1234])
def test_another_number_of_steps_scales_the_rounds(steps: int):
    config = EditConfig(num_frames=20, epochs=30, lip_epochs=10, scaled_steps=steps)
    plan = make_plan(config)
    assert plan.total_steps == steps
    assert plan.rounds == [steps * part // 4 for part in (0, 1, 2, 3)]
    assert [update.number for update in plan.updates(0, steps)] == [1, 2, 3] and not plan.dropped
    assert all(0 <= plan.frame_of(step, 0) < 20 for step in range(steps))


def test_updates_for_which_there_are_too_few_steps_are_named():
    plan = make_plan(EditConfig(num_frames=20, epochs=30, lip_epochs=10, scaled_steps=2))
    assert [update.number for update in plan.updates(0, 2)] == [2, 3] and plan.dropped == [1]


def test_the_number_of_frames_is_at_most_what_there_is_unless_it_was_asked_for():
    assert EditConfig().fitted(153).frames == 153
    assert EditConfig().fitted(500).frames == 200
    assert EditConfig(num_frames=7).fitted(9).frames == 7
    with pytest.raises(NTalkerError, match=r"--edit\.num-frames 200 is more than the 153 frames"):
        EditConfig(num_frames=200).fitted(153)


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
def test_impossible_options_are_errors(fields: dict, said: str):
    with pytest.raises(NTalkerError, match=said):
        make_plan(EditConfig(**fields))
