"""What a fit reports: after each epoch, and at its end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from chainrule._arguments import shown
from chainrule._extras import optional_package

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from chainrule.mlp import MLP


@dataclass(frozen=True)
class EpochReport:
    """What a callback of :meth:`MLP.fit` is called with, once an epoch.

    Attributes
    ----------
    mlp : MLP
        The network, after the epoch.
    epoch : int
        Number of the epoch in this fit, from 1.
    epochs : int
        How many epochs were asked for.
    loss : float
        Mean training loss of the epoch, of each step before its update.
    validation_loss : float or None
        Loss of the validation samples after the epoch; None without them.
    lr : float
        Learning rate at the end of the epoch.
    """

    mlp: MLP
    epoch: int
    epochs: int
    loss: float
    validation_loss: float | None
    lr: float


Callback: TypeAlias = Callable[[EpochReport], Any]
Observer: TypeAlias = Callable[[int, float, float | None, float, float], bool]


@dataclass
class History:
    """The course of a fit.

    Attributes
    ----------
    loss : list of float
        Mean training loss of each epoch.
    validation_loss : list of float
        Loss of the validation samples after each epoch; empty without them.
    lr : list of float
        Learning rate at the end of each epoch.
    epochs : int
        Epochs that were run.
    best_epoch : int or None
        With ``patience``, the epoch, from 1, whose parameters the network has now; None otherwise.
    stopped_early : bool
        Whether ``patience`` or a callback ended the fit before all epochs were run.
    """

    loss: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    lr: list[float] = field(default_factory=list)
    epochs: int = 0
    best_epoch: int | None = None
    stopped_early: bool = False

    def __repr__(self) -> str:
        parts = [f"epochs={self.epochs}"]
        if self.loss:
            parts.append(f"loss={self.loss[-1]:.6g}")
        if self.validation_loss:
            parts.append(f"validation_loss={self.validation_loss[-1]:.6g}")
        if self.best_epoch is not None:
            parts.append(f"best_epoch={self.best_epoch}")
        return f"History({', '.join(parts)}, stopped_early={self.stopped_early})"

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the loss against the epoch, with the validation loss beside it where there is one.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; a new figure's by default.

        Returns
        -------
        matplotlib Axes
        """
        if ax is None:
            ax = optional_package("matplotlib.pyplot", "plot").figure().add_subplot()
        assert ax is not None
        epochs = range(1, self.epochs + 1)
        ax.plot(epochs, self.loss, label="training")
        if self.validation_loss:
            ax.plot(epochs, self.validation_loss, label="validation")
        if self.best_epoch is not None:
            ax.axvline(self.best_epoch, color="0.6", linestyle=":", label="best epoch")
        ax.set_xlabel("epoch")
        ax.set_ylabel("loss")
        ax.legend()
        return ax


@contextmanager
def epoch_observer(mlp: MLP, epochs: int, callbacks: Iterable[Callback], progress: bool) -> Iterator[Observer | None]:
    """Give what the core is to call once an epoch: None where nobody listens, so that the loop stays in the core."""
    listeners = as_callbacks(callbacks)
    if not progress:
        yield observer(mlp, epochs, listeners) if listeners else None
        return
    with optional_package("tqdm.auto", "progress").tqdm(total=epochs, unit="epoch") as bar:

        def advance(report: EpochReport) -> None:
            losses = {"loss": report.loss, "val_loss": report.validation_loss}
            bar.set_postfix({name: f"{loss:.4g}" for name, loss in losses.items() if loss is not None}, refresh=False)
            bar.update(report.epoch - bar.n)

        yield observer(mlp, epochs, [advance, *listeners])


def observer(mlp: MLP, epochs: int, callbacks: list[Callback]) -> Observer:
    """Make all callbacks one that says whether to stop."""

    def on_epoch(epoch: int, loss: float, validation_loss: float | None, lr: float, penalty: float) -> bool:
        report = EpochReport(mlp, epoch, epochs, loss, validation_loss, lr)
        answers = [callback(report) for callback in callbacks]
        return any(isinstance(answer, (bool, np.bool_)) and bool(answer) for answer in answers)

    return on_epoch


def as_callbacks(given: Iterable[Callback]) -> list[Callback]:
    """Return a list of callables from any iterable of them."""
    if not isinstance(given, Iterable):
        raise TypeError(f"callbacks is {shown(given)}; expected a sequence of callables")
    callbacks = list(given)
    for i, callback in enumerate(callbacks):
        if not callable(callback):
            raise TypeError(f"callbacks[{i}] is {shown(callback)}; expected a callable")
    return callbacks
