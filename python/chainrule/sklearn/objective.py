"""Losses of the core with the factors that make them scikit-learn's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import xlogy

from chainrule._core import Loss
from chainrule.losses import as_loss


@dataclass(frozen=True)
class Objective:
    """What a fit makes small, from a loss L of the core.

    The value that is reported is ``value · L + constant``; what the gradient is of, ``weight · L``. The two factors
    differ for scikit-learn's squared error alone: its value is a mean over the outputs, its gradient that of the sum.
    """

    loss: Loss
    value: float = 1.0
    weight: float = 1.0
    deviance: bool = False  # counted from the loss of a perfect prediction

    def constant(self, y: npt.NDArray[Any], sample_weight: npt.NDArray[Any] | None) -> float:
        """What has to be added for these targets."""
        if not self.deviance:
            return 0.0
        return float(np.average((xlogy(y, y) - y).reshape(len(y), -1).sum(axis=1), weights=sample_weight))


def log_loss(y_type: str, outputs: int) -> Objective:
    """Cross-entropy of one class out of several, or the sum of each output's own."""
    if y_type == "multiclass":
        return Objective(as_loss("cross_entropy"))
    return Objective(as_loss("bce"), outputs, outputs)


def regression_loss(loss: str | Loss, outputs: int) -> Objective:
    """scikit-learn's losses by their names, and those of the core as they are."""
    if loss == "squared_error":
        return Objective(as_loss("mse"), 0.5, outputs / 2)
    if loss == "poisson":
        return Objective(as_loss("poisson"), outputs, outputs, deviance=True)
    return Objective(as_loss(loss))
