"""The stochastic solvers: the core's training loop, by scikit-learn's rules."""

from __future__ import annotations

import copy
import sys
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array, issparse
from sklearn.base import is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

from chainrule._core import FitQueue, NumpyShuffles, Optimizer
from chainrule.distributed import Communicator, of_all
from chainrule.non_finite import NonFiniteError
from chainrule.optimizers import OPTIMIZERS, SGD, Adam, AdamW, RMSprop
from chainrule.schedules import as_schedule
from chainrule.sklearn.epochs import EpochDone, listeners, rate_rule
from chainrule.sklearn.objective import Objective, mean_over
from chainrule.sklearn.samples import Samples, without_subnormals

if TYPE_CHECKING:
    from chainrule.sklearn.base import BaseMLP

RECORDS = ("_no_improvement_count", "loss_curve_", "validation_curve_")  # of a stochastic solver, as the next
BESTS = ("best_loss_", "validation_scores_", "best_validation_score_")
OWN_RATES = ("constant", "invscaling", "adaptive")  # scikit-learn's, by its rules; the others are the core's schedules


def check_incremental(estimator: BaseMLP, own_rate: bool) -> None:
    """Refuse what `partial_fit` cannot go on with."""
    if estimator.early_stopping:
        raise ValueError("partial_fit does not support early_stopping=True")
    if not own_rate:
        raise ValueError(f"partial_fit supports learning_rate in {OWN_RATES}; got {estimator.learning_rate!r}")


def sparse_if_mostly_zero(X: Any) -> Any:
    """Give the core rows whose zeros it skips, where that pays."""
    return csr_array(X) if not issparse(X) and 4 * np.count_nonzero(X) < X.size else X


def fit_stochastic(
    estimator: BaseMLP,
    samples: Samples,
    given: Samples,
    validation_set: Any,
    objective: Objective,
    random: np.random.RandomState,
    incremental: bool,
    comm: Communicator | None,
    queue: FitQueue | None,
) -> Generator[None, None, tuple[Samples, Callable[[], None]]]:
    """Train by the core's loop, and give the samples that it trained on."""
    own_rate = isinstance(estimator.learning_rate, str) and estimator.learning_rate in OWN_RATES
    if incremental:
        check_incremental(estimator, own_rate)
    go_on_recording(estimator)
    go_on_optimizing(estimator, incremental)
    held_out = validation = None if validation_set is None else validation_samples(estimator, validation_set, comm)
    rows: Any = slice(None)
    if estimator.early_stopping and validation is None:
        rows, others = split(estimator, samples.y, random)
        samples, held_out = samples.take(rows), samples.take(others)
    ranks = None if comm is None else estimator._join(comm, samples, validation)
    n = ranks.rows if ranks else len(samples.y)
    if estimator.batch_size != "auto" and estimator.batch_size > n:
        warn("Got `batch_size` less than 1 or larger than sample size. It is going to be clipped")
    if comm is not None:
        generators = of_all(comm, random)
        random = random if comm.rank == 0 else generators[0]
    epochs = 1 if incremental else min(estimator.max_iter, sys.maxsize)
    watched = held_out if estimator.early_stopping else None
    spoken = estimator._spoken(comm)
    with listeners(estimator, given, rows, epochs, **spoken) as tell:
        done = EpochDone(
            estimator,
            estimator._optimizer,
            tell,
            loss=objective.reported(comm, samples),
            validation_loss=objective.reported(comm, validation),
            n_samples=n,
            score=None if watched is None else lambda: mean_over(comm, lambda: estimator._score_of(watched), watched),
            lines=spoken["lines"],
            ranks=ranks,
        )
        with ending(estimator, done, incremental) as warnings_of_end:
            estimator.mlp_._model.fit(
                sparse_if_mostly_zero(samples.X),
                samples.y,
                epochs=epochs,
                batch_size=rows_per_batch(estimator, n),
                optimizer=estimator._optimizer,
                shuffle=bool(estimator.shuffle),
                sample_weight=samples.sample_weight,
                validation=None if validation is None else validation.given(),
                patience=None,
                schedule=None if own_rate else as_schedule(estimator.learning_rate),
                clip_norm=estimator.clip_norm,
                on_epoch=done,
                loss_weight=objective.weight,
                l2=float(estimator.alpha),
                ranks=ranks,
                queue=queue,
                shuffles=shuffles_of(estimator, random, incremental, queue),
                batches_count_by_rows=True,
            )
            if queue is not None:
                place = len(queue) - 1
                yield
                queue.record(place)
    if ranks:
        ranks.done()

    def warn_of_end() -> None:
        for warning in warnings_of_end:
            warn(warning)

    return samples, warn_of_end


@contextmanager
def ending(estimator: BaseMLP, done: EpochDone, incremental: bool) -> Iterator[list[Warning]]:
    """Take the best weights, and tell in a list where the training within ends at the limit or before its time."""
    found: list[Warning] = []
    try:
        yield found
    except KeyboardInterrupt:
        if done.ranks:  # the others wait
            raise
        found.append(UserWarning("Training interrupted by user."))
    except NonFiniteError as error:
        if done.best_parameters is None:
            raise not_finite() from error
        text = f"The training diverged and has ended: {error}. The weights are those of the best epoch."
        found.append(ConvergenceWarning(text))
    else:
        if not incremental and not done.stopped:
            text = f"Stochastic Optimizer: Maximum iterations ({int(estimator.max_iter)}) reached and the optimization "
            found.append(ConvergenceWarning(text + "hasn't converged yet."))
    done.restore_best()


