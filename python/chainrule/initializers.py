"""Initialisers: where the weights start. Biases start at zero."""

from __future__ import annotations

from typing import Any, TypeAlias

from chainrule import _core
from chainrule._arguments import named_or_object, positive
from chainrule._core import Activation, Init

InitLike: TypeAlias = str | Init

ZEROS: Any = object()  # in place of an initialiser, where all weights are about to be written


class Normal(Init):
    """Weights from the normal distribution N(0, std²), the same for every layer.

    Parameters
    ----------
    std : float, default 0.01
        Standard deviation, finite and > 0.

    Raises
    ------
    ValueError, TypeError
        If std is not such a number.
    """

    def __init__(self, std: float = 0.01) -> None:
        super().__init__("normal", positive("std", std))

    @property
    def std(self) -> float:
        """Standard deviation."""
        assert self.parameter is not None
        return self.parameter

    def __reduce__(self) -> tuple[type[Normal], tuple[float]]:
        return type(self), (self.std,)

    def __repr__(self) -> str:
        return f"Normal(std={self.std!r})"


class Uniform(Init):
    """Weights from the uniform distribution on [-bound, bound), the same for every layer.

    Parameters
    ----------
    bound : float, default 0.05
        Half the width of the interval, finite and > 0.

    Raises
    ------
    ValueError, TypeError
        If bound is not such a number.
    """

    def __init__(self, bound: float = 0.05) -> None:
        super().__init__("uniform", positive("bound", bound))

    @property
    def bound(self) -> float:
        """Half the width of the interval."""
        assert self.parameter is not None
        return self.parameter

    def __reduce__(self) -> tuple[type[Uniform], tuple[float]]:
        return type(self), (self.bound,)

    def __repr__(self) -> str:
        return f"Uniform(bound={self.bound!r})"


def as_init(given: InitLike) -> Init:
    """Return an initialiser from itself or its name."""
    return named_or_object("init", given, Init, _core.init_names, Init, "an initialiser such as Normal(std=0.1)")


def default_init(activation: Activation) -> Init:
    """Return He's rule for the ReLU family, which lets half of its input through, and Xavier's for the others."""
    return Init("he" if activation.rectifier else "xavier")
