"""Losses: what training makes small."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from chainrule import _core
from chainrule._arguments import named_or_object, positive, shown
from chainrule._core import Loss

LossLike: TypeAlias = str | Loss


class Huber(Loss):
    """Huber's loss: quadratic for small errors, linear for large ones, so that outliers pull with bounded force.

    With the error ``e = a_L - y``, each output of each sample costs ``e²/2`` where ``|e| <= delta``, else
    ``delta · (|e| - delta/2)``. The loss is the mean over samples and outputs.

    Parameters
    ----------
    delta : float, default 1.0
        Where the quadratic part ends, in the unit of y; finite and > 0.

    Raises
    ------
    ValueError, TypeError
        If delta is not such a number.

    References
    ----------
    Huber: Robust estimation of a location parameter. Annals of Mathematical Statistics 35, 1964.
    """

    def __init__(self, delta: float = 1.0) -> None:
        super().__init__("huber", [positive("delta", delta)])

    @property
    def delta(self) -> float:
        """Where the quadratic part ends."""
        return self.parameters[0]

    def __reduce__(self) -> tuple[type[Huber], tuple[float]]:
        return type(self), (self.delta,)

    def __repr__(self) -> str:
        return f"Huber(delta={self.delta!r})"


class Quantile(Loss):
    """The quantile (pinball) loss, for one or several quantiles at once.

    With the error ``e = y - a_L``, quantile τ costs ``max(τ·e, (τ - 1)·e)``; its expectation is smallest where a_L is
    the τ-quantile of y given X. The loss is the mean over samples and outputs.

    Parameters
    ----------
    quantiles : float, or sequence of Q floats, default (0.5,)
        Each strictly between 0 and 1.

    Raises
    ------
    ValueError, TypeError
        If they are not such numbers, or there is none.

    Notes
    -----
    For t targets the network has ``t·Q`` outputs, and output ``k·Q + q`` is quantile q of target k; y has shape (n, t).

    References
    ----------
    Koenker, Bassett: Regression quantiles. Econometrica 46, 1978.

    Examples
    --------
    >>> import chainrule as cr
    >>> median_and_interval = cr.MLP([3, 32, 3], loss=cr.Quantile([0.1, 0.5, 0.9]))
    """

    def __init__(self, quantiles: float | Sequence[float] | npt.NDArray[np.floating] = (0.5,)) -> None:
        try:
            if isinstance(quantiles, str):
                raise TypeError
            values = np.atleast_1d(np.asarray(quantiles, dtype=np.float64))
        except (TypeError, ValueError):
            raise TypeError(f"quantiles is {shown(quantiles)}; expected a number or a sequence of them") from None
        if values.ndim != 1 or values.size == 0:
            raise ValueError(f"quantiles has shape {values.shape}; expected a sequence of at least one number")
        for i, value in enumerate(values):
            if not 0 < value < 1:
                raise ValueError(f"quantiles[{i}] is {value:g}; expected a number strictly between 0 and 1")
        super().__init__("quantile", values.tolist())

    @property
    def quantiles(self) -> tuple[float, ...]:
        """The quantiles τ in the order of the outputs."""
        return tuple(self.parameters)

    def __reduce__(self) -> tuple[type[Quantile], tuple[tuple[float, ...]]]:
        return type(self), (self.quantiles,)

    def __repr__(self) -> str:
        return f"Quantile({list(self.quantiles)})"


def as_loss(given: LossLike) -> Loss:
    """Return a loss from itself or its name."""
    return named_or_object("loss", given, Loss, _core.loss_names, Loss, "a loss such as Huber(delta=2.0)")


def with_class(loss: Loss) -> Loss:
    """Return a loss of the core's as one of its own class, if there is one."""
    if loss.name == "huber":
        return Huber(*loss.parameters)
    return Quantile(loss.parameters) if loss.name == "quantile" else loss


def text(loss: Loss) -> str:
    """Return a name, or for one with other parameters than the default the expression that makes it."""
    if loss.parameters == Loss(loss.name).parameters:
        return repr(loss.name)
    return repr(with_class(loss))
