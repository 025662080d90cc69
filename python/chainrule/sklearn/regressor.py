"""The regressor."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import issparse
from sklearn.base import RegressorMixin, _fit_context
from sklearn.metrics import d2_pinball_score, r2_score
from sklearn.utils._param_validation import StrOptions

from chainrule._core import Loss, loss_names
from chainrule._types import FloatArray
from chainrule.distributed import Communicator
from chainrule.sklearn.base import BaseMLP, unchanged_by_errors
from chainrule.sklearn.objective import Objective, regression_loss
from chainrule.sklearn.samples import Samples, check_real_targets


class MLPRegressor(RegressorMixin, BaseMLP):  # type: ignore[misc]
    """Multi-layer perceptron regressor: scikit-learn's `MLPRegressor`, trained by chainrule.

    Everything that scikit-learn's takes means the same here, but negative sample weights, and with "poisson" negative
    targets, are ValueErrors. Predictions have the dtype of the network, whatever that of X. The parameters from
    `dropout` on, and the other losses, are additions.

    Parameters
    ----------
    loss : str or loss, default "squared_error"
        "squared_error", half the squared error; "absolute_error"; "poisson", half the Poisson deviance; or any loss of
        `chainrule.MLP`, such as "huber" or ``chainrule.Quantile([0.1, 0.5, 0.9])``; "cross_entropy" takes y as shares
        of the classes, of shape (n, n_classes).
    hidden_layer_sizes : int or sequence of int, default (100,)
        Units of each hidden layer.
    activation : str or activation, or a sequence of one per hidden layer, default "relu"
        "identity", "logistic", "tanh", "relu", or any other that `chainrule.MLP` takes.
    solver : str or optimizer, default "adam"
        "lbfgs", "sgd", "adam": as scikit-learn's. "adamw", "rmsprop": `chainrule.AdamW` and `chainrule.RMSprop` with
        `learning_rate_init` and `epsilon` (and the betas). Or an optimizer with all of its own settings.
    alpha : float, default 0.0001
        L2 penalty: a batch's loss gets ``alpha/2 · Σ_l ‖W_l‖² / n``. Biases are free.
    batch_size : int or "auto", default "auto"
        Samples a step; "auto" is ``min(200, n)``. L-BFGS takes all at once.
    learning_rate : str or schedule, default "constant"
        "constant"; "invscaling", ``learning_rate_init / (t + 1)^power_t`` after t samples; "adaptive", a fifth whenever
        `n_iter_no_change` epochs brought nothing: the last two for "sgd" alone. Or any schedule of `chainrule.MLP.fit`,
        for every solver but "lbfgs".
    learning_rate_init : float, default 0.001
        Where the rate starts.
    power_t : float, default 0.5
        Exponent of "invscaling".
    max_iter : int, default 200
        Epochs at most; for "lbfgs", iterations.
    shuffle : bool, default True
        Whether each epoch takes the samples in a new order.
    random_state : int, RandomState or None, default None
        Decides the initial weights, as scikit-learn draws them, the held-out samples, the order and what drops out.
    tol : float, default 1e-4
        What counts as getting better, in the loss or the validation score; for "lbfgs" the tolerance of the gradient.
    verbose : bool or int, default False
        Anything but 0 prints a line an epoch; 2 shows a progress bar instead.
    warm_start : bool, default False
        Whether `fit` goes on from the weights of the last one. The sizes of the layers stay then;
        `activation`, `loss` and `dropout` may have changed, for `partial_fit` too.
    momentum : float, default 0.9
        Of "sgd".
    nesterovs_momentum : bool, default True
        Whether that is Nesterov's.
    early_stopping : bool, default False
        Whether to hold samples out, watch the score on them instead of the loss, and in the end take the weights of the
        best epoch. With `warm_start` that epoch has to beat all fits before; otherwise the last weights stay.
    validation_fraction : float, default 0.1
        Share that is held out.
    beta_1, beta_2 : float, default 0.9 and 0.999
        Decay of "adam"'s and "adamw"'s moments.
    epsilon : float, default 1e-8
        Added to the root of the second moment.
    n_iter_no_change : int, default 10
        Epochs without getting better before it stops.
    max_fun : int, default 15000
        Evaluations of the loss at most, of "lbfgs".
    dropout : float, or a sequence of one per hidden layer, default 0
        Share of the units that each step leaves out, see `chainrule.MLP`. Not with "lbfgs".
    clip_norm : float, optional
        Where the norm of a step's whole gradient exceeds it, scale the gradient down to that norm. Not with "lbfgs".
    callbacks : callable, or sequence of callables, optional
        Each is called with a `chainrule.EpochReport` after every epoch; one that returns True ends the fit.
        scikit-learn's own callbacks are set by ``set_callbacks``, where its version has them, and get the samples that
        are trained on as they were given.
    dtype : {"float32", "float64"}, optional
        Of all numbers. By default X's, float64 if that is neither.
    n_threads : int, optional
        How many threads to use, as in `chainrule.num_threads`. No result depends on it.

    Attributes
    ----------
    mlp_ : chainrule.MLP
        The network, with all of its methods.
    coefs_, intercepts_ : list of ndarray
        W_1 ... W_L and b_1 ... b_L: views of the network's memory. What is assigned is copied into them.
    loss_ : float
        Mean loss of the last epoch, with the L2 term.
    best_loss_ : float or None
        Smallest so far; None with `early_stopping`. Not with "lbfgs".
    loss_curve_ : list of float
        `loss_` after each epoch, or each iteration of "lbfgs".
    validation_curve_ : list of float
        Loss on `fit`'s `validation_set` after each epoch or iteration, without the L2 term.
    validation_scores_, best_validation_score_
        R² on the held-out samples after each epoch, and the largest; None without `early_stopping`.
    gradient_flow_ : chainrule.GradientFlowReport
        How the gradient runs through the layers, on the first 200 samples of `fit` at most; made at the first look, and
        gone after `partial_fit`.
    n_iter_, t_ : int
        Epochs of the last fit, and samples trained on in all.
    n_features_in_, feature_names_in_, n_layers_, n_outputs_, out_activation_
        As scikit-learn's.

    Notes
    -----
    With the same ``random_state``, each epoch's loss is scikit-learn's to rounding, shuffled or not; with sample
    weights and several batches, that of "poisson" differs by a term that does not depend on the network. With an int
    for ``random_state``, `partial_fit` goes on to the next order of the samples, so that n of them are a `fit` of n
    epochs, where scikit-learn's begins anew each time.

    A batch whose samples all have weight 0 is passed over, where scikit-learn raises ZeroDivisionError. These are
    ValueErrors: negative weights; a sum of weights that is not a normal number; y of another shape than before, which
    scikit-learn may broadcast; samples that are not finite, whatever ``assume_finite`` says; and a loss that is not
    finite, where scikit-learn gives what it has. `n_layers_` and `out_activation_` cannot be set, nor `coefs_` and
    `intercepts_` before `fit` or to other shapes; the outputs before their activation are
    ``mlp_.pre_activations[-1]`` after ``mlp_.forward(X)``.

    References
    ----------
    Pedregosa et al.: Scikit-learn: Machine learning in Python. JMLR 12, 2011, whose names and rules these are.

    Examples
    --------
    >>> import chainrule as cr
    >>> from sklearn.datasets import load_diabetes
    >>> from chainrule.sklearn import MLPRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> regressor = MLPRegressor(cr.Quantile([0.1, 0.5, 0.9]), learning_rate_init=0.1, max_iter=1000, random_state=0)
    >>> regressor.fit(X, y).predict(X).shape
    (442, 3)
    """

    _parameter_constraints: dict[str, list[Any]] = {  # noqa: RUF012
        **BaseMLP._parameter_constraints,
        "loss": [StrOptions({"squared_error", "absolute_error", *loss_names}), Loss],
    }

    loss: Any

    def __init__(
        self,
        loss: Any = "squared_error",
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: Any = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: Any = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: int = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        dropout: Any = 0.0,
        clip_norm: float | None = None,
        callbacks: Any = None,
        dtype: Any = None,
        n_threads: int | None = None,
    ) -> None:
        self._keep(locals())

    @unchanged_by_errors
    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, validation_set: Any = None, comm: Any = None
    ) -> MLPRegressor:
        """Train on X and y.

        Parameters
        ----------
        X : array-like, frame or sparse matrix of shape (n, d_0)
            Samples as rows, finite.
        y : array-like of shape (n,) or (n, n_outputs)
            Targets, finite.
        sample_weight : array-like of shape (n,), optional
            Weight of each sample, >= 0; equal by default.
        validation_set : tuple (X, y) or (X, y, sample_weight), optional
            Samples whose loss is computed after each epoch, in `validation_curve_`, and which are not trained on. With
            `early_stopping` they take the place of the held-out share. In a Pipeline they come as they are: the steps
            before do not transform them.
        comm : mpi4py communicator, optional
            Train together with the other processes of a job, each with its own rows, as `chainrule.MLP.fit` does: the
            result is that of one process with the rows of all, with the weights and the order of rank 0. Each holds out
            a share of its own rows, and the validation score is the mean over all; so with `early_stopping` the result
            is not that of one process, and each needs rows enough to share.

        Returns
        -------
        MLPRegressor
            Itself.

        Raises
        ------
        ValueError
            If an argument does not fit, or if the training diverges. The estimator is as it was then; only a network
            that `warm_start` goes on with, as it is, keeps the epochs that were done and the steps since. With
            `early_stopping` a training that diverges ends with the weights of the best epoch, if there was one, and a
            ConvergenceWarning.
        """
        return self._fit(X, y, sample_weight, validation_set, comm, incremental=False)  # type: ignore[no-any-return]

    @unchanged_by_errors
    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> MLPRegressor:
        """Train one epoch more on X and y; with "lbfgs", as scikit-learn's, as many iterations as `fit`.

        Parameters
        ----------
        X : array-like, frame or sparse matrix of shape (n, d_0)
            Samples as rows, finite.
        y : array-like of shape (n,) or (n, n_outputs)
            Targets, finite.
        sample_weight : array-like of shape (n,), optional
            Weight of each sample, >= 0; equal by default.

        Returns
        -------
        MLPRegressor
            Itself.

        Raises
        ------
        ValueError
            If an argument does not fit, and nothing has changed then; or if the training diverges, and the network
            keeps the steps that were taken.
        """
        return self._fit(X, y, sample_weight, None, incremental=True)  # type: ignore[no-any-return]

    def predict(self, X: Any) -> FloatArray:
        """Predict the targets.

        Parameters
        ----------
        X : array-like, frame or sparse matrix of shape (n, d_0)
            Samples as rows, finite.

        Returns
        -------
        ndarray of shape (n,) or (n, n_outputs)
            As `fit`'s y. With several quantiles there is one more axis at the end, of the quantiles in their order.
        """
        return self._by_target(self._outputs(X))

    def _by_target(self, a: FloatArray) -> FloatArray:
        """Give the shape of y to the outputs, with an axis of the quantiles where there are several."""
        shape = [size for size in (self.n_outputs_, a.shape[1] // self.n_outputs_) if size > 1]
        return a.reshape(len(a), *shape)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Give R², or with the quantile loss the mean over the quantiles of D² by the pinball loss.

        Parameters
        ----------
        X : array-like, frame or sparse matrix of shape (n, d_0)
            Samples as rows, finite.
        y : array-like of shape (n,) or (n, n_outputs)
            Their targets.
        sample_weight : array-like of shape (n,), optional
            Weight of each sample; equal by default.

        Returns
        -------
        float
            1 for perfect predictions, 0 for the best constant.
        """
        return self._score(y, self.predict(X), sample_weight)

    def _score(self, y: Any, predicted: FloatArray, sample_weight: Any) -> float:
        if self.mlp_.loss.name != "quantile":
            return float(r2_score(y, predicted, sample_weight=sample_weight))
        quantiles = self.mlp_.loss.parameters
        each = predicted[..., np.newaxis] if len(quantiles) == 1 else predicted
        scores = [
            d2_pinball_score(y, each[..., q], sample_weight=sample_weight, alpha=tau) for q, tau in enumerate(quantiles)
        ]
        return float(np.mean(scores))

    def _targets(self, y: Any, incremental: bool, dtype: npt.DTypeLike, comm: Communicator | None) -> npt.NDArray[Any]:
        self.n_outputs_ = 1 if y.ndim == 1 else y.shape[1]
        return self._encode(y, dtype)

    def _encode(self, y: Any, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        check_real_targets(y)
        return np.asarray(y.toarray() if issparse(y) else y, dtype=dtype)

    def _objective(self) -> Objective:
        return regression_loss(self.loss, self.n_outputs_)

    def _score_of(self, samples: Samples) -> float:
        predicted = self._by_target(self.mlp_.predict(samples.X))
        if not np.isfinite(predicted).all():
            return np.nan
        return self._score(samples.y, predicted, samples.sample_weight)
