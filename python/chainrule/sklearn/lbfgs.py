"""L-BFGS, by SciPy on the flat parameter vector."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.linalg.blas import daxpy
from scipy.optimize import OptimizeResult, minimize
from sklearn.utils.optimize import _check_optimize_result

from chainrule.distributed import Communicator
from chainrule.sklearn.epochs import listeners
from chainrule.sklearn.objective import Objective, mean_over, sum_over
from chainrule.sklearn.samples import Samples
from chainrule.sklearn.stochastic import validation_samples
from chainrule.sklearn.threadpools import one_blas_thread
from chainrule.stream import all_zero

if TYPE_CHECKING:
    from chainrule.sklearn.base import BaseMLP


def fit_lbfgs(
    estimator: BaseMLP,
    samples: Samples,
    given: Samples,
    validation_set: Any,
    objective: Objective,
    comm: Communicator | None,
) -> Callable[[], object]:
    """Minimise the objective over all samples at once, those of all processes; give what warns where that failed."""
    mlp = estimator.mlp_
    validation = None if validation_set is None else validation_samples(estimator, validation_set, comm)
    ranks = None if comm is None else estimator._join(comm, samples, validation)
    own_weight = samples.total_weight
    total = sum_over(comm, own_weight)
    alpha = float(estimator.alpha)  # a NumPy scalar would make its own dtype that of the objective
    reported = objective.reported(comm, samples)
    without_weight = comm is not None and all_zero(samples.sample_weight)
    loss_and_gradient = None if without_weight else mlp._model.loss_and_gradient(*samples)

    def value_and_gradient(theta: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        mlp.parameters[:] = theta
        loss, gradient = loss_and_gradient() if loss_and_gradient else (0.0, np.zeros(theta.size))
        gradient = gradient.astype(np.float64, copy=False)
        if ranks:
            sums = np.append(gradient, loss) * (own_weight / total)
            ranks.sum(sums)
            loss, gradient = float(sums[-1]), sums[:-1]
        if objective.weight != 1:
            gradient *= objective.weight
        value = reported(loss)
        end = 0
        for W, b in zip(mlp.weights, mlp.biases, strict=True):
            w = np.asarray(W, dtype=np.float64).ravel()
            value += 0.5 * alpha * float(w @ w) / total
            daxpy(w, gradient[end : end + w.size], a=alpha / total)
            end += w.size + b.size
        return value, gradient

    def validation_loss(theta: npt.NDArray[np.float64], validation: Samples) -> float:
        mlp.parameters[:] = theta
        loss = mean_over(comm, lambda: mlp.evaluate(*validation.given()), validation)
        return objective.reported(comm, validation)(loss)

    spoken = estimator._spoken(comm)
    with one_blas_thread, listeners(estimator, given, slice(None), estimator.max_iter, **spoken) as tell:

        def iteration_done(intermediate_result: OptimizeResult) -> None:
            estimator.loss_curve_.append(float(intermediate_result.fun))
            of_validation = None
            if validation is not None:
                of_validation = validation_loss(intermediate_result.x, validation)
                estimator.validation_curve_.append(of_validation)
            stop = tell(len(estimator.loss_curve_), estimator.loss_curve_[-1], of_validation, 1.0, 0.0)
            if ranks.epoch_done(stop) if ranks else stop:
                raise StopIteration

        estimator.loss_curve_, estimator.validation_curve_ = [], []
        start = mlp.parameters.astype(np.float64)
        try:
            result = minimize(
                value_and_gradient,
                start,
                method="L-BFGS-B",
                jac=True,
                callback=iteration_done,
                options={"maxfun": estimator.max_fun, "maxiter": estimator.max_iter, "gtol": estimator.tol},
            )
        except BaseException:
            mlp.parameters[:] = start  # they may be those of any step of a line search
            raise
        mlp.parameters[:] = result.x
        estimator.n_iter_ = min(result.nit, estimator.max_iter)
        estimator.loss_ = result.fun

    def warn_of_end() -> None:
        if result.status in (1, 2):  # not where a callback has stopped it
            _check_optimize_result("lbfgs", result, estimator.max_iter)

    return warn_of_end
