"""PyTorch: the usual loop with fused optimizers, and the same with the net and the loss compiled."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import nn

from harness.net import Net

HIDDEN = {"identity": nn.Identity, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "relu": nn.ReLU}
LOSSES = {"mse": nn.MSELoss, "bce": nn.BCEWithLogitsLoss, "cross_entropy": nn.CrossEntropyLoss}


class PyTorch:
    """Eager; the loss is worked out, since `backward` starts from it, and not fetched."""

    version = torch.__version__

    def __init__(self, net: Net, lr: float, threads: int) -> None:
        torch.set_num_threads(threads)
        self._X, self._y = map(torch.from_numpy, net.data())
        self._linear = [nn.Linear(d_in, d_out) for d_in, d_out in itertools.pairwise(net.layer_sizes)]
        layers: list[nn.Module] = [self._linear[0]]
        for linear in self._linear[1:]:
            layers += [HIDDEN[net.hidden](), linear]
        self._model = nn.Sequential(*layers)
        self._criterion = LOSSES[net.loss]()
        self._new_optimizer = lambda: (
            torch.optim.SGD(self._model.parameters(), lr=lr, fused=True)
            if net.optimizer == "sgd"
            else torch.optim.Adam(self._model.parameters(), lr=lr, fused=True)
        )
        self._optimizer = self._new_optimizer()
        self._loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = self._eager_loss

    def _eager_loss(self, X: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self._criterion(self._model(X), y)

    @torch.no_grad()
    def load(self, weights: Iterable[np.ndarray]) -> None:
        for linear, W in zip(self._linear, weights, strict=True):
            linear.weight.copy_(torch.from_numpy(W).T)
            linear.bias.zero_()
        self._optimizer = self._new_optimizer()

    def weights(self) -> list[np.ndarray]:
        return [linear.weight.detach().numpy().T.copy() for linear in self._linear]

    def steps(self, count: int) -> None:
        X, y, loss, optimizer = self._X, self._y, self._loss, self._optimizer
        for _ in range(count):
            optimizer.zero_grad(set_to_none=True)
            loss(X, y).backward()
            optimizer.step()


class CompiledPyTorch(PyTorch):
    """`torch.compile` of net and loss together."""

    def __init__(self, net: Net, lr: float, threads: int) -> None:
        super().__init__(net, lr, threads)
        self._loss = torch.compile(self._eager_loss)
