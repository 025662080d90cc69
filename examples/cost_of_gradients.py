"""What a gradient costs: finite differences against backpropagation.

Finite differences need a forward pass for every parameter, or two if they are central; backpropagation needs one
forward and one backward pass for all of them together. The program measures both on a network of about 10,000
parameters, and the time of the backward pass against the forward pass. Then it extrapolates to 100 million parameters,
where each pass, too, takes 10,000 times as long.
"""

import time
from collections.abc import Callable
from statistics import median

import numpy as np

import chainrule as cr

LARGE = 100_000_000
YEAR = 365.25 * 24 * 3600


def main(batch: int = 64, repeats: int = 200, seed: int = 0) -> dict[str, float]:
    """Measure, print, and return the numbers by name; times are in seconds."""
    random = np.random.default_rng(seed)
    mlp = cr.MLP([32, 96, 64, 10], hidden_activation="tanh", loss="cross_entropy", dtype="float64", seed=seed)
    X = random.standard_normal((batch, 32))
    y = random.integers(0, 10, batch)

    check = mlp.check_gradients(X, y)
    forward, backward = times_of(lambda: mlp.forward(X), lambda: mlp.backward(y), repeats=repeats)
    growth = LARGE / mlp.n_parameters
    cost = {
        "parameters": mlp.n_parameters,
        "max_relative_error": check.max_relative_error,
        "forward_seconds": forward,
        "backward_seconds": backward,
        "backward_to_forward": backward / forward,
        "forward_passes": check.forward_passes,
        "backprop_seconds": check.backprop_seconds,
        "differences_seconds": check.differences_seconds,
        "speedup": check.differences_seconds / check.backprop_seconds,
        "large_backprop_seconds": (forward + backward) * growth,
        "large_one_sided_seconds": (LARGE + 1) * forward * growth,
        "large_central_seconds": 2 * LARGE * forward * growth,
    }

    print(f"{mlp}, batch of {batch}\n")
    print(f"forward pass          {forward * 1e6:12,.1f} µs")
    print(f"backward pass         {backward * 1e6:12,.1f} µs, {cost['backward_to_forward']:.1f} × the forward pass")
    print(f"central differences   {check.differences_seconds * 1e6:12,.1f} µs, {check.forward_passes:,} forward passes")
    print(
        f"both gradients agree to {check.max_relative_error:.0e}; differences take {cost['speedup']:,.0f} × as long\n"
    )
    print(f"Extrapolated to {LARGE:,} parameters:")
    print(f"backpropagation       {cost['large_backprop_seconds']:12,.1f} s")
    print(f"one-sided differences {cost['large_one_sided_seconds'] / YEAR:12,.1f} years")
    print(f"central differences   {cost['large_central_seconds'] / YEAR:12,.1f} years")
    return cost


def times_of(*calls: Callable[[], object], repeats: int) -> list[float]:
    """Return the median time of each call, all of them made in turn, in seconds."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(repeats):
        for call, seconds in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - start)
    return [median(seconds) for seconds in times]


if __name__ == "__main__":
    main()
