"""How the gradient runs through the layers."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from chainrule._extras import optional_package
from chainrule._table import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from chainrule._core import GradientFlow


@dataclass(frozen=True)
class ParameterFlow:
    """The gradient of one parameter tensor.

    Attributes
    ----------
    name : str
        "layers.0.weight", "layers.0.bias", ...
    mean_abs, max_abs : float
        Mean and largest absolute value of the gradient's finite entries.
    nan, inf : int
        How many entries are NaN, and how many are infinite.
    """

    name: str
    mean_abs: float
    max_abs: float
    nan: int
    inf: int


@dataclass(frozen=True)
class LayerFlow:
    """One layer's units over the batch.

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
    delta_norm : float
        Frobenius norm of δ_l = dL/dz_l, which is (n, d_l).
    """

    name: str
    activation: str
    saturated: float | None
    dead: float | None
    delta_norm: float


@dataclass(frozen=True)
class GradientFlowReport:
    """The gradient of the last backward pass, layer by layer: what :meth:`MLP.gradient_flow` returns.

    In a healthy network the rows of ``parameters`` are of similar size. Gradients that shrink by a constant factor
    from each layer to the one before it vanish: early layers hardly learn. Gradients that grow so explode.

    ``print`` it for the table.

    Attributes
    ----------
    parameters : list of ParameterFlow
        A row per parameter tensor, W_1, b_1, W_2, ...
    layers : list of LayerFlow
        A row per layer.
    """

    parameters: list[ParameterFlow]
    layers: list[LayerFlow]

    def __str__(self) -> str:
        parameters, layers = self._tables()
        return f"{parameters}\n\n{layers}"

    def _repr_html_(self) -> str:
        return "".join(table._repr_html_() for table in self._tables())

    def to_dict(self) -> dict[str, list[dict[str, Any]]]:
        """Return the numbers as plain dictionaries, ready for JSON.

        Returns
        -------
        dict
            ``{"parameters": [...], "layers": [...]}``, each row a dictionary with the fields of `ParameterFlow` and
            `LayerFlow`.
        """
        return asdict(self)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the mean and the largest absolute gradient of each layer's weights as bars on a log scale.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; a new figure's by default.

        Returns
        -------
        matplotlib Axes
        """
        if ax is None:
            ax = optional_package("matplotlib.pyplot", "plot").figure().add_subplot()
        assert ax is not None
        weights = [row for row in self.parameters if row.name.endswith(".weight")]
        for shift, name in ((-0.2, "mean"), (0.2, "max")):
            heights = [getattr(row, f"{name}_abs") for row in weights]
            ax.bar([i + shift for i in range(len(weights))], heights, width=0.4, label=f"{name} |gradient|")
        if any(0 < row.max_abs < math.inf for row in weights):
            ax.set_yscale("log")
        marks = ["" if row.nan == row.inf == 0 else "\nNaN/Inf" for row in weights]
        ax.set_xticks(
            range(len(weights)),
            [row.name.removesuffix(".weight") + mark for row, mark in zip(weights, marks, strict=True)],
            rotation=45,
            ha="right",
        )
        ax.set_ylabel("|dL/dW|")
        ax.legend()
        return ax

    def _tables(self) -> tuple[Table, Table]:
        parameters = Table(
            ("parameter", "mean |grad|", "max |grad|", "NaN", "Inf"),
            [
                (row.name, f"{row.mean_abs:.2e}", f"{row.max_abs:.2e}", str(int(row.nan)), str(int(row.inf)))
                for row in self.parameters
            ],
        )
        layers = Table(
            ("layer", "activation", "saturated", "dead", "|delta|"),
            [
                (row.name, row.activation, _share(row.saturated), _share(row.dead), f"{row.delta_norm:.2e}")
                for row in self.layers
            ],
            left=2,
        )
        return parameters, layers


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def report(flow: GradientFlow) -> GradientFlowReport:
    """Turn the core's numbers into a report."""
    return GradientFlowReport(
        [ParameterFlow(**row) for row in flow["parameters"]], [LayerFlow(**row) for row in flow["layers"]]
    )
