"""chainrule, in its two forms: its own training loop, and one step at a time from Python.

And the loop in micro-batches, for memory.py.
"""

from __future__ import annotations

from collections.abc import Iterable

import chainrule as cr
import numpy as np

from harness.net import Net


class Step:
    """`mlp.step(X, y, optimizer)` in a Python loop; hands over the loss of every step."""

    version = cr.__version__

    def __init__(self, net: Net, lr: float, threads: int) -> None:
        cr.set_num_threads(threads)
        self.mlp = cr.MLP(net.layer_sizes, hidden_activation=net.hidden, loss=net.loss, seed=0)
        self.optimizer = cr.SGD(lr=lr) if net.optimizer == "sgd" else cr.Adam(lr=lr)
        self.X, self.y = net.data()

    def load(self, weights: Iterable[np.ndarray]) -> None:
        for mine, W in zip(self.mlp.weights, weights, strict=True):
            mine[:] = W
        for b in self.mlp.biases:
            b[:] = 0
        self.optimizer.reset()

    def weights(self) -> list[np.ndarray]:
        return [W.copy() for W in self.mlp.weights]

    def steps(self, count: int) -> None:
        step, X, y, optimizer = self.mlp.step, self.X, self.y, self.optimizer
        for _ in range(count):
            step(X, y, optimizer)


class Fit(Step):
    """`mlp.fit` with the whole batch as its data set: an epoch is a step; hands over the loss of every epoch."""

    micro_batch: int | None = None

    def steps(self, count: int) -> None:
        self.mlp.fit(
            self.X,
            self.y,
            epochs=count,
            batch_size=len(self.X),
            optimizer=self.optimizer,
            shuffle=False,
            micro_batch=self.micro_batch,
        )


class MicroBatches(Fit):
    """256 rows at a time go through the network; their gradients are added up to that of the batch."""

    micro_batch = 256
