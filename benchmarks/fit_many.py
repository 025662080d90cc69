"""64 networks 8-64-64-4 at once: fit_many beside fits one by one, torch.func and jax.vmap, in alternating rounds.

    python benchmarks/fit_many.py [--rounds 5] [--nets 64] [--epochs 1]

Every network takes Adam steps on the same batches of 32 rows, in float32, from its own initial weights. The times are
those of so many epochs of 32 steps of all networks, compiled code warmed up before.
"""

import statistics
import time
from itertools import pairwise

import chainrule as cr
import numpy as np

from harness import arguments, machine

SIZES, BATCH, STEPS = [8, 64, 64, 4], 32, 32


def library(nets, epochs, X, y):
    mlps = [cr.MLP(SIZES, hidden_activation="tanh", seed=seed) for seed in range(nets)]
    optimizers = [cr.Adam() for _ in mlps]

    def many():
        cr.fit_many(mlps, X, y, epochs=epochs, batch_size=BATCH, optimizer=optimizers, shuffle=False)

    others = [cr.MLP(SIZES, hidden_activation="tanh", seed=seed) for seed in range(nets)]
    their_optimizers = [cr.Adam() for _ in others]

    def one_by_one():
        for mlp, optimizer in zip(others, their_optimizers, strict=True):
            mlp.fit(X, y, epochs=epochs, batch_size=BATCH, optimizer=optimizer, shuffle=False)

    return {"fit_many": many, "fits one by one": one_by_one}


def torch_func(nets, epochs, X, y):
    import torch
    from torch.func import functional_call, grad, stack_module_state, vmap

    def module():
        layers = []
        for d_in, d_out in pairwise(SIZES):
            layers += [torch.nn.Linear(d_in, d_out), torch.nn.Tanh()]
        return torch.nn.Sequential(*layers[:-1])

    base = module()
    parameters, buffers = stack_module_state([module() for _ in range(nets)])
    leaves = list(parameters.values())
    optimizer = torch.optim.Adam(leaves, fused=True)
    X, y = torch.from_numpy(X), torch.from_numpy(y)

    def loss(parameters, buffers, X, y):
        return torch.nn.functional.mse_loss(functional_call(base, (parameters, buffers), (X,)), y)

    gradients_of = vmap(grad(loss), in_dims=(0, 0, None, None))

    def run():
        for first in [*range(0, len(X), BATCH)] * epochs:
            gradients = gradients_of(parameters, buffers, X[first : first + BATCH], y[first : first + BATCH])
            for name, leaf in parameters.items():
                leaf.grad = gradients[name]
            optimizer.step()

    return run


def jax_vmap(nets, epochs, X, y):
    import jax
    import jax.numpy as jnp

    rng = np.random.default_rng(0)
    parameters = [
        (jnp.asarray(rng.normal(size=(nets, a, b)).astype(np.float32) / a**0.5), jnp.zeros((nets, b), jnp.float32))
        for a, b in pairwise(SIZES)
    ]

    def loss(parameters, X, y):
        for W, b in parameters[:-1]:
            X = jnp.tanh(X @ W + b)
        W, b = parameters[-1]
        return jnp.mean((X @ W + b - y) ** 2)

    def step(carry, batch):
        theta, m, v, t = carry
        g = jax.vmap(jax.grad(loss), in_axes=(0, None, None))(theta, *batch)
        t = t + 1
        tree = jax.tree_util.tree_map
        m = tree(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = tree(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
        update = tree(lambda m, v: 1e-3 * (m / (1 - 0.9**t)) / (jnp.sqrt(v / (1 - 0.999**t)) + 1e-8), m, v)
        return (tree(jnp.subtract, theta, update), m, v, t), None

    epoch = jax.jit(lambda carry, batches: jax.lax.scan(step, carry, batches)[0], donate_argnums=0)
    zeros = lambda: jax.tree_util.tree_map(jnp.zeros_like, parameters)  # noqa: E731
    carry = (jax.tree_util.tree_map(jnp.copy, parameters), zeros(), zeros(), jnp.float32(0))
    batches = jnp.asarray(X.reshape(STEPS, BATCH, -1)), jnp.asarray(y.reshape(STEPS, BATCH, -1))
    state = [carry]

    def run():
        for _ in range(epochs):
            state[0] = epoch(state[0], batches)
        jax.block_until_ready(state[0])

    return run


PEERS = {"torch.func": torch_func, "jax.vmap": jax_vmap}


def main():
    parser = arguments.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--nets", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS))
    options = parser.parse_args()
    machine.warn_if_busy()
    rng = np.random.default_rng(1)
    X = rng.normal(size=(BATCH * STEPS, SIZES[0])).astype(np.float32)
    y = rng.normal(size=(BATCH * STEPS, SIZES[-1])).astype(np.float32)
    runs = library(options.nets, options.epochs, X, y)
    for name in options.peers:
        try:
            runs[name] = PEERS[name](options.nets, options.epochs, X, y)
        except ImportError as error:
            print(f"{name} is left out: {error}")
    for run in runs.values():
        run()
        run()
    times = {name: [] for name in runs}
    for _ in range(options.rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
            time.sleep(0.02)  # threads of one library that still spin would take time from the next
    sizes = "-".join(map(str, SIZES))
    steps = f"{options.epochs * STEPS} steps of {BATCH} rows"
    print(f"{options.nets} networks {sizes}, {steps}, {cr.get_num_threads()} threads")
    for name, seconds in times.items():
        ratios = [other / mine for other, mine in zip(seconds, times["fit_many"], strict=True)]
        print(
            f"{name:16} {statistics.median(seconds) * 1e3:9.2f} ms   {statistics.median(ratios):6.2f} × fit_many "
            f"({min(ratios):.2f} to {max(ratios):.2f})"
        )


if __name__ == "__main__":
    main()
