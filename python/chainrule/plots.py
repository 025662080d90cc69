"""Pictures, by matplotlib. Colours differ in lightness too: they can be told apart in grey and by the colour-blind."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from chainrule._extras import optional_package
from chainrule._types import Axes

if TYPE_CHECKING:
    from chainrule.gradient_flow import GradientFlowReport
    from chainrule.history import History

# Of Okabe and Ito's palette for all kinds of sight.
DARK, LIGHT, ACCENT = "#0072B2", "#E69F00", "#D55E00"
MOST_TICKS = 12
MOST_COLUMNS = 200  # of a heat map; several steps share one beyond


def pyplot() -> Any:
    """Import matplotlib, or say which extra brings it."""
    return optional_package("matplotlib.pyplot", "plot")


def axes_or_new(ax: Axes | None) -> Axes:
    """Return what was given, or the Axes of a new figure."""
    if ax is not None:
        return ax
    new: Axes = pyplot().figure(layout="constrained").add_subplot()
    return new


def ticks(layers: int) -> range:
    """Return the layers that have a label."""
    return range(0, layers, max(1, math.ceil(layers / MOST_TICKS)))


def gradient_flow(report: GradientFlowReport, ax: Axes | None = None) -> Axes:
    """Draw the mean and the largest |gradient| of each layer's weights as bars."""
    ax = axes_or_new(ax)
    weights = report.parameters[0::2]
    for shift, name, colour in ((-0.2, "mean", DARK), (0.2, "max", LIGHT)):
        heights = [getattr(row, f"{name}_abs") for row in weights]
        places = [i + shift for i in range(len(weights))]
        ax.bar(places, heights, width=0.4, label=f"{name} |gradient|", color=colour, edgecolor="black", linewidth=0.4)
    if any(0 < row.max_abs < math.inf for row in weights):
        ax.set_yscale("log")
    marks = ["" if row.nan == row.inf == 0 else "\nNaN/Inf" for row in weights]
    shown = sorted({*ticks(len(weights)), *(i for i, mark in enumerate(marks) if mark)})
    ax.set_xticks(shown, [weights[i].name.removesuffix(".weight") + marks[i] for i in shown], rotation=45, ha="right")
    ax.margins(y=0.25)  # room for the legend
    ax.set_title("Gradient flow")
    ax.set_xlabel("layer, from the input to the output")
    ax.set_ylabel("|dL/dW|")
    ax.legend()
    return ax


def flow_over_time(
    steps: Sequence[int], norm: npt.NDArray[np.float64], not_finite: npt.NDArray[np.bool_], ax: Axes | None = None
) -> Axes:
    """Draw the norm of each layer's weight gradient, of `norm` by step and tensor, as a heat map.

    Where gradients are `not_finite`, a cross takes its place.
    """
    ax = axes_or_new(ax)
    norms, crossed = norm[:, 0::2], not_finite[:, 0::2]
    logs = np.ma.log(np.ma.masked_where(crossed, np.ma.masked_invalid(norms)))  # of zeros there is none
    groups = np.array_split(np.arange(len(steps)), min(len(steps), MOST_COLUMNS))
    values = np.ma.exp(np.ma.stack([logs[group].mean(axis=0) for group in groups], axis=1))
    low, high = (values.min(), values.max()) if values.count() else (0.1, 1.0)
    scale = optional_package("matplotlib.colors", "plot").LogNorm(low, high if high > low else low * 10)
    edges = [*(steps[group[0]] - 0.5 for group in groups), steps[-1] + 0.5]
    layers = np.arange(norms.shape[1] + 1) - 0.5
    mesh = ax.pcolormesh(edges, layers, values, norm=scale, cmap="cividis", rasterized=True)
    if crossed.any():
        step, layer = crossed.nonzero()
        ax.plot(np.asarray(steps)[step], layer, "x", color=ACCENT, label="not finite")
        ax.legend()
    shown = ticks(norms.shape[1])
    ax.set_yticks(shown, [f"layers.{i}" for i in shown])
    ax.locator_params(axis="x", integer=True, min_n_ticks=1)
    ax.set_title("Gradient flow over time" + (" (white: zero)" if np.any(norms[~crossed] == 0) else ""))
    ax.set_xlabel("step")
    ax.set_ylabel("layer")
    ax.figure.colorbar(mesh, ax=ax, label="norm of dL/dW")
    return ax


