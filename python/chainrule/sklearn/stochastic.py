"""The stochastic solvers: the core's training loop, by scikit-learn's rules."""

from __future__ import annotations

import copy
import sys
import warnings
from collections.abc import Generator
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import csr_array, issparse
from sklearn.base import is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import column_or_1d
from sklearn.utils.validation import _check_sample_weight

from chainrule._core import FitQueue, NumpyShuffles, Optimizer
from chainrule.distributed import Communicator, of_all
from chainrule.optimizers import SGD, Adam, AdamW, RMSprop
from chainrule.schedules import as_schedule
from chainrule.sklearn.epochs import EpochDone, listeners, rate_rule
from chainrule.sklearn.objective import Objective, mean_over
from chainrule.sklearn.samples import Samples

if TYPE_CHECKING:
    from chainrule.sklearn.base import BaseMLP

RECORDS = ("_no_improvement_count", "loss_curve_", "validation_curve_")  # of a stochastic solver, as the next
BESTS = ("best_loss_", "validation_scores_", "best_validation_score_")
OWN_RATES = ("constant", "invscaling", "adaptive")  # scikit-learn's, by its rules; the others are the core's schedules


def fit_stochastic(
    estimator: BaseMLP,
    samples: Samples,
    validation_set: Any,
    objective: Objective,
    random: np.random.RandomState,
    incremental: bool,
    comm: Communicator | None,
    queue: FitQueue | None,
) -> Generator[None, None, Samples]:
    """Train by the core's loop, and give the samples that it trained on."""
    go_on_recording(estimator)
    begins = not (incremental and hasattr(estimator, "_optimizer"))
    if begins:
        estimator._optimizer = make_optimizer(estimator)
        estimator.__dict__.pop("_shuffles", None)
    if begins or not hasattr(estimator, "_rate_rule"):  # as in a pickle of before
        estimator._rate_rule = rate_rule(estimator)
    own_rate = isinstance(estimator.learning_rate, str) and estimator.learning_rate in OWN_RATES
    if incremental and not own_rate:
        raise ValueError(f"partial_fit supports learning_rate in {OWN_RATES}; got {estimator.learning_rate!r}")
    validation = None if validation_set is None else validation_samples(estimator, validation_set)
    held_out = validation
    if estimator.early_stopping and validation is None:
        samples, held_out = split(estimator, samples, random)
    ranks = None if comm is None else estimator._join(comm, samples, validation)
    n = ranks.rows if ranks else len(samples.y)
    if estimator.batch_size != "auto" and estimator.batch_size > n:
        warnings.warn(
            "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped", stacklevel=1
        )
    epochs = 1 if incremental else min(estimator.max_iter, sys.maxsize)
    constant = objective.constant_over(comm, samples)
    validation_constant = 0.0 if validation is None else objective.constant_over(comm, validation)
    if comm is not None:
        generators = of_all(comm, random)
        random = random if comm.rank == 0 else generators[0]
    shuffles = shuffles_of(estimator, random, incremental, queue)
    X = samples.X
    if not issparse(X) and 4 * np.count_nonzero(X) < X.size:
        X = csr_array(X)  # whose zeros the core skips
    watched = held_out if estimator.early_stopping else None
    verbose = estimator._spoken(comm)
    with listeners(estimator, samples, epochs, verbose) as tell:
        done = EpochDone(
            estimator,
            estimator._optimizer,
            tell,
            loss=lambda L: objective.value * L + constant,
            validation_loss=lambda L: objective.value * L + validation_constant,
            n_samples=n,
            score=None if watched is None else lambda: mean_over(comm, estimator._score_of(watched), watched),
            verbose=verbose,
            ranks=ranks,
        )
        try:
            estimator.mlp_._model.fit(
                X,
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
                shuffles=shuffles,
                batches_count_by_rows=True,
            )
            if queue is not None:
                place = len(queue) - 1
                yield
                queue.record(place)
        except KeyboardInterrupt:
            if ranks:  # the others wait
                raise
            warnings.warn("Training interrupted by user.", stacklevel=1)
        except FloatingPointError as error:
            if done.best_parameters is None:
                raise not_finite() from error
            warnings.warn(
                f"The training diverged and has ended: {error}. The weights are those of the best epoch.",
                ConvergenceWarning,
                stacklevel=1,
            )
        else:
            if not incremental and not done.stopped:
                warnings.warn(
                    f"Stochastic Optimizer: Maximum iterations ({estimator.max_iter}) reached and the optimization "
                    "hasn't converged yet.",
                    ConvergenceWarning,
                    stacklevel=1,
                )
    if ranks:
        ranks.done()
    done.restore_best()
    return samples


def go_on_recording(estimator: BaseMLP) -> None:
    """Begin those curves and best values that the last fit, perhaps by another solver, has not kept."""
    for name, begin in zip(RECORDS, (0, [], []), strict=True):
        estimator.__dict__.setdefault(name, begin)
    if hasattr(estimator, "best_loss_") and (estimator.validation_scores_ is not None) == estimator.early_stopping:
        return
    bests: tuple[Any, ...] = (None, [], -np.inf) if estimator.early_stopping else (np.inf, None, None)
    estimator.__dict__.update(zip(BESTS, bests, strict=True))


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
    return RMSprop(lr, eps=eps)


def validation_samples(estimator: BaseMLP, given: Any) -> Samples:
    """Check a `validation_set`, and give it as the core takes it."""
    if not isinstance(given, (tuple, list)) or len(given) not in (2, 3):
        raise ValueError("validation_set has to be a tuple (X, y) or (X, y, sample_weight)")
    X, y = estimator._validated(
        given[0], y=given[1], multi_output=True, y_numeric=not is_classifier(estimator), reset=False
    )
    if y.ndim == 2 and y.shape[1] == 1:
        y = column_or_1d(y, warn=True)
    weight = None if len(given) == 2 else _check_sample_weight(given[2], X, dtype=X.dtype)
    samples = Samples(X, estimator._encode(y, X.dtype), weight)
    if estimator.early_stopping and len(samples.y) < 2:
        raise ValueError("The validation set is too small: validation_set has one row; early_stopping needs two.")
    return samples


def split(estimator: BaseMLP, samples: Samples, random: np.random.RandomState) -> tuple[Samples, Samples]:
    """Hold out `validation_fraction` of the samples, by classes where there are two."""
    stratify = samples.y if is_classifier(estimator) and estimator.n_outputs_ == 1 else None
    arrays = [array for array in samples if array is not None]
    halves = train_test_split(*arrays, random_state=random, test_size=estimator.validation_fraction, stratify=stratify)
    train, held_out = (
        Samples(*halves[::2], *[None] * (3 - len(arrays))),
        Samples(*halves[1::2], *[None] * (3 - len(arrays))),
    )
    if len(held_out.y) < 2:
        raise ValueError("The validation set is too small. Increase 'validation_fraction' or the size of your dataset.")
    return train, held_out


def not_finite() -> ValueError:
    """Give the error of a training that diverged."""
    return ValueError(
        "Solver produced non-finite parameter weights, or a loss that is not finite. The input data may contain large "
        "values and need to be preprocessed."
    )
