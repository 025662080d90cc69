"""Schedules: how the learning rate changes in the course of a fit."""

from collections.abc import Callable
from typing import TypeAlias

from chainrule._arguments import named_or_object
from chainrule._core import (
    ConstantRate,
    CosineDecay,
    ExponentialDecay,
    OneCycle,
    Plateau,
    Schedule,
    StepDecay,
    Warmup,
)

ScheduleLike: TypeAlias = str | Schedule

SCHEDULES: dict[str, Callable[[], Schedule]] = {
    "constant": ConstantRate,
    "step": StepDecay,
    "exponential": ExponentialDecay,
    "cosine": CosineDecay,
    "one_cycle": OneCycle,
    "warmup": Warmup,
    "plateau": Plateau,
}


def as_schedule(given: ScheduleLike) -> Schedule:
    """Return a schedule from itself, or one with its default settings from its name."""
    return named_or_object(
        "schedule", given, Schedule, tuple(SCHEDULES), lambda name: SCHEDULES[name](), "one such as StepDecay(10)"
    )


__all__ = [
    "ConstantRate",
    "CosineDecay",
    "ExponentialDecay",
    "OneCycle",
    "Plateau",
    "Schedule",
    "ScheduleLike",
    "StepDecay",
    "Warmup",
    "as_schedule",
]
