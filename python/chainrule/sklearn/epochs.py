"""What happens after each epoch: curves, callbacks, and scikit-learn's rules of when to slow down or stop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from chainrule._core import Optimizer
from chainrule.distributed import Ranks
from chainrule.history import Observer, epoch_observer
from chainrule.sklearn.callbacks import FitTask
from chainrule.sklearn.samples import Samples

if TYPE_CHECKING:
    from chainrule.sklearn.base import BaseMLP


@contextmanager
def listeners(estimator: BaseMLP, given: Samples, rows: Any, epochs: int, lines: bool, bar: bool) -> Iterator[Observer]:
    """Give the one function that tells all who listen of an epoch: printed lines or a bar, callbacks of both kinds.

    scikit-learn's callbacks get the rows that are trained on of the samples as the user has `given` them.
    """
    task = FitTask(estimator, *given.take(rows), epochs) if getattr(estimator, "_skl_callbacks", None) else None
    callbacks = () if estimator.callbacks is None else estimator.callbacks
    with epoch_observer(estimator.mlp_, epochs, callbacks, bar) as observer:

        def tell(epoch: int, loss: float, validation_loss: float | None, lr: float, penalty: float) -> bool:
            if lines:
                print(f"Iteration {epoch}, loss = {loss:.8f}")
            stop = observer is not None and observer(epoch, loss, validation_loss, lr, penalty)
            return (task is not None and task.epoch_done()) or stop

        yield tell
        if task is not None:
            task.fit_done()


def rate_rule(estimator: BaseMLP) -> tuple[Any, float, float]:
    """Give how the learning rate changes, by scikit-learn's rules for "sgd": by name, from which rate and `power_t`."""
    name = estimator.learning_rate if estimator.solver == "sgd" else "constant"
    return name, estimator.learning_rate_init, estimator.power_t


class EpochDone:
    """The estimator's attributes after each epoch of a stochastic solver, and whether to stop.

    `score` gives the validation score with early stopping, and is None without. With `ranks` all stop where one wants
    to.
    """

    def __init__(
        self,
        estimator: BaseMLP,
        optimizer: Optimizer,
        tell: Observer,
        loss: Callable[[float], float],
        validation_loss: Callable[[float], float],
        n_samples: int,
        score: Callable[[], float] | None,
        lines: bool,
        ranks: Ranks | None,
    ) -> None:
        self.estimator, self.optimizer, self.tell = estimator, optimizer, tell
        self.loss, self.validation_loss, self.score = loss, validation_loss, score
        self.n_samples, self.lines, self.ranks = n_samples, lines, ranks
        self.rule, self.start, self.power_t = estimator._rate_rule
        self.best_parameters: npt.NDArray[np.floating[Any]] | None = None
        self.stopped = False

    def __call__(self, epoch: int, loss: float, validation_loss: float | None, lr: float, penalty: float) -> bool:
        """Take what the core reports of an epoch: L, its validation loss, the rate and the L2 term."""
        e = self.estimator
        e.n_iter_ = epoch
        e.t_ += self.n_samples
        e.loss_ = self.loss(loss) + penalty
        e.loss_curve_.append(e.loss_)
        if validation_loss is not None:
            validation_loss = self.validation_loss(validation_loss)
            e.validation_curve_.append(validation_loss)
        self.stopped = self.tell(epoch, e.loss_, validation_loss, lr, penalty)
        e._no_improvement_count = 0 if self._improved() else e._no_improvement_count + 1
        if self.rule == "invscaling":
            self.optimizer.lr = self.start / (e.t_ + 1) ** self.power_t
        if e._no_improvement_count > e.n_iter_no_change:
            self._out_of_patience()
        if self.ranks:
            self.stopped = self.ranks.epoch_done(self.stopped)
        return self.stopped

    def _improved(self) -> bool:
        e = self.estimator
        if self.score is None:
            best: float = e.best_loss_
            e.best_loss_ = min(best, e.loss_)
            return e.loss_ <= best - e.tol
        score = self.score()
        e.validation_scores_.append(score)
        if self.lines:
            print(f"Validation score: {score:f}")
        improved = not score < e.best_validation_score_ + e.tol
        if score > e.best_validation_score_:
            e.best_validation_score_ = score
            self.best_parameters = e.mlp_.parameters.copy()
        return improved

    def _out_of_patience(self) -> None:
        e = self.estimator
        what = "Training loss" if self.score is None else "Validation score"
        message = f"{what} did not improve more than tol={e.tol:f} for {e.n_iter_no_change} consecutive epochs."
        if self.rule == "adaptive" and self.optimizer.lr > 1e-6:
            self.optimizer.lr /= 5
            e._no_improvement_count = 0
            end = f" Setting learning rate to {self.optimizer.lr:f}"
        else:
            self.stopped = True
            end = " Learning rate too small. Stopping." if self.rule == "adaptive" else " Stopping."
        if self.lines:
            print(message + end)

    def restore_best(self) -> None:
        """With early stopping, take the parameters of the epoch whose score beat all before, if there was one."""
        if self.best_parameters is not None:
            self.estimator.mlp_.parameters[:] = self.best_parameters
