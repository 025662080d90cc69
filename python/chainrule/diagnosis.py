"""What is wrong with a gradient's way through the layers, in words."""

from __future__ import annotations

import html
import math
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chainrule.gradient_flow import GradientFlowReport, LayerFlow

# From the last layer to the first the norm of dL/dW may fall to this share or grow to its inverse, and that of δ by
# these factors a layer, on average. Only both together count: two layers of very different size, or many layers that
# change it a little each, do not make a disease. Where outputs shrink (grow) on their way forward as fast as δ does on
# its way back, dL/dW = aᵀδ stays of one size: then the ratio of δ tells, of more than two layers.
RATIO = 1e-2
SHRINKAGE, GROWTH = 0.5, 1.5
# Where each layer does so much, a smaller ratio is enough.
STEEP_RATIO = 1 / 30
STEEP_SHRINKAGE, STEEP_GROWTH = 0.3, 3.0
# A network whose loss is less than this share of a guess's has learned: units that are saturated then are certain, and
# little δ gets through them. What is left of δ_L at the level of rounding is nothing.
LEARNED = 0.3
ROUNDING = 1e-6
# A network whose outputs are off by less than this share of their size has learned too, however little they vary.
CLOSE = 1e-3
# With every loss the outputs are off by about the loss at least, where it is small, or by about 1. If δ_L says that it
# is less than this share of that, the output's own σ' keeps it back.
KEPT_BACK = 1e-3
# Share of a layer's units that may be dead, and of its outputs that may be saturated.
DEAD = 0.5
SATURATED = 0.5
# A healthy unit of relu is zero for most samples once it is trained: on fewer rows than these many are zero for all.
FEWEST_ROWS = 16


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
    counts = ", ".join(f"{row.name} ({row.nan} NaN, {row.inf} Inf)" for row in bad)
    if bad or (report.loss is not None and not math.isfinite(report.loss)):
        yield Finding(
            "not finite",
            sorted({row.name.rpartition(".")[0] for row in bad}) or [report.layers[-1].name],
            f"gradients with NaN or infinity: {counts}" if bad else f"the loss is {report.loss}",
            "a smaller learning rate, clip_norm, scaled inputs and targets; fit says where it began",
        )


def _error(report: GradientFlowReport) -> float:
    """How far the outputs are off, roughly: δ_L is the error over the number of rows, and mostly of outputs."""
    return report.layers[-1].delta_norm * math.sqrt(report.rows * report.outputs)


def _has_learned(report: GradientFlowReport) -> bool:
    """Whether it does much better than a guess, as far as the loss tells."""
    loss, output = report.loss, report.layers[-1]
    if loss is None:
        return False
    if report.loss_name in ("mse", "mae", "huber"):
        # huber's is half the square of small errors.
        error = {"mse": math.sqrt(loss), "mae": loss}.get(report.loss_name, max(loss, math.sqrt(2 * loss)))
        spread = math.sqrt(output.activation_variance)
        return error < max(CLOSE * _size(output), LEARNED * spread if report.outputs == 1 else 0.0)
    guess = {"bce": math.log(2), "cross_entropy": math.log(max(2, report.outputs))}
    return loss < LEARNED * guess.get(report.loss_name, 0.0)


def _size(layer: LayerFlow) -> float:
    """Give the root mean square of the layer's outputs."""
    return math.hypot(layer.activation_mean, math.sqrt(layer.activation_variance))


def _unreached(report: GradientFlowReport) -> Iterator[Finding]:
    output = report.layers[-1]
    bad = [layer for layer in report.layers if layer.delta_norm == 0]
    if bad and output.delta_norm > 0 and _error(report) > ROUNDING * _size(output):
        yield Finding(
            "vanishing",
            [layer.name for layer in bad],
            f"delta is exactly zero for all {report.rows} rows in {bad[0].name} to {bad[-1].name}: nothing gets there",
            "relu with He's initialisation or tanh with Xavier's in place of sigmoid, other initial weights where they "
            "are all zero, a smaller learning rate where units have died; scaled inputs and targets",
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
    least, most = (min(ratio, delta_ratio), max(ratio, delta_ratio)) if steps > 1 else (ratio, ratio)
    shrinks = (least < RATIO and rate < SHRINKAGE) or (least < STEEP_RATIO and rate < STEEP_SHRINKAGE)
    if shrinks and not _has_learned(report):
        yield Finding(
            "vanishing",
            names,
            figures,
            "relu with He's initialisation or tanh with Xavier's in place of sigmoid or smaller weights; scaled inputs "
            "and targets",
        )
    if (most > 1 / RATIO and rate > GROWTH) or (most > 1 / STEEP_RATIO and rate > STEEP_GROWTH):
        yield Finding(
            "exploding",
            names,
            figures,
            "He's or Xavier's initialisation, not a wider one; clip_norm, a smaller learning rate, scaled inputs and "
            "targets",
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


def _is_saturated(layer: LayerFlow) -> bool:
    return layer.saturated is not None and layer.saturated > SATURATED


def _saturated(report: GradientFlowReport) -> Iterator[Finding]:
    *hidden, output = report.layers
    bad = [] if _has_learned(report) else list(filter(_is_saturated, hidden))
    # A saturated output is a confident prediction, unless next to nothing of the loss gets through it.
    if _is_saturated(output) and report.loss and _error(report) < KEPT_BACK * min(report.loss, 1.0):
        bad.append(output)
    if bad:
        shares = ", ".join(f"{layer.saturated:.0%} of {layer.name}" for layer in bad)
        yield Finding(
            "saturated units",
            [layer.name for layer in bad],
            f"outputs at the ends of their range, where the derivative is nearly zero: {shares}",
            "scaled inputs and targets, Xavier's initialisation, a smaller learning rate, relu in place of sigmoid or "
            "tanh, bce or cross_entropy for outputs that are probabilities",
        )
