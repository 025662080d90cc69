"""Jacobians, per-sample gradients and Hessian products: chainrule against torch.func and jitted JAX.

Each in a process of its own with the same threads, data and weights in fp32, in alternating rounds. What counts is the
ratio within a round. Batches are cut where a result would have more than 10⁸ numbers.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from time import perf_counter
from typing import Any

import numpy as np
from tqdm import tqdm

from harness import arguments, machine
from harness.net import Net
from harness.results import Spread

Derivatives = dict[str, Callable[[], Any]]
LARGEST_RESULT = 10**8
NAMES = ("input_gradient", "jacobian", "jvp", "per_sample_gradients", "per_sample_gradient_norms", "hvp")


def rows_of(net: Net, name: str) -> int:
    """Samples that the derivative is taken of."""
    numbers = {"jacobian": net.layer_sizes[0] * net.layer_sizes[-1], "per_sample_gradients": net.n_parameters}
    return max(1, min(net.batch, LARGEST_RESULT // numbers.get(name, 1)))


def directions(net: Net) -> tuple[Any, list[tuple[Any, Any]]]:
    """V for the inputs and v for the parameters, such that a compiler finds nothing in them to leave out."""
    rng = np.random.default_rng(1)

    def normal(*shape: int) -> Any:
        return rng.standard_normal(shape, np.float32)

    sizes = net.layer_sizes
    return normal(net.batch, sizes[0]), [(normal(*pair), normal(pair[1])) for pair in itertools.pairwise(sizes)]


def chainrule(net: Net, name: str, threads: int) -> Callable[[], Any]:
    """The methods of `MLP`."""
    import chainrule as cr

    cr.set_num_threads(threads)
    mlp = cr.MLP(net.layer_sizes, hidden_activation=net.hidden, loss=net.loss)
    for mine, W in zip(mlp.weights, net.initial_weights(), strict=True):
        mine[:] = W
    rows = rows_of(net, name)
    X, y = (array[:rows] for array in net.data())
    V, parts = directions(net)
    v = np.concatenate([np.vstack(part).ravel() for part in parts])
    return {
        "input_gradient": lambda: mlp.input_gradient(X, 0),
        "jacobian": lambda: mlp.jacobian(X),
        "jvp": lambda: mlp.jvp(X, V),
        "per_sample_gradients": lambda: mlp.per_sample_gradients(X, y),
        "per_sample_gradient_norms": lambda: mlp.per_sample_gradient_norms(X, y),
        "hvp": lambda: mlp.hvp(X, y, v),
    }[name]


def pytorch(net: Net, name: str, threads: int) -> Callable[[], Any]:
    """torch.func on plain functions."""
    import torch
    from torch import func
    from torch.nn import functional

    torch.set_num_threads(threads)
    rows = rows_of(net, name)
    X, y = (torch.from_numpy(array[:rows]) for array in net.data())
    theta = [(torch.from_numpy(W), torch.zeros(W.shape[1])) for W in net.initial_weights()]
    hidden = {"identity": lambda z: z, "sigmoid": torch.sigmoid, "tanh": torch.tanh, "relu": torch.relu}[net.hidden]
    output = {"mse": lambda z: z, "bce": torch.sigmoid, "cross_entropy": lambda z: torch.softmax(z, -1)}[net.loss]
    of_logits = {
        "mse": functional.mse_loss,
        "bce": functional.binary_cross_entropy_with_logits,
        "cross_entropy": functional.cross_entropy,
    }[net.loss]

    def logits(theta: Any, x: Any) -> Any:
        for W, b in theta[:-1]:
            x = hidden(x @ W + b)
        return x @ theta[-1][0] + theta[-1][1]

    def outputs(x: Any) -> Any:
        return output(logits(theta, x))

    def loss(theta: Any, x: Any, y: Any) -> Any:
        return of_logits(logits(theta, x), y)

    per_sample = func.vmap(func.grad(loss), in_dims=(None, 0, 0))

    def norms() -> Any:
        squares = [part.flatten(1).square().sum(1) for layer in per_sample(theta, X, y) for part in layer]
        return sum(squares).sqrt()

    V, parts = directions(net)
    V, v = torch.from_numpy(V), [tuple(map(torch.from_numpy, part)) for part in parts]
    jacobian = func.vmap(func.jacrev(outputs))
    gradient = func.grad(lambda x: outputs(x)[:, 0].sum())
    return {
        "input_gradient": lambda: gradient(X),
        "jacobian": lambda: jacobian(X),
        "jvp": lambda: func.jvp(outputs, (X,), (V,))[1],
        "per_sample_gradients": lambda: per_sample(theta, X, y),
        "per_sample_gradient_norms": norms,
        "hvp": lambda: func.vjp(func.grad(lambda theta: loss(theta, X, y)), theta)[1](v),
    }[name]


def jax(net: Net, name: str, threads: int) -> Callable[[], Any]:
    """The same in JAX, compiled."""
    import jax
    import jax.numpy as jnp

    rows = rows_of(net, name)
    X, y = (jnp.asarray(array[:rows]) for array in net.data())
    theta = [(jnp.asarray(W), jnp.zeros(W.shape[1])) for W in net.initial_weights()]
    hidden = {"identity": lambda z: z, "sigmoid": jax.nn.sigmoid, "tanh": jnp.tanh, "relu": jax.nn.relu}[net.hidden]
    output = {"mse": lambda z: z, "bce": jax.nn.sigmoid, "cross_entropy": jax.nn.softmax}[net.loss]

    def logits(theta: Any, x: Any) -> Any:
        for W, b in theta[:-1]:
            x = hidden(x @ W + b)
        return x @ theta[-1][0] + theta[-1][1]

    def outputs(theta: Any, x: Any) -> Any:
        return output(logits(theta, x))

    def loss(theta: Any, x: Any, y: Any) -> Any:
        z = logits(theta, x)
        if net.loss == "mse":
            return jnp.mean((z - y) ** 2)
        if net.loss == "bce":
            return jnp.mean(jnp.logaddexp(0, z) - y * z)
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(z), jnp.expand_dims(y, -1), -1))

    per_sample = jax.vmap(jax.grad(loss), in_axes=(None, 0, 0))

    def norms(theta: Any, X: Any, y: Any) -> Any:
        squares = [(part.reshape(len(part), -1) ** 2).sum(1) for layer in per_sample(theta, X, y) for part in layer]
        return jnp.sqrt(sum(squares))

    V, parts = directions(net)
    V, v = jnp.asarray(V), [tuple(map(jnp.asarray, part)) for part in parts]

    compiled = jax.jit(
        {
            "input_gradient": lambda theta, X, y, V, v: jax.grad(lambda x: outputs(theta, x)[:, 0].sum())(X),
            "jacobian": lambda theta, X, y, V, v: jax.vmap(jax.jacrev(lambda x: outputs(theta, x)))(X),
            "jvp": lambda theta, X, y, V, v: jax.jvp(lambda x: outputs(theta, x), (X,), (V,))[1],
            "per_sample_gradients": lambda theta, X, y, V, v: per_sample(theta, X, y),
            "per_sample_gradient_norms": lambda theta, X, y, V, v: norms(theta, X, y),
            "hvp": lambda theta, X, y, V, v: jax.jvp(lambda theta: jax.grad(loss)(theta, X, y), (theta,), (v,))[1],
        }[name]
    )
    return lambda: jax.block_until_ready(compiled(theta, X, y, V, v))


PEERS = {"chainrule": chainrule, "torch.func": pytorch, "jax": jax}
current: tuple[object, Callable[[], Any], int] | None = None


def round_of(peer: str, spec: str, name: str, threads: int, seconds: float) -> float:
    """Median µs of a call, in the peer's own process, which keeps what it built for the last net."""
    global current
    key = (spec, name)
    if current is None or current[0] != key:
        call = PEERS[peer](Net.parse(spec), name, threads)
        call()
        start = perf_counter()
        call()
        once = perf_counter() - start
        current = key, call, max(1, int(seconds / 5 / max(once, 1e-7)))
    _, call, chunk = current
    times = []
    start = perf_counter()
    while len(times) < 3 or perf_counter() - start < seconds:
        before = perf_counter()
        for _ in range(chunk):
            call()
        times.append((perf_counter() - before) / chunk)
    return float(np.median(times) * 1e6)


