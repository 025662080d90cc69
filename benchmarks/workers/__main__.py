"""Serve one peer: read commands as lines of JSON, answer each with a line of JSON.

start                 -> {"version"}                    build the net
load                  -> {}                             start from the weights that all peers start from
warm_up, seconds      -> {"chunk"}                      run for a while
round, chunk, seconds -> {"microseconds"}               median time of a step
movement, steps       -> {"movement": [[norm, sum]…]}   how far each layer's weights go in so many steps
memory, steps         -> {"before", "peak"}             resident bytes before the net was built, and at most
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from harness import machine, timing
from harness.net import Net
from workers import PEERS, UnsupportedError, Worker, create


class Server:
    """The commands, one method each."""

    worker: Worker

    def __init__(self, peer: str, spec: str, threads: str, lr: str) -> None:
        self._peer = peer
        self._net = Net.parse(spec)
        self._lr = float(lr)
        self._threads = int(threads)

    def start(self) -> dict[str, Any]:
        import_module(f"workers.{PEERS[self._peer][0]}")
        self._before = machine.peak_memory()
        self.worker = create(self._peer, self._net, self._lr, self._threads)
        return {"version": self.worker.version}

    def load(self) -> dict[str, Any]:
        self.worker.load(self._net.initial_weights())
        return {}

    def warm_up(self, seconds: float) -> dict[str, Any]:
        return {"chunk": timing.warm_up(self.worker.steps, seconds)}

    def round(self, chunk: int, seconds: float) -> dict[str, Any]:
        return {"microseconds": timing.median_microseconds(self.worker.steps, chunk, seconds)}

    def movement(self, steps: int) -> dict[str, Any]:
        self.worker.steps(steps)
        moves = (W - start for W, start in zip(self.worker.weights(), self._net.initial_weights(), strict=True))
        return {"movement": [[float(np.linalg.norm(move)), float(move.sum(dtype=np.float64))] for move in moves]}

    def memory(self, steps: int) -> dict[str, Any]:
        self.worker.steps(steps)
        return {"before": self._before, "peak": machine.peak_memory()}


def main() -> None:
    """Answer until the input ends."""
    server = Server(*sys.argv[1:])
    # Whatever a peer prints must not get between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        command: Callable[..., dict[str, Any]] = getattr(server, request.pop("command"))
        try:
            answer = command(**request)
        except (ImportError, UnsupportedError, MemoryError) as error:
            answer = {"error": f"{error or type(error).__name__}"}
        print(json.dumps(answer), file=answers, flush=True)


main()
