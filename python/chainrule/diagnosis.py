"""What is wrong with a gradient's way through the layers, in words."""

from __future__ import annotations

import html
import math
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chainrule.gradient_flow import GradientFlowReport

# From the last layer to the first the norm of dL/dW, or that of δ, may fall to this share or grow to its inverse, ...
RATIO = 1e-2
# ... and that of δ by these factors a layer, on average. Only both together count: two layers of very different size,
# or many layers that change it a little each, do not make a disease. (Where activations shrink as fast as δ does, as
# with weights that are too small, dL/dW = aᵀδ stays of one size, and only δ tells.)
SHRINKAGE, GROWTH = 0.5, 1.5
# Share of a layer's units that may be dead, and of its outputs that may be saturated.
DEAD = 0.5
SATURATED = 0.5
# A healthy unit of relu is zero for about every other sample: on fewer rows than these many are zero for all of them.
FEWEST_ROWS = 4


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes
    ----------
    problem : str
        "not finite", "vanishing", "exploding", "dead units" or "saturated units".
    layers : list of str
        Where.
    figures : str
        What it is seen by.
    cure : str
        What usually helps.
    """

    problem: str
    layers: list[str]
    figures: str
    cure: str

    def __str__(self) -> str:
        lines = f"{self.problem}: {self.figures}.", f"Usually helps: {self.cure}."
        return "\n".join(textwrap.fill(line, 100, subsequent_indent="  ") for line in lines)

    def _repr_html_(self) -> str:
        text = f"{html.escape(self.figures)}. Usually helps: {html.escape(self.cure)}."
        return f"<p><b>{html.escape(self.problem)}</b>: {text}</p>"


def diagnose(report: GradientFlowReport) -> list[Finding]:
    """List what is wrong; nothing for a healthy network."""
    not_finite = list(_not_finite(report))
    if not_finite:  # the norms say nothing then
        return not_finite
    dead = list(_dead(report))
    # What dead units keep back is told by them.
    unreached = [] if dead else list(_unreached(report))
    return [*unreached, *_between_layers(report), *dead, *_saturated(report)]


def _not_finite(report: GradientFlowReport) -> Iterator[Finding]:
    bad = [row for row in report.parameters if row.nan or row.inf]
    if bad:
        counts = ", ".join(f"{row.name} ({row.nan} NaN, {row.inf} Inf)" for row in bad)
        yield Finding(
            "not finite",
            sorted({row.name.rpartition(".")[0] for row in bad}),
            f"gradients with NaN or infinity: {counts}",
            "a smaller learning rate, clip_norm, scaled inputs; fit says where it began",
        )


def _unreached(report: GradientFlowReport) -> Iterator[Finding]:
    bad = [layer for layer in report.layers if layer.delta_norm == 0]
    if bad and report.layers[-1].delta_norm > 0:
        yield Finding(
            "vanishing",
            [layer.name for layer in bad],
            f"delta is exactly zero for all {report.rows} rows in {bad[0].name} to {bad[-1].name}: nothing gets there",
            "relu with He's initialisation or tanh with Xavier's in place of sigmoid, other initial weights where they "
            "are all zero, a smaller learning rate where units have died; scaled inputs",
        )


def _between_layers(report: GradientFlowReport) -> Iterator[Finding]:
    weights = report.parameters[0::2]
    steps = len(weights) - 1
    first, last = weights[0].norm, weights[-1].norm
    delta_first, delta_last = report.layers[0].delta_norm, report.layers[-1].delta_norm
    if steps < 1 or not all(0 < norm < math.inf for norm in (first, last, delta_first, delta_last)):
        return
    ratio, delta_ratio = first / last, delta_first / delta_last
    rate = delta_ratio ** (1 / steps)
    figures = (
        f"from {report.layers[-1].name} to {report.layers[0].name} the norm of dL/dW goes from {last:.2e} to "
        f"{first:.2e}, a ratio of {ratio:.1e}, and that of delta from {delta_last:.2e} to {delta_first:.2e}, a factor "
        f"of {rate:.2g} a layer"
    )
    names = [layer.name for layer in report.layers]
    if min(ratio, delta_ratio) < RATIO and rate < SHRINKAGE:
        yield Finding(
            "vanishing",
            names,
            figures,
            "relu with He's initialisation or tanh with Xavier's in place of sigmoid or smaller weights; scaled inputs",
        )
    if max(ratio, delta_ratio) > 1 / RATIO and rate > GROWTH:
        yield Finding(
            "exploding",
            names,
            figures,
            "He's or Xavier's initialisation, not a wider one; clip_norm, a smaller learning rate, scaled inputs",
        )


def _dead(report: GradientFlowReport) -> Iterator[Finding]:
    bad = [layer for layer in report.layers if layer.dead is not None and layer.dead > DEAD]
    if bad and report.rows >= FEWEST_ROWS:
        shares = ", ".join(f"{layer.dead:.0%} of {layer.name}" for layer in bad)
        yield Finding(
            "dead units",
            [layer.name for layer in bad],
            f"units that are zero on the whole batch: {shares}",
            "a smaller learning rate, He's initialisation, biases near zero, leaky_relu or gelu in place of relu",
        )


def _saturated(report: GradientFlowReport) -> Iterator[Finding]:
    # A saturated output is a confident prediction.
    hidden = report.layers[:-1]
    bad = [layer for layer in hidden if layer.saturated is not None and layer.saturated > SATURATED]
    if bad:
        shares = ", ".join(f"{layer.saturated:.0%} of {layer.name}" for layer in bad)
        yield Finding(
            "saturated units",
            [layer.name for layer in bad],
            f"outputs at the ends of their range, where the derivative is nearly zero: {shares}",
            "scaled inputs, Xavier's initialisation, a smaller learning rate, relu in place of sigmoid or tanh",
        )
