"""JAX: the whole step is one jitted function that is given its parameters and optimizer state to overwrite."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from harness.net import Net

HIDDEN = {"identity": lambda z: z, "sigmoid": jax.nn.sigmoid, "tanh": jnp.tanh, "relu": jax.nn.relu}

Parameters = list[tuple[jax.Array, jax.Array]]
State = dict[str, Any]


def mean_loss(net: Net, parameters: Parameters, X: jax.Array, y: jax.Array) -> jax.Array:
    """The loss of the batch; `jax.grad` of it never works out its value."""
    a = X
    for W, b in parameters[:-1]:
        a = HIDDEN[net.hidden](a @ W + b)
    W, b = parameters[-1]
    z = a @ W + b
    if net.loss == "mse":
        return jnp.mean((z - y) ** 2)
    if net.loss == "bce":
        return jnp.mean(jax.nn.softplus(z) - y * z)
    return -jnp.mean(jnp.sum(jax.nn.log_softmax(z) * y, axis=1))


def sgd(lr: float, parameters: Parameters, gradient: Parameters, state: State) -> tuple[Parameters, State]:
    """θ − lr·g."""
    return jax.tree.map(lambda p, g: p - lr * g, parameters, gradient), state


def adam(lr: float, parameters: Parameters, gradient: Parameters, state: State) -> tuple[Parameters, State]:
    """Adam with its usual constants."""
    beta1, beta2, eps = 0.9, 0.999, 1e-8
    t = state["t"] + 1
    m = jax.tree.map(lambda m, g: beta1 * m + (1 - beta1) * g, state["m"], gradient)
    v = jax.tree.map(lambda v, g: beta2 * v + (1 - beta2) * g * g, state["v"], gradient)
    rate = lr / (1 - beta1**t)
    correction = 1 / (1 - beta2**t)
    parameters = jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v * correction) + eps), parameters, m, v)
    return parameters, {"m": m, "v": v, "t": t}


class Jax:
    """One call of the jitted step after the other, and one wait at the end."""

    version = jax.__version__

    def __init__(self, net: Net, lr: float, threads: int) -> None:
        del threads  # Set by the cores that the process may use, and for one thread by XLA_FLAGS.
        self._net = net
        X, y = net.data()
        if net.loss == "cross_entropy":
            y = np.eye(net.layer_sizes[-1], dtype=np.float32)[y]
        self._X, self._y = jnp.asarray(X), jnp.asarray(y)
        optimize = sgd if net.optimizer == "sgd" else adam

        def step(parameters: Parameters, state: State, X: jax.Array, y: jax.Array) -> tuple[Parameters, State]:
            gradient = jax.grad(mean_loss, argnums=1)(net, parameters, X, y)
            return optimize(lr, parameters, gradient, state)

        def loop(
            count: int, parameters: Parameters, state: State, X: jax.Array, y: jax.Array
        ) -> tuple[Parameters, State]:
            return jax.lax.fori_loop(0, count, lambda _, carry: step(*carry, X, y), (parameters, state))

        self._step = jax.jit(step, donate_argnums=(0, 1))
        self._loop = jax.jit(loop, donate_argnums=(1, 2))
        self.load(net.initial_weights())

    def load(self, weights: Iterable[np.ndarray]) -> None:
        # A copy: on a CPU, JAX may take a NumPy array's memory as its own, and a step overwrites it.
        self._parameters = [(jnp.array(W), jnp.zeros(W.shape[1], jnp.float32)) for W in weights]
        self._state: State = {}
        if self._net.optimizer == "adam":
            zeros = [jax.tree.map(jnp.zeros_like, self._parameters) for _ in range(2)]
            self._state = {"m": zeros[0], "v": zeros[1], "t": jnp.zeros((), jnp.int32)}

    def weights(self) -> list[np.ndarray]:
        return [np.array(W) for W, _ in self._parameters]

    def steps(self, count: int) -> None:
        step, X, y = self._step, self._X, self._y
        parameters, state = self._parameters, self._state
        for _ in range(count):
            parameters, state = step(parameters, state, X, y)
        self._parameters, self._state = jax.block_until_ready((parameters, state))


class JaxLoop(Jax):
    """The loop over the steps compiled as well: JAX's counterpart of a training loop outside Python."""

    def steps(self, count: int) -> None:
        carry = self._loop(count, self._parameters, self._state, self._X, self._y)
        self._parameters, self._state = jax.block_until_ready(carry)
