"""L-BFGS, by SciPy on the flat parameter vector."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.optimize import OptimizeResult, minimize
from scipy.sparse import issparse
from sklearn.utils.optimize import _check_optimize_result

from chainrule.distributed import Communicator
from chainrule.sklearn.epochs import listeners
from chainrule.sklearn.objective import Objective, sum_over
from chainrule.sklearn.samples import Samples

if TYPE_CHECKING:
    from chainrule.sklearn.base import BaseMLP

AT_A_TIME = 2**22  # numbers of a sparse X, which are room on the tape


def fit_lbfgs(estimator: BaseMLP, samples: Samples, objective: Objective, comm: Communicator | None) -> None:
    """Minimise the objective over all samples at once, those of all processes."""
    mlp = estimator.mlp_
    ranks = None if comm is None else estimator._join(comm, samples, None)
    total = sum_over(comm, samples.total_weight)
    constant = objective.constant_over(comm, samples)
    parts = [(part.total_weight / total, part) for part in _parts(samples) if part.total_weight > 0]

    def value_and_gradient(theta: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        mlp.parameters[:] = theta
        loss, gradient = 0.0, np.zeros(mlp.n_parameters)
        for share, part in parts:
            own_loss, own_gradient = mlp._model.loss_and_gradient(*part)
            loss += share * own_loss
            gradient += share * own_gradient
        if ranks:
            sums = np.append(gradient, loss)
            ranks.sum(sums)
            loss, gradient = float(sums[-1]), sums[:-1]
        gradient *= objective.weight
        value = objective.value * loss + constant
        end = 0
        for W, b in zip(mlp.weights, mlp.biases, strict=True):
            w = np.asarray(W, dtype=np.float64).ravel()
            value += estimator.alpha / 2 * float(w @ w) / total
            gradient[end : end + w.size] += estimator.alpha / total * w
            end += w.size + b.size
        return value, gradient

    with listeners(estimator, samples, estimator.max_iter, estimator._spoken(comm)) as tell:

        def iteration_done(intermediate_result: OptimizeResult) -> None:
            estimator.loss_curve_.append(float(intermediate_result.fun))
            stop = tell(len(estimator.loss_curve_), estimator.loss_curve_[-1], None, 1.0, 0.0)
            if ranks.epoch_done(stop) if ranks else stop:
                raise StopIteration

        estimator.loss_curve_ = []
        result = minimize(
            value_and_gradient,
            mlp.parameters.astype(np.float64),
            method="L-BFGS-B",
            jac=True,
            callback=iteration_done,
            options={"maxfun": estimator.max_fun, "maxiter": estimator.max_iter, "gtol": estimator.tol},
        )
    mlp.parameters[:] = result.x
    estimator.n_iter_ = min(result.nit, estimator.max_iter)
    estimator.loss_ = result.fun
    if result.status in (1, 2):  # not where a callback has stopped it
        _check_optimize_result("lbfgs", result, estimator.max_iter)  # warns


def _parts(samples: Samples) -> Iterator[Samples]:
    """Give all samples at once, or of a sparse X some rows after others."""
    X, y, sample_weight = samples
    rows = max(1, AT_A_TIME // X.shape[1]) if issparse(X) else len(y)
    if rows >= len(y):
        yield samples
        return
    for first in range(0, len(y), rows):
        some = slice(first, first + rows)
        yield Samples(X[some], y[some], None if sample_weight is None else sample_weight[some])
