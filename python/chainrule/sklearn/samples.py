"""Samples as the core takes them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt


class Samples(NamedTuple):
    """Rows of X, dense or CSR, their targets, and their weights or None."""

    X: Any
    y: npt.NDArray[Any]
    sample_weight: npt.NDArray[np.floating[Any]] | None

    def given(self) -> tuple[Any, ...]:
        """Give those that there are."""
        return self if self.sample_weight is not None else self[:2]

    def take(self, rows: Any) -> Samples:
        """Give some of the rows, copies where they are given by their numbers."""
        X, y, sample_weight = self
        return Samples(X[rows], y[rows], None if sample_weight is None else sample_weight[rows])

    @property
    def total_weight(self) -> float:
        """Sum of the weights, or the number of samples without."""
        return float(len(self.y) if self.sample_weight is None else self.sample_weight.sum())


def without_subnormals(weight: Any, dtype: npt.DTypeLike) -> Any:
    """Give zeros for weights so small that the core takes them for zeros, and refuses them."""
    return None if weight is None else np.where((weight > 0) & (weight < np.finfo(dtype).tiny), 0, weight)


def check_real_targets(y: npt.NDArray[Any]) -> None:
    """Refuse dates, text and objects, some of which NumPy would turn into numbers."""
    if y.dtype.kind not in "biuf":
        raise TypeError(f"y has dtype {y.dtype}; expected real numbers")


def check_real_inputs(X: Any) -> None:
    """Refuse arrays of dates and text likewise, with scikit-learn's types of error."""
    dtype = getattr(X, "dtype", None)
    kind = getattr(dtype, "kind", "f")
    if kind in "mMSU":
        raise (TypeError if kind in "mM" else ValueError)(f"X has dtype {dtype}; expected real numbers")