def main() -> None:
    """Run the program."""
    parser = arguments.parser(__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.1, help="time of one peer in one round")
    parser.add_argument("--derivatives", nargs="+", choices=NAMES, default=list(NAMES), metavar="NAME")
    arguments.add_nets(parser)
    options = parser.parse_args()
    arguments.check_threads(parser, [options.threads])
    machine.warn_if_busy()
    os.environ.update(machine.environment(options.threads))
    print(f"{'net':18}{'':27}{'µs':>12}   times as fast as: median [least–greatest] of {options.rounds} rounds")
    with ExitStack() as stack:
        stack.enter_context(machine.confined(options.threads))
        context = multiprocessing.get_context("spawn")
        pools = {peer: stack.enter_context(ProcessPoolExecutor(1, mp_context=context)) for peer in PEERS}
        nets = arguments.chosen_nets(parser, options)
        for net, name in tqdm(list(itertools.product(nets, options.derivatives)), leave=False):
            times: dict[str, list[float]] = {peer: [] for peer in pools}
            for _, (peer, pool) in itertools.product(range(options.rounds), pools.items()):
                try:
                    arguments_of_round = (peer, net.spec, name, options.threads, options.seconds)
                    times[peer].append(pool.submit(round_of, *arguments_of_round).result())
                except (ImportError, MemoryError, RuntimeError) as error:
                    tqdm.write(f"{net.label}, {name}: {peer} left out ({error})")
            line = f"{net.label:18}{name:27}{np.median(times['chainrule']):12,.1f}   "
            for peer in (peer for peer in pools if peer != "chainrule" and times[peer]):
                ratios = Spread.of(b / a for a, b in zip(times["chainrule"], times[peer], strict=True))
                line += f"{peer} {ratios:.2f}   "
            tqdm.write(line.rstrip())


if __name__ == "__main__":
    main()
