"""Backpropagation's gradient against central differences."""

from __future__ import annotations

from dataclasses import dataclass

import numpy.typing as npt

import chainrule
from chainrule._table import Table


@dataclass(frozen=True)
class ParameterError:
    """How far the two gradients of one parameter tensor lie apart.

    Attributes
    ----------
    name : str
        "layers.0.weight", "layers.0.bias", ...
    relative_error : float
        ``‖g - d‖ / max(‖g‖, ‖d‖)``, with backpropagation's gradient g and the differences d; NaN where one of them is
        not finite.
    """

    name: str
    relative_error: float


@dataclass(frozen=True)
class GradientCheckReport:
    """Backpropagation's gradient against central differences: what :meth:`MLP.check_gradients` returns.

    ``print`` it for the table.

    Attributes
    ----------
    max_relative_error : float
        The largest of `parameters`, or NaN if there is one. With dtype float64 mostly 1e-10 to 1e-7, the rounding of
        the differences; with float32 mostly 1e-7 to 1e-6, the rounding of the gradient itself. With both more where a
        gradient has nearly vanished: some 1e-5 through seven layers of sigmoids.
    parameters : list of ParameterError
        A row per parameter tensor, W_1, b_1, W_2, ...
    backprop_seconds : float
        Time that the one forward and backward pass took.
    differences_seconds : float
        Time that the differences took.
    forward_passes : int
        Forward passes that the differences took: two a parameter.
    """

    max_relative_error: float
    parameters: list[ParameterError]
    backprop_seconds: float
    differences_seconds: float
    forward_passes: int

    def __str__(self) -> str:
        return (
            f"{self._table()}\n\n"
            f"largest relative error {self.max_relative_error:.2e}\n"
            f"backpropagation        {self.backprop_seconds:.3g} s, one forward and one backward pass\n"
            f"central differences    {self.differences_seconds:.3g} s, {self.forward_passes:,} forward passes"
        )

    def _repr_html_(self) -> str:
        return self._table()._repr_html_()

    def _table(self) -> Table:
        return Table(
            ("parameter", "relative error"), [(row.name, f"{row.relative_error:.2e}") for row in self.parameters]
        )


def check_gradients(
    self: chainrule.MLP, X: npt.ArrayLike, y: npt.ArrayLike, sample_weight: npt.ArrayLike | None = None
) -> GradientCheckReport:
    """Compare backpropagation's gradient with central differences, parameter by parameter.

    The differences are ``(L(θ + h e_i) - L(θ - h e_i)) / 2h`` with ``h = 1e-6``, always in float64: two forward
    passes a parameter. Parameters, gradients and the kept activations of the network stay as they were.

    Parameters
    ----------
    X : array-like of shape (n, d_0)
        Samples as rows, finite.
    y : array-like of shape (n, d_L), or (n,)
        Their targets; see the Notes of `MLP`.
    sample_weight : array-like of shape (n,), optional
        Weight of each sample; equal by default.

    Returns
    -------
    GradientCheckReport
        Relative error of each parameter tensor, and what both ways cost. ``print`` gives the table.

    Raises
    ------
    ValueError, TypeError
        If an argument does not fit.
    """
    check = self._model.check_gradients(X, y, sample_weight)
    return GradientCheckReport(
        max_relative_error=check["max_relative_error"],
        parameters=[ParameterError(**row) for row in check["parameters"]],
        backprop_seconds=check["backprop_seconds"],
        differences_seconds=check["differences_seconds"],
        forward_passes=check["forward_passes"],
    )
