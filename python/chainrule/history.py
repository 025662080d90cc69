"""What a fit reports: after each epoch, and at its end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

import chainrule
from chainrule import plots
from chainrule._arguments import shown
from chainrule._extras import optional_package, progress_bar
from chainrule._json import jsonable
from chainrule._table import Table
from chainrule._types import Axes, FitRecord
from chainrule.monitor import GradientFlow
from chainrule.non_finite import NonFinite


@dataclass(frozen=True)
class EpochReport:
    """What a callback of :meth:`MLP.fit`, or of an estimator's ``fit``, is called with, once an epoch.

    Attributes
    ----------
    mlp : MLP
        The network, after the epoch.
    epoch : int
        Number of the epoch in this fit, from 1.
    epochs : int
        How many epochs were asked for.
    loss : float
        Mean training loss of the epoch, of each step before its update; of an estimator, its ``loss_``.
    validation_loss : float or None
        Loss of the validation samples after the epoch; None without them.
    lr : float
        Learning rate at the end of the epoch; 1 for "lbfgs", which has none.
    monitor : GradientFlow or None
        What was given to the fit, with all that it has recorded so far.
    """

    mlp: chainrule.MLP
    epoch: int
    epochs: int
    loss: float
    validation_loss: float | None
    lr: float
    monitor: GradientFlow | None = None


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
        Whether ``patience``, a callback or a step that was not finite ended the fit before all epochs were run.
    non_finite : NonFinite or None
        With ``on_nonfinite="stop"`` or "ignore", where the first step that was left out went wrong.
    steps_left_out : int
        How many steps were left out because their loss or gradient was not finite.
    monitor : GradientFlow or None
        What was given to the fit.
    micro_batch : int or None
        Rows that were in memory at a time, given or picked by ``memory_limit``; None where neither was.
    mlp : MLP or None
        The network that `fit_many` made from a dictionary.
    """

    loss: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    lr: list[float] = field(default_factory=list)
    epochs: int = 0
    best_epoch: int | None = None
    stopped_early: bool = False
    non_finite: NonFinite | None = None
    steps_left_out: int = 0
    monitor: GradientFlow | None = field(default=None, compare=False)
    micro_batch: int | None = None
    mlp: chainrule.MLP | None = field(default=None, compare=False)

    @classmethod
    def of(cls, record: FitRecord, monitor: GradientFlow | None = None, micro_batch: int | None = None) -> History:
        """Turn what the core says of a fit into a history."""
        non_finite = record["non_finite"]
        where = None if non_finite is None else NonFinite(**non_finite)
        return cls(**{**record, "non_finite": where}, monitor=monitor, micro_batch=micro_batch)  # type: ignore[arg-type]

    def __repr__(self) -> str:
        parts = [f"epochs={self.epochs}"]
        if self.loss:
            parts.append(f"loss={self.loss[-1]:.6g}")
        if self.validation_loss:
            parts.append(f"validation_loss={self.validation_loss[-1]:.6g}")
        if self.best_epoch is not None:
            parts.append(f"best_epoch={self.best_epoch}")
        if self.steps_left_out:
            parts.append(f"steps_left_out={self.steps_left_out}")
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

        Raises
        ------
        ImportError
            Without matplotlib.
        """
        return plots.losses(self, ax)

    def plot_all(self) -> list[Axes]:
        """Draw a page: losses, gradient flow at the end and over time, sizes of the updates, activation histograms.

        Returns
        -------
        list of matplotlib Axes
            In that order, of one figure: ``axes[0].figure``.

        Raises
        ------
        ValueError
            If the fit had no ``monitor``.
        """
        return plots.page(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as plain lists and dictionaries, ready for JSON; None for what is not finite.

        A monitor has a `to_dict` of its own.
        """
        numbers = {name: value for name, value in vars(self).items() if name not in ("monitor", "non_finite", "mlp")}
        return jsonable({**numbers, "non_finite": None if self.non_finite is None else self.non_finite.to_dict()})

    def to_pandas(self) -> Any:
        """Return a pandas DataFrame with a row per epoch.

        Raises
        ------
        ImportError
            Without pandas.
        """
        columns = {"loss": self.loss, "validation_loss": self.validation_loss, "lr": self.lr}
        pandas = optional_package("pandas", "pandas")
        index = pandas.RangeIndex(1, self.epochs + 1, name="epoch")
        return pandas.DataFrame({name: values for name, values in columns.items() if values}, index=index)

    def _repr_html_(self) -> str:
        rows = [
            (
                str(self.epochs),
                *(f"{values[-1]:.6g}" if values else "-" for values in (self.loss, self.validation_loss)),
            )
        ]
        return Table(("epochs", "loss", "validation loss"), rows)._repr_html_()


@contextmanager
def epoch_observer(
    mlp: chainrule.MLP,
    epochs: int,
    callbacks: Callback | Iterable[Callback],
    progress: bool,
    monitor: GradientFlow | None = None,
    of_bar: GradientFlow | None = None,
) -> Iterator[Observer | None]:
    """Give what the core is to call once an epoch: None where nobody listens, so that the loop stays in the core."""
    listeners = as_callbacks(callbacks)
    if not progress:
        yield observer(mlp, epochs, listeners, monitor) if listeners else None
        return
    with progress_bar(epochs) as bar:

        def advance(report: EpochReport) -> None:
            figures = {"loss": report.loss, "val_loss": report.validation_loss}
            if of_bar is not None and len(of_bar._record):
                figures["min_grad"] = of_bar.smallest_gradient()
            bar.set_postfix({name: f"{x:.4g}" for name, x in figures.items() if x is not None}, refresh=False)
            bar.update(report.epoch - bar.n)

        yield observer(mlp, epochs, [advance, *listeners], monitor)


def observer(mlp: chainrule.MLP, epochs: int, callbacks: list[Callback], monitor: GradientFlow | None) -> Observer:
    """Make all callbacks one that says whether to stop."""

    def on_epoch(epoch: int, loss: float, validation_loss: float | None, lr: float, penalty: float) -> bool:
        report = EpochReport(mlp, epoch, epochs, loss, validation_loss, lr, monitor)
        answers = [callback(report) for callback in callbacks]
        return any(isinstance(answer, (bool, np.bool_)) and bool(answer) for answer in answers)

    return on_epoch


def as_callbacks(given: Callback | Iterable[Callback]) -> list[Callback]:
    """Return a list of callables from one or from any iterable of them."""
    if callable(given):
        return [given]
    if not isinstance(given, Iterable):
        raise TypeError(f"callbacks is {shown(given)}; expected a sequence of callables")
    callbacks = list(given)
    for i, callback in enumerate(callbacks):
        if not callable(callback):
            raise TypeError(f"callbacks[{i}] is {shown(callback)}; expected a callable")
    return callbacks
