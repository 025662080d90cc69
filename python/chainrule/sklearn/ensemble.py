"""An ensemble of networks, trained side by side, that says how sure it is."""

from __future__ import annotations

from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin, _fit_context
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from chainrule._core import Activation, Optimizer
from chainrule.fit_many import fit_many
from chainrule.mlp import MLP
from chainrule.sklearn.base import FloatArray, activations_named, hidden_layers, threads

if TYPE_CHECKING:
    from chainrule.history import History


class EnsembleRegressor(RegressorMixin, MultiOutputMixin, BaseEstimator):  # type: ignore[misc]
    """Networks that differ in their initial weights and in the samples that they are trained on, and their mean.

    Each is trained on a bootstrap sample, all of them side by side on as many threads as there are, by
    `chainrule.fit_many`. A network stops when its loss on the samples that its own bootstrap sample left out no longer
    gets better, and has the weights of its best epoch.

    Parameters
    ----------
    n_estimators : int, default 10
        Number of networks.
    hidden_layer_sizes : sequence of int, default (100,)
        Units of the hidden layers.
    activation : str or Activation, or a sequence of one per hidden layer, default "relu"
        As `MLPRegressor`'s.
    solver : str or Optimizer, default "adam"
        "adam", "adamw", "sgd" or "rmsprop" with the default settings of `chainrule`, or an object with others.
    batch_size : int or "auto", default "auto"
        Samples a step; "auto" is ``min(200, n)``.
    max_iter : int, default 200
        Epochs at most.
    n_iter_no_change : int or None, default 10
        Epochs in a row without a better loss on the samples left out, after which a network stops. None trains all
        epochs.
    bootstrap : bool, default True
        Whether each network is trained on n samples drawn with replacement. Without, all are trained on all, differ in
        their initial weights and in the order of the samples alone, and stop by the training loss.
    random_state : int, RandomState or None, default None
        Decides the weights, the samples and their order.
    n_threads : int, optional
        How many networks are trained at a time, as in `chainrule.num_threads`. No result depends on it.

    Attributes
    ----------
    mlps_ : list of chainrule.MLP
        The networks.
    histories_ : list of chainrule.History
        Their losses, epoch by epoch.
    rows_ : list of (ndarray or None)
        For each network the rows that it was trained on, or None for all.
    n_iter_ : int
        Epochs of the network that was trained longest.
    n_outputs_, n_features_in_, feature_names_in_
        As scikit-learn's.

    References
    ----------
    Breiman: Bagging predictors. Machine Learning 24, 1996. Lakshminarayanan, Pritzel, Blundell: Simple and scalable
    predictive uncertainty estimation using deep ensembles. NeurIPS 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from chainrule.sklearn import EnsembleRegressor
    >>> X = np.linspace(-1, 1, 200)[:, None]
    >>> ensemble = EnsembleRegressor(hidden_layer_sizes=(32,), random_state=0).fit(X, np.sin(3 * X[:, 0]))
    >>> mean, std = ensemble.predict([[0.0], [5.0]], return_std=True)
    >>> bool(std[0] < std[1])
    True
    """

    _parameter_constraints: dict[str, list[Any]] = {  # noqa: RUF012
        "n_estimators": [Interval(Integral, 1, None, closed="left")],
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [str, Activation, "array-like"],
        "solver": [StrOptions({"sgd", "adam", "adamw", "rmsprop"}), Optimizer],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), None],
        "bootstrap": ["boolean"],
        "random_state": ["random_state"],
        "n_threads": [Interval(Integral, 1, None, closed="left"), None],
    }

    mlps_: list[MLP]
    histories_: list[History]

    def __init__(
        self,
        n_estimators: int = 10,
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: Any = "adam",
        batch_size: Any = "auto",
        max_iter: int = 200,
        n_iter_no_change: int | None = 10,
        bootstrap: bool = True,
        random_state: Any = None,
        n_threads: int | None = None,
    ) -> None:
        self.n_estimators = n_estimators
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.n_iter_no_change = n_iter_no_change
        self.bootstrap = bootstrap
        self.random_state = random_state
        self.n_threads = n_threads

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any) -> EnsembleRegressor:
        """Train the networks on X and y.

        Parameters
        ----------
        X : array-like or frame of shape (n, d_0)
            Samples as rows, finite.
        y : array-like of shape (n,) or (n, n_outputs)
            Targets, finite.

        Returns
        -------
        EnsembleRegressor
            Itself.

        Raises
        ------
        ValueError
            If an argument does not fit.
        FloatingPointError
            If the training of a network diverges.
        """
        sizes = hidden_layers(self.hidden_layer_sizes)
        X, y = validate_data(self, X, y, dtype=(np.float64, np.float32), multi_output=True, y_numeric=True)
        y = y.astype(X.dtype, copy=False)
        random = check_random_state(self.random_state)
        n, count = len(X), self.n_estimators
        activations = activations_named(self.activation, len(sizes))
        self.n_outputs_ = 1 if y.ndim == 1 else y.shape[1]
        mlps = [
            MLP([X.shape[1], *sizes, self.n_outputs_], hidden_activation=activations, dtype=X.dtype, seed=int(seed))
            for seed in random.randint(2**31 - 1, size=count)
        ]
        self.rows_ = [random.randint(n, size=n) if self.bootstrap else None for _ in mlps]
        left_out = [None if rows is None else np.setdiff1d(np.arange(n), rows) for rows in self.rows_]
        with threads(self.n_threads):
            self.histories_ = fit_many(
                mlps,
                X,
                y,
                epochs=self.max_iter,
                batch_size=min(200, n) if self.batch_size == "auto" else self.batch_size,
                optimizer=self.solver,
                rows=self.rows_,
                validation_rows=[None if rows is None or not rows.size else rows for rows in left_out],
                patience=self.n_iter_no_change,
            )
        self.mlps_ = mlps
        self.n_iter_ = max(history.epochs for history in self.histories_)
        return self

    def predict(self, X: Any, return_std: bool = False) -> FloatArray | tuple[FloatArray, FloatArray]:
        """Predict the targets by the mean of the networks.

        Parameters
        ----------
        X : array-like or frame of shape (n, d_0)
            Samples as rows, finite.
        return_std : bool, default False
            Whether to return the standard deviation over the networks too: how far they disagree, in the units of y.
            What the targets scatter by is not in it.

        Returns
        -------
        ndarray of shape (n,) or (n, n_outputs), or a tuple of two
            As `fit`'s y.
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=(np.float64, np.float32), reset=False)
        with threads(self.n_threads):
            predictions = np.stack([mlp.predict(X) for mlp in self.mlps_])
        if self.n_outputs_ == 1:
            predictions = predictions[:, :, 0]
        mean: FloatArray = predictions.mean(axis=0)
        return (mean, predictions.std(axis=0)) if return_std else mean