def activations(report: GradientFlowReport, axes: Sequence[Axes] | None = None) -> list[Axes]:
    """Draw a histogram of each layer's outputs."""
    if not report.histograms:
        raise ValueError("this report is of a step in the middle of a fit and has no histograms; take the last one's")
    if axes is None:
        count = len(report.layers)
        columns = min(count, 4)
        rows = math.ceil(count / columns)
        figure = pyplot().figure(figsize=(2.6 * columns + 0.6, 2.2 * rows + 0.4), layout="constrained")
        axes = [figure.add_subplot(rows, columns, i + 1) for i in range(count)]
    if len(axes) != len(report.layers):
        raise ValueError(f"axes has {len(axes)} entries; expected one for each of the {len(report.layers)} layers")
    for ax, layer, histogram in zip(axes, report.layers, report.histograms, strict=True):
        bins = len(histogram.counts)
        edges = np.linspace(histogram.low, histogram.high, bins + 1)
        counts = np.array(histogram.counts)
        if histogram.low == histogram.high:  # one bar, around the value
            edges, counts = histogram.low + np.array([-0.5, 0.5]) / bins, counts[:1]
            ax.set_xlim(histogram.low - 0.5, histogram.low + 0.5)
        ax.stairs(counts / max(1, counts.sum()), edges, fill=True, color=DARK)
        shares = {"saturated": layer.saturated, "dead": layer.dead}
        notes = [f"{share:.0%} {name}" for name, share in shares.items() if share is not None]
        ax.set_title(f"{layer.name}, {layer.activation}" + "".join(f"\n{note}" for note in notes), fontsize="small")
        ax.set_xlabel("a", fontsize="small")
        ax.set_ylabel("share", fontsize="small")
        ax.tick_params(labelsize="x-small")
    return list(axes)


def mark(values: Sequence[float] | npt.NDArray[np.float64]) -> str | None:
    """Return the marker of a line: one of a single point would not be seen."""
    return "o" if len(values) == 1 else None


def losses(history: History, ax: Axes | None = None) -> Axes:
    """Draw the training and validation loss of each epoch."""
    ax = axes_or_new(ax)
    epochs = range(1, history.epochs + 1)
    if not epochs:
        ax.text(0.5, 0.5, "no epoch has been finished", ha="center", transform=ax.transAxes)
    ax.plot(epochs, history.loss, label="training", color=DARK, marker=mark(history.loss))
    if history.validation_loss:
        values = history.validation_loss
        ax.plot(epochs, values, label="validation", color=ACCENT, linestyle="--", marker=mark(values))
    if history.best_epoch is not None:
        ax.axvline(history.best_epoch, color="0.5", linestyle=":", label="best epoch")
    values = [value for value in (*history.loss, *history.validation_loss) if math.isfinite(value)]
    if values and min(values) > 0 and max(values) > 20 * min(values):
        ax.set_yscale("log")
    ax.locator_params(axis="x", integer=True, min_n_ticks=1)
    ax.set_title("Loss")
    ax.set_xlabel("epoch")
    ax.set_ylabel("loss")
    ax.legend()
    return ax


def page(history: History) -> list[Axes]:
    """Draw all of it on one page."""
    if history.monitor is None:
        raise ValueError("this history has no gradient flow; fit with monitor=chainrule.GradientFlow()")
    history.monitor._recorded()
    record = history.monitor._rows()
    report, steps = history.monitor._report(record), record["recorded"]
    count = len(report.layers)
    columns = min(count, 4)
    rows = math.ceil(count / columns)
    figure = pyplot().figure(figsize=(11, 6.6 + 2.1 * rows), layout="constrained")
    upper, lower = figure.add_gridspec(2, 1, height_ratios=[6.6, 2.1 * rows])
    top = upper.subgridspec(2, 2).subplots()
    grid = lower.subgridspec(rows, columns)
    histograms = [figure.add_subplot(grid[i // columns, i % columns]) for i in range(count)]
    losses(history, top[0, 0])
    gradient_flow(report, top[0, 1])
    top[0, 1].set_title(f"Gradient flow at step {steps[-1]}")
    flow_over_time(steps, history.monitor._figures(record, "norm"), history.monitor._not_finite(record), top[1, 0])
    update_ratios(steps, history.monitor._figures(record, "update_ratio"), top[1, 1])
    return [*top.ravel(), *activations(report, histograms)]


def update_ratios(steps: Sequence[int], update_ratio: npt.NDArray[np.float64], ax: Axes) -> Axes:
    """Draw ‖ΔW‖/‖W‖ of the first, a middle and the last layer, of `update_ratio` by step and tensor."""
    ratios = update_ratio[:, 0::2]
    last = ratios.shape[1] - 1
    chosen = sorted({0, last // 2, last})
    for layer, colour, line in zip(chosen, (DARK, LIGHT, ACCENT), ("-", "--", ":"), strict=False):
        values = ratios[:, layer]
        ax.plot(steps, values, color=colour, linestyle=line, label=f"layers.{layer}", marker=mark(values))
    if np.any(ratios > 0):
        ax.set_yscale("log")
    ax.axhline(1e-3, color="0.6", linewidth=0.8)
    ax.set_title("Update relative to the weights (1e-3 is usual)")
    ax.locator_params(axis="x", integer=True, min_n_ticks=1)
    ax.set_xlabel("step")
    ax.set_ylabel("norm of ΔW / norm of W")
    ax.legend()
    return ax
