"""Losses of the core with the factors that make them scikit-learn's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import xlogy

from chainrule._core import Loss
from chainrule.distributed import Communicator, of_all
from chainrule.losses import as_loss
from chainrule.sklearn.samples import Samples


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

    @property
    def per_target(self) -> int:
        """How many outputs the network has for each target."""
        return len(self.loss.parameters) if self.loss.name == "quantile" else 1

    def reported(self, comm: Communicator | None, samples: Samples | None) -> Callable[[float], float]:
        """Give the function that makes the value to report of L over these samples, those of all processes."""
        constant = self._constant_over(comm, samples) if self.deviance and samples is not None else 0.0
        return lambda loss: self.value * loss + constant

    def _constant_over(self, comm: Communicator | None, samples: Samples) -> float:
        """What has to be added for the targets of these samples."""
        y = samples.y
        each = (xlogy(y, y) - y).reshape(len(y), -1).sum(axis=1)
        return mean_over(comm, lambda: float(np.average(each, weights=samples.sample_weight)), samples)


def sum_over(comm: Communicator | None, number: float) -> float:
    """Add up a number of each process."""
    return number if comm is None else sum(of_all(comm, number))


def mean_over(comm: Communicator | None, mean: Callable[[], float], samples: Samples) -> float:
    """Average a mean of each process by the weights of their samples: it is not asked for where all are zero."""
    weight = samples.total_weight
    total = sum_over(comm, weight)
    if total == 0:
        raise ValueError(
            "sample_weight is zero for all samples to train on, or for all that are held out; expected one > 0"
        )
    return mean() if comm is None else sum_over(comm, mean() * weight if weight else 0.0) / total


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
    return Objective(as_loss("mae" if loss == "absolute_error" else loss))
