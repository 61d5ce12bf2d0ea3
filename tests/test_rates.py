"""The learning rate of every step by formulas, when a training ends early, and which schedules cannot be."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cxrkit.base.errors import UserError
from cxrkit.runs.config import TrainConfig
from cxrkit.runs.sections import ScheduleSettings
from cxrkit.trainers.plateau import Best
from cxrkit.trainers.rates import check, rate, stops

STEPS = 10


def of_all_steps(schedule: ScheduleSettings, lr: float = 0.1) -> list[float]:
    return [rate(schedule, lr, step, STEPS) for step in range(schedule.epochs * STEPS)]


def test_the_default_is_the_rate_that_the_plateaus_have_left() -> None:
    """The same double, not one that is computed again."""
    assert set(of_all_steps(ScheduleSettings(epochs=3), 0.1 * 0.5**3)) == {0.1 * 0.5**3}


def test_cosine_as_mae_has_it() -> None:
    """util/lr_sched.py of facebookresearch/mae, with `epoch` counted in parts: He et al. 2022."""
    schedule = ScheduleSettings(name="cosine", epochs=6, warmup_epochs=2.5, min_lr=0.004)

    def expected(epoch: float, lr: float = 0.1) -> float:
        if epoch < 2.5:
            return lr * epoch / 2.5
        return 0.004 + (lr - 0.004) * 0.5 * (1.0 + math.cos(math.pi * (epoch - 2.5) / (6 - 2.5)))

    found = of_all_steps(schedule)
    np.testing.assert_allclose(found, [expected(step / STEPS) for step in range(60)], rtol=1e-12, atol=1e-15)
    assert found[0] == 0
    assert found[25] == 0.1
    assert 0.004 < found[-1] < 0.0044


def test_cosine_without_a_warm_up_falls_from_the_first_step_and_is_half_way_in_the_middle() -> None:
    found = of_all_steps(ScheduleSettings(name="cosine", epochs=4))
    assert found[0] == 0.1
    assert found[20] == pytest.approx(0.05)
    assert found == sorted(found, reverse=True)


def test_warm_up_to_a_constant_rate() -> None:
    schedule = ScheduleSettings(name="constant", epochs=3, warmup_epochs=0.5, warmup_from=0.02)
    expected = [0.02, 0.036, 0.052, 0.068, 0.084, *[0.1] * 25]
    np.testing.assert_allclose(of_all_steps(schedule), expected, rtol=1e-12)


def test_warm_up_before_plateaus_rises_to_what_they_have_left() -> None:
    schedule = ScheduleSettings(epochs=4, warmup_epochs=2)
    assert rate(schedule, 0.1, 10, STEPS) == pytest.approx(0.05)
    assert rate(schedule, 0.05, 10, STEPS) == pytest.approx(0.025)
    assert rate(schedule, 0.05, 20, STEPS) == 0.05


@pytest.mark.parametrize(
    ("patience", "best", "epoch", "expected"),
    [
        (0, 1, 29, False),
        (0, 1, 30, True),
        (3, 0, 0, False),
        (3, 5, 7, False),
        (3, 5, 8, True),
        (3, 0, 8, False),
        (30, 29, 30, True),
    ],
)
def test_when_a_training_ends(patience: int, best: int, epoch: int, expected: bool) -> None:
    assert stops(ScheduleSettings(epochs=30, stop_patience=patience), Best(best, 0.5), epoch) == expected


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"schedule.warmup_epochs": 3.0},
            "--warmup-epochs 3: the training has --epochs 3, and would end before the learning rate has risen\n"
            "  remedy: give less than 3, or more epochs",
        ),
        (
            {"schedule.min_lr": 0.2},
            "--set schedule.min_lr=0.2: above the learning rate, --lr 0.1\n  remedy: give min_lr a value of at most",
        ),
        ({"schedule.warmup_from": 0.2}, "--set schedule.warmup_from=0.2: above the learning rate, --lr 0.1"),
    ],
)
def test_schedules_whose_parts_do_not_fit_are_refused(values: dict[str, float], message: str) -> None:
    config = TrainConfig().with_values({"optimizer.lr": 0.1, "schedule.epochs": 3})
    check(config)
    with pytest.raises(UserError) as caught:
        check(config.with_values(values))
    assert message in str(caught.value)
