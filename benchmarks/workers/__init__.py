"""The peers: each trains the same net on the same batch behind the same small interface.

`python -m workers PEER NET THREADS LR` serves one of them; see `__main__`.
No peer hands over the loss of a step, except the two that always do: chainrule and scikit-learn.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import Protocol

import numpy as np

from harness.net import Net


class UnsupportedError(Exception):
    """This peer cannot train that net."""


class Worker(Protocol):
    """One peer with one net."""

    version: str

    def __init__(self, net: Net, lr: float, threads: int) -> None: ...

    def load(self, weights: Iterable[np.ndarray]) -> None:
        """Start from these weights (d_in, d_out), zero biases and a fresh optimizer."""

    def weights(self) -> list[np.ndarray]:
        """The weights (d_in, d_out) now."""

    def steps(self, count: int) -> None:
        """Take that many training steps on the batch, and return when the last has been taken."""


# Name: module, class.
PEERS = {
    "chainrule-fit": ("chainrule", "Fit"),
    "chainrule-step": ("chainrule", "Step"),
    "chainrule-micro": ("chainrule", "MicroBatches"),  # for memory.py
    "numpy": ("numpy", "NumPy"),
    "scikit-learn": ("scikit_learn", "ScikitLearn"),
    "pytorch": ("pytorch", "PyTorch"),
    "pytorch-compile": ("pytorch", "CompiledPyTorch"),
    "jax": ("jax", "Jax"),
    "jax-loop": ("jax", "JaxLoop"),
}
OURS = ("chainrule-fit", "chainrule-step")
USUAL = ("numpy", "scikit-learn", "pytorch", "jax")
OPTIONAL = ("pytorch-compile", "jax-loop")


def create(peer: str, net: Net, lr: float, threads: int) -> Worker:
    """Import a peer and build its net."""
    module, name = PEERS[peer]
    worker: Worker = getattr(import_module(f"workers.{module}"), name)(net, lr, threads)
    return worker
