"""What `scaling.py` measures under mpiexec, on each rank with one thread; rank 0 writes it to a file as JSON.

mpiexec -n P python -m mpi4py -m harness.ranks FILE COMMAND

where the command is allreduce, steps NET ROWS…, reproducible NET ROWS… or overlap NET.

The steps of one rank alone are those of `fit` without `comm`, but for the reproducible ones.
"""

from __future__ import annotations

import json
import statistics
import sys
import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Any

import chainrule as cr
import numpy as np
from mpi4py import MPI

from harness.net import Net

SECONDS = 0.02
ROUNDS = 5
COMM = MPI.COMM_WORLD


def repeats(run: Callable[[], object]) -> int:
    """How often to call it for a round, the same on all ranks; after a first call that allocates."""
    run()
    COMM.Barrier()
    start = perf_counter()
    run()
    passed: float = COMM.bcast(perf_counter() - start)
    return max(1, min(1000, round(SECONDS / passed)))


def seconds_of(run: Callable[[], object], count: int) -> float:
    """Time of one call, over so many of them that all ranks begin together."""
    COMM.Barrier()
    start = perf_counter()
    for _ in range(count):
        run()
    return (perf_counter() - start) / count


def allreduce() -> list[tuple[int, float]]:
    """Bytes and median seconds of all-reduces in place."""
    result = []
    for power in range(0, 25, 2):
        array = np.zeros(2**power, np.float32)

        def run(array: np.ndarray = array) -> None:
            COMM.Allreduce(MPI.IN_PLACE, array)

        count = repeats(run)
        result.append((array.nbytes, statistics.median(seconds_of(run, count) for _ in range(ROUNDS))))
    return result


def steps(spec: str, *rows: str) -> list[float]:
    """Seconds of a step of `fit` with so many rows a rank."""
    together = {"comm": COMM} if COMM.size > 1 else {}
    return [step_seconds(Net.parse(spec), int(n), together) for n in rows]


def reproducible(spec: str, *rows: str) -> list[float]:
    """The same for the same bits from any number of ranks."""
    return [step_seconds(Net.parse(spec), int(n), {"comm": COMM, "reproducible": True}) for n in rows]


def step_seconds(net: Net, rows: int, together: dict[str, Any]) -> float:
    """Long epochs less short ones: what an epoch costs once does not count."""
    arguments = {"batch_size": rows * COMM.size, "optimizer": net.optimizer, **together}
    mlp = cr.MLP(net.layer_sizes, hidden_activation=net.hidden, loss=net.loss, seed=0)

    def epoch(count: int) -> float:
        X, y = np.resize(batch.data()[0], (rows * count, net.layer_sizes[0])), np.resize(batch.data()[1], rows * count)
        start = perf_counter()
        mlp.fit(X, y, epochs=1, **arguments)
        return perf_counter() - start

    batch = Net(net.layer_sizes, net.hidden, net.loss, net.optimizer, rows)
    epoch(2)
    estimate = max((epoch(6) - epoch(2)) / 4, 1e-6)
    count: int = COMM.bcast(max(1, min(1000, round(SECONDS / estimate))))
    return statistics.median((epoch(3 * count) - epoch(count)) / (2 * count) for _ in range(ROUNDS))


def overlap(spec: str) -> dict[str, list[float]]:
    """Seconds of a backward sweep by NumPy with its all-reduces, in alternating rounds.

    "at the end": one all-reduce of the whole gradient; "as ready": each layer's begins once it is there, and all are
    waited for at the end; "in a thread": the same by blocking calls in a second thread.
    """
    net = Net.parse(spec)
    rng = np.random.default_rng(0)
    sizes = net.layer_sizes
    activations = [rng.standard_normal((net.batch, d), dtype=np.float32) for d in sizes]
    weights = [rng.standard_normal(shape, dtype=np.float32) / shape[0] for shape in pairwise(sizes)]
    flat = np.zeros(sum(W.size for W in weights), np.float32)
    parts = [
        part.reshape(W.shape)
        for part, W in zip(np.split(flat, np.cumsum([W.size for W in weights])[:-1]), weights, strict=True)
    ]

    def sweep(ready: Callable[[np.ndarray], object]) -> None:
        delta = activations[-1]
        for a, W, dW in reversed(list(zip(activations[:-1], weights, parts, strict=True))):
            np.matmul(a.T, delta, out=dW)
            ready(dW)
            if a is not activations[0]:
                delta = (delta @ W.T) * (a > 0)

    def at_the_end() -> None:
        sweep(lambda part: None)
        COMM.Allreduce(MPI.IN_PLACE, flat)

    def as_ready() -> None:
        requests: list[MPI.Request] = []
        sweep(lambda part: requests.append(COMM.Iallreduce(MPI.IN_PLACE, part)))
        MPI.Request.Waitall(requests)

    def in_a_thread() -> None:
        ready, there = [], threading.Semaphore(0)

        def put(part: np.ndarray) -> None:
            ready.append(part)
            there.release()

        def send() -> None:
            for i in range(len(parts)):
                there.acquire()
                COMM.Allreduce(MPI.IN_PLACE, ready[i])

        thread = threading.Thread(target=send)
        thread.start()
        sweep(put)
        thread.join()

    ways = {"at the end": at_the_end, "as ready": as_ready, "in a thread": in_a_thread}
    count = repeats(at_the_end)
    for run in ways.values():
        run()
    result: dict[str, list[float]] = {name: [] for name in (*ways, "products alone")}
    for _ in range(ROUNDS):
        for name, run in ways.items():
            result[name].append(seconds_of(run, count))
        result["products alone"].append(seconds_of(lambda: sweep(lambda part: None), count))
    return result


def main() -> None:
    """Measure, and let rank 0 write."""
    file, what, *arguments = sys.argv[1:]
    cr.set_num_threads(1)
    measured = {"allreduce": allreduce, "steps": steps, "reproducible": reproducible, "overlap": overlap}[what](
        *arguments
    )
    if COMM.rank == 0:
        Path(file).write_text(json.dumps(measured))


if __name__ == "__main__":
    main()
