"""NumPy: backpropagation by hand, everything allocated beforehand; does not work out the loss."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np

from harness.net import Net


def activate(hidden: str, z: np.ndarray) -> None:
    """Replace z by σ(z)."""
    if hidden == "sigmoid":
        np.negative(z, out=z)
        np.exp(z, out=z)
        z += 1
        np.reciprocal(z, out=z)
    elif hidden == "tanh":
        np.tanh(z, out=z)
    elif hidden == "relu":
        np.maximum(z, 0, out=z)


def times_derivative(hidden: str, a: np.ndarray, delta: np.ndarray, scratch: np.ndarray) -> None:
    """Multiply delta by σ'(z), told from a = σ(z)."""
    if hidden == "sigmoid":
        np.subtract(1, a, out=scratch)
        delta *= scratch
        delta *= a
    elif hidden == "tanh":
        np.multiply(a, a, out=scratch)
        np.subtract(1, scratch, out=scratch)
        delta *= scratch
    elif hidden == "relu":
        delta *= a > 0


class NumPy:
    """Parameters, gradient and moments are flat vectors, so that an update is a few passes over long arrays."""

    version = np.__version__

    def __init__(self, net: Net, lr: float, threads: int) -> None:
        del threads  # Set by the environment.
        self._net, self._lr = net, lr
        self._X, self._y = net.data()
        self._theta = np.zeros(net.n_parameters, np.float32)
        self._gradient = np.zeros_like(self._theta)
        self._W, self._b = self._views(self._theta)
        self._dW, self._db = self._views(self._gradient)
        self._a = [self._X] + [np.empty((net.batch, d), np.float32) for d in net.layer_sizes[1:]]
        self._delta = [np.empty_like(a) for a in self._a]
        self._scratch = [np.empty_like(a) for a in self._a]
        self._rows = np.arange(net.batch)
        self._fresh_optimizer()

    def _views(self, flat: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        weights, biases, start = [], [], 0
        for d_in, d_out in itertools.pairwise(self._net.layer_sizes):
            weights.append(flat[start : start + d_in * d_out].reshape(d_in, d_out))
            start += d_in * d_out
            biases.append(flat[start : start + d_out])
            start += d_out
        return weights, biases

    def _fresh_optimizer(self) -> None:
        self._t = 0
        if self._net.optimizer == "adam":
            self._m = np.zeros_like(self._theta)
            self._v = np.zeros_like(self._theta)
            self._update = np.empty_like(self._theta)

    def load(self, weights: Iterable[np.ndarray]) -> None:
        self._theta[:] = 0
        for mine, W in zip(self._W, weights, strict=True):
            mine[:] = W
        self._fresh_optimizer()

    def weights(self) -> list[np.ndarray]:
        return [W.copy() for W in self._W]

    def steps(self, count: int) -> None:
        optimize = self._sgd if self._net.optimizer == "sgd" else self._adam
        for _ in range(count):
            self._forward()
            self._loss_gradient()
            self._backward()
            optimize()

    def _forward(self) -> None:
        last = len(self._W) - 1
        for layer, (W, b) in enumerate(zip(self._W, self._b, strict=True)):
            z = self._a[layer + 1]
            np.matmul(self._a[layer], W, out=z)
            z += b
            if layer < last:
                activate(self._net.hidden, z)

    def _loss_gradient(self) -> None:
        """δ_L from the outputs z_L."""
        n, loss = self._net.batch, self._net.loss
        z, delta = self._a[-1], self._delta[-1]
        if loss == "cross_entropy":
            np.subtract(z, z.max(axis=1, keepdims=True), out=delta)
            np.exp(delta, out=delta)
            delta /= delta.sum(axis=1, keepdims=True)
            delta[self._rows, self._y] -= 1
            delta *= 1 / n
        elif loss == "bce":
            delta[:] = z
            activate("sigmoid", delta)
            delta -= self._y
            delta *= 1 / delta.size
        else:
            np.subtract(z, self._y, out=delta)
            delta *= 2 / delta.size

    def _backward(self) -> None:
        for layer in range(len(self._W) - 1, -1, -1):
            delta = self._delta[layer + 1]
            np.matmul(self._a[layer].T, delta, out=self._dW[layer])
            delta.sum(axis=0, out=self._db[layer])
            if layer:
                np.matmul(delta, self._W[layer].T, out=self._delta[layer])
                times_derivative(self._net.hidden, self._a[layer], self._delta[layer], self._scratch[layer])

    def _sgd(self) -> None:
        # The gradient is worked out anew in the next step, so it can be scaled in place.
        self._gradient *= self._lr
        self._theta -= self._gradient

    def _adam(self, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8) -> None:
        self._t += 1
        g, m, v, update = self._gradient, self._m, self._v, self._update
        m *= beta1
        np.multiply(g, 1 - beta1, out=update)
        m += update
        np.multiply(g, g, out=g)
        g *= 1 - beta2
        v *= beta2
        v += g
        np.multiply(v, 1 / (1 - beta2**self._t), out=update)
        np.sqrt(update, out=update)
        update += eps
        np.divide(m, update, out=update)
        update *= self._lr / (1 - beta1**self._t)
        self._theta -= update
