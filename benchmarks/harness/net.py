"""The nets that are trained, and their data."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

HIDDEN = ("identity", "sigmoid", "tanh", "relu")
LOSSES = ("mse", "bce", "cross_entropy")
OPTIMIZERS = ("sgd", "adam")


@dataclass(frozen=True)
class Net:
    """A multi-layer perceptron with the batch that it is trained on.

    The output layer follows the loss: identity for mse, sigmoid for bce, softmax for cross_entropy.
    """

    layer_sizes: tuple[int, ...]
    hidden: str
    loss: str
    optimizer: str
    batch: int

    @classmethod
    def parse(cls, spec: str) -> Net:
        """Read "33-100-333-1:relu:mse:adam:7": layer sizes, hidden activation, loss, optimizer, batch size."""
        fields = spec.split(":")
        if len(fields) != 5:
            raise ValueError(f"{spec!r} has {len(fields)} fields; expected sizes:hidden:loss:optimizer:batch")
        sizes, hidden, loss, optimizer, batch = fields
        for value, known in ((hidden, HIDDEN), (loss, LOSSES), (optimizer, OPTIMIZERS)):
            if value not in known:
                raise ValueError(f"{spec!r}: {value!r} is none of {', '.join(known)}")
        if not all(number.isdecimal() for number in (*sizes.split("-"), batch)):
            raise ValueError(f"{spec!r}: layer sizes and batch must be whole numbers")
        net = cls(tuple(int(size) for size in sizes.split("-")), hidden, loss, optimizer, int(batch))
        if len(net.layer_sizes) < 2 or min(*net.layer_sizes, net.batch) < 1:
            raise ValueError(f"{spec!r}: expected at least two layer sizes, all of them and the batch at least 1")
        return net

    @property
    def spec(self) -> str:
        """The text that `parse` reads."""
        sizes = "-".join(map(str, self.layer_sizes))
        return f"{sizes}:{self.hidden}:{self.loss}:{self.optimizer}:{self.batch}"

    @property
    def label(self) -> str:
        """The layer sizes, with more than three equal ones in a row written as 32×7."""
        runs = ((size, len(list(run))) for size, run in itertools.groupby(self.layer_sizes))
        return "-".join(f"{size}×{n}" if n > 3 else "-".join([str(size)] * n) for size, n in runs)

    @property
    def n_parameters(self) -> int:
        """Number of weights and biases."""
        return sum((d_in + 1) * d_out for d_in, d_out in itertools.pairwise(self.layer_sizes))

    @property
    def flops(self) -> int:
        """Floating-point operations of the matrix products of one step, 2·(3·Σ d_{l-1}·d_l − d_0·d_1)·n.

        Three products a layer (z, dW, and the delta that goes down), but the first layer sends no delta down.
        """
        products = [d_in * d_out for d_in, d_out in itertools.pairwise(self.layer_sizes)]
        return 2 * (3 * sum(products) - products[0]) * self.batch

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """One batch, the same for every peer.

        Returns
        -------
        X : (n, d_0) float32
        y : (n, d_L) float32, zeros and ones for bce; (n,) int64 for cross_entropy
        """
        rng = np.random.default_rng(0)
        n, d_out = self.batch, self.layer_sizes[-1]
        X = rng.standard_normal((n, self.layer_sizes[0]), dtype=np.float32)
        if self.loss == "cross_entropy":
            return X, rng.integers(d_out, size=n)
        if self.loss == "bce":
            return X, rng.integers(2, size=(n, d_out)).astype(np.float32)
        return X, rng.standard_normal((n, d_out), dtype=np.float32)

    def initial_weights(self) -> Iterator[np.ndarray]:
        """The weights (d_in, d_out) that every peer starts from, layer by layer; biases start at zero."""
        rng = np.random.default_rng(1)
        gain = 2.0 if self.hidden == "relu" else 1.0
        for d_in, d_out in itertools.pairwise(self.layer_sizes):
            yield rng.standard_normal((d_in, d_out), dtype=np.float32) * np.float32(np.sqrt(gain / d_in))


GRID = tuple(
    Net.parse(spec)
    for spec in (
        "2-4-1:sigmoid:bce:sgd:4",
        "8-64-64-4:tanh:mse:adam:32",
        "64-100-10:relu:cross_entropy:adam:200",
        "32-32-32-32-32-32-32-1:sigmoid:bce:sgd:16",
        "32-256-256-256-1:relu:mse:adam:256",
        "784-512-256-10:relu:cross_entropy:adam:128",
        "1024-1024-1024-1024-1024:relu:mse:adam:1024",
        "4096-4096-4096-4096-4096-4096-4096:relu:mse:sgd:128",
    )
)


def named(labels: list[str]) -> list[Net]:
    """The nets of the grid with these labels ("x" stands for "×")."""
    grid = {net.label: net for net in GRID}
    unknown = [label for label in labels if label.replace("x", "×") not in grid]
    if unknown:
        raise ValueError(f"no net {', '.join(unknown)} in the grid; it has {', '.join(grid)}")
    return [grid[label.replace("x", "×")] for label in labels]
