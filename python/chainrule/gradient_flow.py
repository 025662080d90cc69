"""How the gradient runs through the layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from chainrule import plots
from chainrule._extras import optional_package
from chainrule._json import jsonable
from chainrule._names import parameter_names
from chainrule._table import Table
from chainrule._types import Axes
from chainrule.diagnosis import Finding, diagnose

if TYPE_CHECKING:
    from chainrule._core import FlowFigures


@dataclass(frozen=True)
class ParameterFlow:
    """The gradient of one parameter tensor.

    Attributes
    ----------
    name : str
        "layers.0.weight", "layers.0.bias", ...
    mean_abs, max_abs, norm : float
        Mean and largest absolute value, and Euclidean norm, of the gradient's finite entries.
    update_ratio : float or None
        ``‖Δθ‖/‖θ‖`` of the step that followed; 1e-3 or so is usual. None outside a fit, and where θ was zero.
    zeros : float
        Share of the gradient's entries that are exactly zero.
    nan, inf : int
        How many entries are NaN, and how many are infinite.
    """

    name: str
    mean_abs: float
    max_abs: float
    norm: float
    update_ratio: float | None
    zeros: float
    nan: int
    inf: int


@dataclass(frozen=True)
class LayerFlow:
    """One layer's units over the batch; of several processes that train together, over the rows of this one.

    Attributes
    ----------
    name : str
        "layers.0", ...
    activation : str
        Name of the layer's activation.
    saturated : float or None
        For sigmoid and tanh, the share of outputs within 1 % of the activation's range of either end, where σ' is
        nearly zero; None for others.
    dead : float or None
        For relu, the share of units that are zero on the whole batch, so that no gradient reaches their weights;
        None for others.
    activation_mean, activation_variance : float
        Of the outputs a_l, over batch and units.
    delta_norm : float
        Frobenius norm of δ_l = dL/dz_l, which is (n, d_l).
    """

    name: str
    activation: str
    saturated: float | None
    dead: float | None
    activation_mean: float
    activation_variance: float
    delta_norm: float


@dataclass(frozen=True)
class ActivationHistogram:
    """How a layer's outputs a_l are spread over their range.

    Attributes
    ----------
    low, high : float
        The smallest and the largest finite output.
    counts : list of int
        How many fall into each of the even bins between them.
    """

    low: float
    high: float
    counts: list[int]


@dataclass(frozen=True)
class GradientFlowReport:
    """The gradient of one backward pass, layer by layer: what :meth:`MLP.gradient_flow` returns.

    In a healthy network the rows of ``parameters`` are of similar size. Gradients that shrink by a constant factor
    from each layer to the one before it vanish: early layers hardly learn. Gradients that grow so explode.

    ``print`` it for the table and the diagnosis.

    Attributes
    ----------
    parameters : list of ParameterFlow
        A row per parameter tensor, W_1, b_1, W_2, ...
    layers : list of LayerFlow
        A row per layer.
    rows : int
        Samples in the batch.
    loss : float or None
        Loss of the batch; None after a `pullback`.
    loss_name : str
        Which loss that is.
    outputs : int
        Units of the last layer.
    histograms : list of ActivationHistogram
        One per layer, of the rows that were last in memory: the batch, or the last part of one that `fit` takes in
        parts. Empty in a report of a step in the middle of a fit.
    """

    parameters: list[ParameterFlow]
    layers: list[LayerFlow]
    rows: int
    loss: float | None = None
    loss_name: str = ""
    outputs: int = 1
    histograms: list[ActivationHistogram] = field(default_factory=list)

    def __str__(self) -> str:
        batch = f"{self.rows} rows" if self.loss is None else f"{self.rows} rows, loss {self.loss:.6g}"
        return "\n\n".join([*map(str, self._tables()), batch, *map(str, self.diagnose())])

    def _repr_html_(self) -> str:
        tables = [table._repr_html_() for table in self._tables()]
        return "".join([*tables, *(finding._repr_html_() for finding in self.diagnose())])

    def diagnose(self) -> list[Finding]:
        """Say what is wrong with the gradient's way through the layers, with the figures behind it and the usual cures.

        Returns
        -------
        list of Finding
            Empty for a healthy network. See `chainrule.diagnosis` for the thresholds. Saturated units of a network
            whose outputs are right are not told of, nor are saturated outputs with a delta: both are certainty.
        """
        return diagnose(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as plain dictionaries, ready for JSON; None for what is not finite.

        Returns
        -------
        dict
            ``{"parameters": [...], "layers": [...], "rows": n, "loss": L, ..., "histograms": [...]}``, each row a
            dictionary with the fields of `ParameterFlow`, `LayerFlow` and `ActivationHistogram`.
        """
        return jsonable(asdict(self))

    def to_pandas(self) -> Any:
        """Return a pandas DataFrame, a row per parameter tensor, with the figures of its layer beside it.

        Raises
        ------
        ImportError
            Without pandas.
        """
        rows = []
        for i, parameter in enumerate(self.parameters):
            layer = {**asdict(self.layers[i // 2]), "layer": self.layers[i // 2].name}
            rows.append({**layer, **asdict(parameter)})
        return optional_package("pandas", "pandas").DataFrame(rows).set_index("name")

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the mean and the largest absolute gradient of each layer's weights as bars on a log scale.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; a new figure's by default.

        Returns
        -------
        matplotlib Axes

        Raises
        ------
        ImportError
            Without matplotlib.
        """
        return plots.gradient_flow(self, ax)

    def plot_activations(self, axes: Sequence[Axes] | None = None) -> list[Axes]:
        """Draw how the outputs of each layer are spread, a histogram a layer.

        Parameters
        ----------
        axes : sequence of matplotlib Axes, optional
            One for each layer; those of a new figure by default.

        Returns
        -------
        list of matplotlib Axes

        Raises
        ------
        ValueError
            If there are no histograms, or `axes` has not one entry for each layer.
        ImportError
            Without matplotlib.
        """
        return plots.activations(self, axes)

    def _tables(self) -> tuple[Table, Table]:
        parameters = Table(
            ("parameter", "mean |grad|", "max |grad|", "norm", "update/weight", "zeros", "NaN", "Inf"),
            [
                (
                    row.name,
                    f"{row.mean_abs:.2e}",
                    f"{row.max_abs:.2e}",
                    f"{row.norm:.2e}",
                    "-" if row.update_ratio is None else f"{row.update_ratio:.1e}",
                    f"{row.zeros:.1%}",
                    str(row.nan),
                    str(row.inf),
                )
                for row in self.parameters
            ],
        )
        layers = Table(
            ("layer", "activation", "saturated", "dead", "mean a", "variance a", "|delta|"),
            [
                (
                    row.name,
                    row.activation,
                    _share(row.saturated),
                    _share(row.dead),
                    f"{row.activation_mean:.2e}",
                    f"{row.activation_variance:.2e}",
                    f"{row.delta_norm:.2e}",
                )
                for row in self.layers
            ],
            left=2,
        )
        return parameters, layers


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def known(figure: float) -> float | None:
    """Return None for the NaN that stands for nothing to say."""
    return None if math.isnan(figure) else float(figure)


def report_of(
    parameters: npt.NDArray[np.float64],
    layers: npt.NDArray[np.float64],
    n_rows: int,
    loss: float | None,
    activations: Sequence[str],
    loss_name: str,
    outputs: int,
    histograms: Sequence[tuple[float, float, list[int]]] = (),
) -> GradientFlowReport:
    """Turn the core's figures, (2L, 7) and (L, 5), into a report."""
    rows = []
    names = parameter_names(len(activations))
    for name, (mean_abs, max_abs, norm, update_ratio, zeros, nan, inf) in zip(names, parameters.tolist(), strict=True):
        rows.append(ParameterFlow(name, mean_abs, max_abs, norm, known(update_ratio), zeros, int(nan), int(inf)))
    units = [
        LayerFlow(f"layers.{i}", activation, known(saturated), known(dead), *rest)
        for i, (activation, (saturated, dead, *rest)) in enumerate(zip(activations, layers.tolist(), strict=True))
    ]
    spread = [ActivationHistogram(*histogram) for histogram in histograms]
    return GradientFlowReport(rows, units, n_rows, loss, loss_name, outputs, spread)


def report(flow: FlowFigures, activations: Sequence[str], loss_name: str, outputs: int) -> GradientFlowReport:
    """Turn what the core says of the last backward pass into a report."""
    return report_of(
        flow["parameters"],
        flow["layers"],
        flow["rows"],
        flow["loss"],
        activations,
        loss_name,
        outputs,
        flow["histograms"],
    )
