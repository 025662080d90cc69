"""Learn XOR: 5,000 epochs of a 2-4-1 sigmoid net with SGD at a rate of 0.5, chainrule's `fit` against a PyTorch loop.

Both in a process of their own, in alternating rounds, each from its own random start.
"""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from time import perf_counter
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from harness import arguments, machine
from harness.results import Spread

X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=np.float32)
Y = np.array([0, 1, 1, 0], dtype=np.float32)
LR = 0.5


class Training(NamedTuple):
    """How long it took, and what came out."""

    seconds: float
    loss: float
    predictions: list[float]


def chainrule(epochs: int, threads: int, seed: int) -> Training:
    """The training loop of the library."""
    import chainrule as cr

    cr.set_num_threads(threads)
    start = perf_counter()
    mlp = cr.MLP([2, 4, 1], hidden_activation="sigmoid", loss="bce", seed=seed)
    mlp.fit(X, Y, epochs=epochs, batch_size=4, optimizer=cr.SGD(lr=LR), shuffle=False)
    seconds = perf_counter() - start
    return Training(seconds, mlp.evaluate(X, Y), mlp.predict(X).ravel().tolist())


def pytorch(epochs: int, threads: int, seed: int) -> Training:
    """The loop that a beginner writes: sigmoid output, BCELoss, plain SGD."""
    import torch
    from torch import nn

    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    inputs, targets = torch.from_numpy(X), torch.from_numpy(Y)
    start = perf_counter()
    model = nn.Sequential(nn.Linear(2, 4), nn.Sigmoid(), nn.Linear(4, 1), nn.Sigmoid())
    criterion = nn.BCELoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    for _ in range(epochs):
        optimizer.zero_grad()
        criterion(model(inputs).squeeze(), targets).backward()
        optimizer.step()
    seconds = perf_counter() - start
    with torch.no_grad():
        predictions = model(inputs).squeeze()
        return Training(seconds, criterion(predictions, targets).item(), predictions.tolist())


def main() -> None:
    """Run the program."""
    parser = arguments.parser(__doc__)
    parser.add_argument("--epochs", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    arguments.check_threads(parser, [options.threads])

    machine.warn_if_busy()
    os.environ.update(machine.environment(options.threads))
    trainings: dict[str, list[Training]] = {}
    with ExitStack() as stack:
        pools = {}
        stack.enter_context(machine.confined(options.threads))
        for train in (chainrule, pytorch):
            # A fresh interpreter: neither library may see what the other has loaded.
            context = multiprocessing.get_context("spawn")
            pool = stack.enter_context(ProcessPoolExecutor(1, mp_context=context))
            try:
                pool.submit(train, 10, options.threads, 0).result()
                pools[train] = pool
            except ImportError as error:
                print(f"left out: {train.__name__} ({error})")
        for seed in tqdm(range(options.rounds), desc="rounds", leave=False):
            for train, pool in pools.items():
                training = pool.submit(train, options.epochs, options.threads, seed).result()
                trainings.setdefault(train.__name__, []).append(training)

    print(f"XOR, {options.epochs:,} epochs; median [least–greatest] of {options.rounds} rounds")
    for name, runs in trainings.items():
        last = runs[-1]
        predictions = " ".join(f"{p:.2f}" for p in last.predictions)
        milliseconds = Spread.of(run.seconds * 1e3 for run in runs)
        print(f"  {name:10} {milliseconds:.2f} ms   last run: loss {last.loss:.4f}, predictions {predictions}")
    if len(trainings) == 2:
        pairs = zip(trainings["pytorch"], trainings["chainrule"], strict=True)
        print(f"  chainrule is faster by {Spread.of(theirs.seconds / ours.seconds for theirs, ours in pairs):.1f}")


if __name__ == "__main__":
    main()