def warn(warning: Warning | str) -> None:
    """Warn as from scikit-learn's module, for filters that name it."""
    category = UserWarning if isinstance(warning, str) else type(warning)
    registry = globals().setdefault("__warningregistry__", {})
    warnings.warn_explicit(warning, category, __file__, 0, "sklearn.neural_network._multilayer_perceptron", registry)


def go_on_recording(estimator: BaseMLP) -> None:
    """Begin those curves and best values that the last fit, perhaps by another solver, has not kept."""
    for name, begin in zip(RECORDS, (0, [], []), strict=True):
        estimator.__dict__.setdefault(name, begin)
    if hasattr(estimator, "best_loss_") and (estimator.validation_scores_ is not None) == estimator.early_stopping:
        return
    bests: tuple[Any, ...] = (None, [], -np.inf) if estimator.early_stopping else (np.inf, None, None)
    estimator.__dict__.update(zip(BESTS, bests, strict=True))


def go_on_optimizing(estimator: BaseMLP, incremental: bool) -> None:
    """Begin with a new optimizer and rule of its rate, but where `partial_fit` goes on with those that there are."""
    begins = not (incremental and hasattr(estimator, "_optimizer"))
    if begins:
        estimator._optimizer = make_optimizer(estimator)
        estimator.__dict__.pop("_shuffles", None)
    if begins or not hasattr(estimator, "_rate_rule"):  # as in a pickle of before
        estimator._rate_rule = rate_rule(estimator)


def shuffles_of(
    estimator: BaseMLP, random: np.random.RandomState, incremental: bool, queue: FitQueue | None
) -> NumpyShuffles:
    """Give scikit-learn's orders of the samples; of an int, `partial_fit` goes on with those of the last one."""
    seed = estimator.random_state
    goes_on = incremental and isinstance(seed, Integral)
    if goes_on and getattr(estimator, "_shuffles", (None,))[0] == seed:
        return estimator._shuffles[1]
    if queue is not None:  # beside other fits, perhaps with the same generator
        random = copy.deepcopy(random)
    shuffles = NumpyShuffles(random._bit_generator)
    if goes_on:
        estimator._shuffles = seed, shuffles
    return shuffles


def rows_per_batch(estimator: BaseMLP, n: int) -> int:
    """Give `batch_size` for n samples."""
    return min(200 if estimator.batch_size == "auto" else estimator.batch_size, n)


def make_optimizer(estimator: BaseMLP) -> Optimizer:
    """Make the solver's optimizer, with nothing behind it."""
    if isinstance(estimator.solver, Optimizer):
        optimizer = copy.deepcopy(estimator.solver)
        optimizer.reset()
        return optimizer
    # float: scikit-learn's checks let bools through as numbers
    lr, eps = float(estimator.learning_rate_init), float(estimator.epsilon)
    betas = float(estimator.beta_1), float(estimator.beta_2)
    if estimator.solver == "sgd":
        nesterov = estimator.nesterovs_momentum and estimator.momentum > 0
        return SGD(lr, float(estimator.momentum), bool(nesterov), velocity=True)
    if estimator.solver == "adam":
        return Adam(lr, betas, eps, eps_hat=True)
    if estimator.solver == "adamw":
        return AdamW(lr, betas, eps)
    if estimator.solver == "rmsprop":
        return RMSprop(lr, eps=eps)
    of_name: type[Optimizer] = OPTIMIZERS[estimator.solver]
    return of_name(lr)


def validation_samples(estimator: BaseMLP, given: Any, comm: Communicator | None) -> Samples:
    """Check a `validation_set`, and give it as the core takes it."""
    if not isinstance(given, (tuple, list)) or len(given) not in (2, 3):
        raise ValueError("validation_set has to be a tuple (X, y) or (X, y, sample_weight)")
    X, y, weight = estimator._validated(given[0], given[1], given[2] if len(given) == 3 else None, comm, reset=False)
    samples = Samples(X, estimator._encode(y, X.dtype), without_subnormals(weight, X.dtype))
    if estimator.early_stopping and not estimator._by_lbfgs and len(samples.y) < 2:
        raise ValueError("The validation set is too small: validation_set has one row; early_stopping needs two.")
    return samples


def split(estimator: BaseMLP, y: npt.NDArray[Any], random: np.random.RandomState) -> list[npt.NDArray[np.int64]]:
    """Choose the rows to train on, and `validation_fraction` of all to hold out, by classes where there are two."""
    stratify = y if is_classifier(estimator) and estimator.n_outputs_ == 1 else None
    halves: list[npt.NDArray[np.int64]] = train_test_split(
        np.arange(len(y)), random_state=random, test_size=estimator.validation_fraction, stratify=stratify
    )
    if len(halves[1]) < 2:
        raise ValueError("The validation set is too small. Increase 'validation_fraction' or the size of your dataset.")
    return halves


def not_finite() -> ValueError:
    """Give the error of a training that diverged."""
    return ValueError(
        "Solver produced non-finite parameter weights, or a loss that is not finite. The input data may contain large "
        "values and need to be preprocessed."
    )
