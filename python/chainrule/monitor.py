"""The gradient flow of a whole fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from chainrule import _core, plots
from chainrule._arguments import integer
from chainrule._extras import optional_package
from chainrule._json import jsonable
from chainrule._names import parameter_names
from chainrule._table import Table
from chainrule._types import Axes
from chainrule.diagnosis import Finding
from chainrule.gradient_flow import GradientFlowReport, report_of

if TYPE_CHECKING:
    from chainrule._core import FlowRows
    from chainrule.mlp import MLP

PARAMETER_FIGURES = ("mean_abs", "max_abs", "norm", "update_ratio", "zeros", "nan", "inf")
LAYER_FIGURES = ("saturated", "dead", "activation_mean", "activation_variance", "delta_norm")
FIGURES = [*PARAMETER_FIGURES, *LAYER_FIGURES]
SPARKS = "▁▂▃▄▅▆▇█"
SPARKLINE_WIDTH = 32


class GradientFlow:
    """Records the gradient flow of a fit: pass it as ``fit(..., monitor=flow)``, and look at it then or later.

    A recorded step takes its figures while gradient and activations are at hand; other steps cost nothing. Steps that a
    fit leaves out because they are not finite count, and are recorded with the NaN and infinities that they hold.
    Several fits of networks of the same layers and activations add up. ``print`` it for a table with sparklines.

    Parameters
    ----------
    every : int or None, default 1
        Record every so many steps; None records the last step of each epoch.

    Raises
    ------
    ValueError, TypeError
        If every is not a positive integer or None.

    Attributes
    ----------
    every : int or None
        What was given.
    steps : ndarray of int, (k,)
        The steps that were recorded, counted from 1.
    names : list of str
        "layers.0.weight", "layers.0.bias", ...; empty before the first fit.
    mean_abs, max_abs, norm, update_ratio, zeros, nan, inf : ndarray of float, (k, 2L)
        The figures of `ParameterFlow`, by step and tensor; NaN where there is none.
    loss : ndarray of float, (k,)
        Loss of each of them.
    saturated, dead, activation_mean, activation_variance, delta_norm : ndarray of float, (k, L)
        The figures of `LayerFlow`, by step and layer; NaN where there is none.

    Examples
    --------
    >>> import chainrule as cr
    >>> flow = cr.GradientFlow()
    >>> mlp = cr.MLP([2, 4, 1], hidden_activation="tanh", loss="bce", seed=0)
    >>> _ = mlp.fit([[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0], epochs=100, monitor=flow)
    >>> flow.norm.shape
    (100, 4)
    """

    mean_abs: npt.NDArray[np.float64]
    max_abs: npt.NDArray[np.float64]
    norm: npt.NDArray[np.float64]
    update_ratio: npt.NDArray[np.float64]
    zeros: npt.NDArray[np.float64]
    nan: npt.NDArray[np.float64]
    inf: npt.NDArray[np.float64]
    saturated: npt.NDArray[np.float64]
    dead: npt.NDArray[np.float64]
    activation_mean: npt.NDArray[np.float64]
    activation_variance: npt.NDArray[np.float64]
    delta_norm: npt.NDArray[np.float64]

    def __init__(self, every: int | None = 1) -> None:
        self._record = _core.FlowRecord(None if every is None else integer("every", every, 1, 2**63 - 1))
        self._activations: list[str] = []
        self._layer_sizes: tuple[int, ...] = ()
        self._loss_name = ""

    @property
    def every(self) -> int | None:
        """Record every so many steps, or the last of each epoch."""
        return self._record.every

    @property
    def steps(self) -> npt.NDArray[np.int64]:
        """The recorded steps, from 1."""
        return np.asarray(self._rows()["recorded"], dtype=np.int64)

    @property
    def names(self) -> list[str]:
        """Names of the parameter tensors."""
        return parameter_names(len(self._activations)) if self._record.steps else []

    @property
    def loss(self) -> npt.NDArray[np.float64]:
        """The losses of the recorded steps."""
        return np.asarray(self._rows()["loss"], dtype=np.float64)

    if not TYPE_CHECKING:  # which would take it for any name

        def __getattr__(self, name: str) -> npt.NDArray[np.float64]:
            if name in FIGURES:
                return self._figures(self._rows(), name)
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *FIGURES]

    def report(self, index: int = -1) -> GradientFlowReport:
        """Return the report of one recorded step.

        Parameters
        ----------
        index : int, default -1
            Which of `steps`; the last by default. It alone has the histograms of the activations, with ``every=1`` and
            None once the fit is over.

        Raises
        ------
        RuntimeError
            If nothing has been recorded yet.
        IndexError, TypeError
            If there are fewer steps, or index is no integer.
        """
        count = self._recorded()
        index = integer("index", index, -(2**63), 2**63 - 1)
        if not -count <= index < count:
            raise IndexError(f"index is {index}; {count} steps have been recorded")
        place = index % count
        return self._report(self._record.flows(place, None if place == count - 1 else place + 1))

    def diagnose(self) -> list[Finding]:
        """Say what was wrong at the last recorded step; see `GradientFlowReport.diagnose`."""
        return self.report().diagnose()

    def smallest_gradient(self) -> float:
        """Return the smallest norm of a layer's weight gradient at the last recorded step; NaN before."""
        last = self._record.flows(len(self._record) - 1)["parameters"][-1:]
        norms = last[:, 0::2, PARAMETER_FIGURES.index("norm")]
        return float(norms.min()) if norms.size else float("nan")

    def to_dict(self) -> dict[str, Any]:
        """Return steps, names and all figures as lists, ready for JSON; None for what is not finite."""
        rows = self._rows()
        figures = {name: self._figures(rows, name).tolist() for name in FIGURES}
        steps = {"every": self.every, "steps": rows["recorded"], "loss": rows["loss"], "names": self.names}
        return jsonable({**steps, **figures})

    def to_pandas(self) -> Any:
        """Return a pandas DataFrame with a row per step and parameter tensor, with the figures of its layer beside it.

        Raises
        ------
        ImportError
            Without pandas.
        """
        pandas = optional_package("pandas", "pandas")
        rows = self._rows()
        index = pandas.MultiIndex.from_product([rows["recorded"], self.names], names=["step", "name"])
        parameters = rows["parameters"].reshape(-1, len(PARAMETER_FIGURES))
        layers = rows["layers"].repeat(2, axis=1).reshape(-1, len(LAYER_FIGURES))
        return pandas.DataFrame(np.hstack([parameters, layers]), index=index, columns=FIGURES)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the norm of each layer's weight gradient over the steps, as a heat map on a log scale.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; a new figure's by default.

        Returns
        -------
        matplotlib Axes

        Raises
        ------
        RuntimeError
            If nothing has been recorded yet.
        """
        self._recorded()
        rows = self._rows()
        return plots.flow_over_time(rows["recorded"], self._figures(rows, "norm"), self._not_finite(rows), ax)

    def __str__(self) -> str:
        return f"{self._table()}" if len(self._record) else repr(self)

    def __repr__(self) -> str:
        return f"GradientFlow(every={self.every}, {len(self._record)} of {self._record.steps} steps recorded)"

    def _repr_html_(self) -> str:
        return self._table()._repr_html_() if len(self._record) else f"<p>{self!r}</p>"

    def _table(self) -> Table:
        rows = self._rows()
        steps = rows["recorded"]
        norms, ratios = (self._figures(rows, name)[:, 0::2] for name in ("norm", "update_ratio"))
        norms = np.where(self._not_finite(rows)[:, 0::2], np.nan, norms)
        return Table(
            ("weight", f"norm of dL/dW, steps {steps[0]} to {steps[-1]}", "first", "last", "update/weight"),
            [
                (
                    f"layers.{i}",
                    sparkline(norms[:, i], norms),
                    f"{norms[0, i]:.2e}",
                    f"{norms[-1, i]:.2e}",
                    "-" if np.isnan(ratios[-1, i]) else f"{ratios[-1, i]:.1e}",
                )
                for i in range(norms.shape[1])
            ],
            left=2,
        )

    def _rows(self) -> FlowRows:
        """Return a copy of all that is recorded, at a moment: another thread may be training."""
        return self._record.flows()

    def _figures(self, rows: FlowRows, name: str) -> npt.NDArray[np.float64]:
        """Return the figures of a name, by step and tensor or layer."""
        if name in PARAMETER_FIGURES:
            figures, place, columns = rows["parameters"], PARAMETER_FIGURES.index(name), len(self.names)
        else:
            figures, place, columns = rows["layers"], LAYER_FIGURES.index(name), len(self._activations)
        return figures[:, :, place].reshape(len(figures), columns)

    def _not_finite(self, rows: FlowRows) -> npt.NDArray[np.bool_]:
        """Tell by step and tensor where the gradient or the loss is not finite."""
        of_loss = ~np.isfinite(np.asarray(rows["loss"], dtype=np.float64))
        return (self._figures(rows, "nan") + self._figures(rows, "inf") > 0) | of_loss[:, np.newaxis]

    def _report(self, rows: FlowRows) -> GradientFlowReport:
        """Return the report of the last of these steps."""
        return report_of(
            rows["parameters"][-1],
            rows["layers"][-1],
            rows["rows"][-1],
            rows["loss"][-1],
            self._activations,
            self._loss_name,
            self._layer_sizes[-1],
            rows["histograms"],
        )

    def _recorded(self) -> int:
        """Return how many steps have been recorded, or raise a RuntimeError if none has."""
        count = len(self._record)
        if count == 0 and self._record.steps:
            every = "the last of an epoch" if self.every is None else f"every {self.every}"
            raise RuntimeError(f"none of the {self._record.steps} steps has been recorded, but only {every} is")
        if count == 0:
            raise RuntimeError("nothing has been recorded yet; pass this as fit(..., monitor=...) first")
        return count

    def _attach(self, mlp: MLP) -> _core.FlowRecord:
        """Return the core's record for a fit of that network."""
        activations = [activation.name for activation in (*mlp.hidden_activations, mlp.output_activation)]
        if self._record.steps and (self._layer_sizes, self._activations) != (mlp.layer_sizes, activations):
            raise ValueError(
                f"monitor has recorded a network of layers {self._layer_sizes} with {', '.join(self._activations)}; "
                f"this one has {mlp.layer_sizes} with {', '.join(activations)}"
            )
        self._layer_sizes, self._activations, self._loss_name = mlp.layer_sizes, activations, mlp.loss.name
        return self._record


def sparkline(values: npt.NDArray[np.float64], scale: npt.NDArray[np.float64]) -> str:
    """Draw positive values as a row of blocks, on the log scale that all of `scale` spans; a dot for none."""
    finite = scale[np.isfinite(scale) & (scale > 0)]
    if not finite.size:
        return "·" * min(len(values), SPARKLINE_WIDTH)
    low, high = np.log(finite.min()), np.log(finite.max())
    marks = []
    for part in np.array_split(values, min(len(values), SPARKLINE_WIDTH)):
        usable = part[np.isfinite(part) & (part > 0)]
        height = (np.log(usable).mean() - low) / (high - low) if usable.size and high > low else 1.0
        marks.append(SPARKS[min(int(height * len(SPARKS)), len(SPARKS) - 1)] if usable.size else "·")
    return "".join(marks)
