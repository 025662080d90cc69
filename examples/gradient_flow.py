"""Vanishing gradients, seen and cured.

Six hidden layers of 32 sigmoid units and a single logit, with the binary cross-entropy, get one backward pass on a
batch of 16. The sigmoid's derivative is at most 1/4, so each layer passes on only a fraction of the gradient that it
gets, and next to nothing reaches the first. Beside it stand the same network with tanh and Xavier's initialisation, and
with ReLU and He's: their gradients keep their size from the last layer to the first.
"""

import argparse
from pathlib import Path

import numpy as np

import chainrule as cr

NETWORKS = {"sigmoid": "xavier", "tanh": "xavier", "relu": "he"}


def main(plot: Path | None = None, seed: int = 0) -> dict[str, cr.GradientFlowReport]:
    """Print a table for each activation and return the reports by its name; save a picture of them if asked."""
    random = np.random.default_rng(seed)
    X = random.standard_normal((16, 32))
    y = random.integers(0, 2, 16)

    reports = {}
    for activation, init in NETWORKS.items():
        mlp = cr.MLP(
            [32] * 7 + [1], hidden_activation=activation, output_activation="identity", loss="bce", init=init, seed=seed
        )
        mlp.forward(X)
        mlp.backward(y)
        reports[activation] = mlp.gradient_flow()
        print(f"Six {activation} layers, {init} initialisation\n\n{reports[activation]}\n")

    for activation, report in reports.items():
        print(f"{activation:8} mean |dL/dW| of the first layer / of the sixth: {first_to_sixth(report):.1e}")

    if plot is not None:
        save_picture(reports, plot)
    return reports


def first_to_sixth(report: cr.GradientFlowReport) -> float:
    """Return how much of the gradient is left five layers further down."""
    mean_abs = {row.name: row.mean_abs for row in report.parameters}
    return mean_abs["layers.0.weight"] / mean_abs["layers.5.weight"]


def save_picture(reports: dict[str, cr.GradientFlowReport], path: Path) -> None:
    """Draw the reports side by side on one scale."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4), layout="constrained")
    panels = figure.subplots(1, len(reports), sharey=True)
    for ax, (activation, report) in zip(panels, reports.items(), strict=True):
        report.plot(ax)
        ax.set_title(f"{activation}, {NETWORKS[activation]}")
        ax.label_outer()
    for ax in panels[1:]:
        ax.get_legend().remove()
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Show how gradients vanish, and how they do not.")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="save a picture there; needs Matplotlib")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    main(options.plot, options.seed)
