"""L-BFGS, by SciPy on the flat parameter vector."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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

DENSE_AT_A_TIME = 2**22  # numbers of a sparse X


def fit_lbfgs(estimator: BaseMLP, samples: Samples, objective: Objective, comm: Communicator | None) -> None:
    """Minimise the objective over all samples at once, those of all processes."""
    mlp = estimator.mlp_
    ranks = None if comm is None else estimator._join(comm, samples, None)
    total = sum_over(comm, samples.total_weight)
    constant = objective.constant_over(comm, samples)

    def value_and_gradient(theta: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        mlp.parameters[:] = theta
        loss, gradient = _loss_and_gradient(estimator, samples, total)
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


def _loss_and_gradient(estimator: BaseMLP, samples: Samples, total: float) -> tuple[float, npt.NDArray[np.float64]]:
    """L over all samples and its gradient; of a sparse X, some rows after others, so that no more is made dense."""
    mlp, (X, y, sample_weight) = estimator.mlp_, samples
    rows = max(1, DENSE_AT_A_TIME // X.shape[1]) if issparse(X) else len(y)
    loss, gradient = 0.0, np.zeros(mlp.n_parameters)
    for first in range(0, len(y), rows):
        some = slice(first, first + rows)
        weights: Any = None if sample_weight is None else sample_weight[some]
        share = (len(y[some]) if weights is None else float(weights.sum())) / total
        if share > 0:
            mlp.forward(X if rows >= len(y) else X[some])
            loss += share * mlp.backward(y[some], weights)
            gradient += share * mlp.gradient
    return loss, gradient
