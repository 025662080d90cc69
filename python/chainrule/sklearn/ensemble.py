"""Ensembles of networks, trained side by side, that say how sure they are."""

from __future__ import annotations

import sys
from numbers import Integral
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin, MultiOutputMixin, RegressorMixin, _fit_context
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from chainrule._core import Activation, Optimizer
from chainrule._types import FloatArray
from chainrule.fit_many import fit_many
from chainrule.history import History
from chainrule.mlp import MLP
from chainrule.optimizers import OPTIMIZERS
from chainrule.sklearn.base import activations_named, hidden_layers, threads, unchanged_by_errors
from chainrule.sklearn.samples import check_real_inputs, check_real_targets


class BaseEnsemble(BaseEstimator):  # type: ignore[misc]
    """Parameters and training; subclasses add what differs between classes and numbers."""

    _parameter_constraints: dict[str, list[Any]] = {  # noqa: RUF012
        "n_estimators": [Interval(Integral, 1, None, closed="left")],
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [str, Activation, "array-like"],
        "solver": [StrOptions({*OPTIMIZERS}), Optimizer],
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

    def _train(self, X: FloatArray, y: npt.NDArray[Any], outputs: int, loss: str) -> None:
        sizes = hidden_layers(self.hidden_layer_sizes)
        random = check_random_state(self.random_state)
        n, activations = len(X), activations_named(self.activation, len(sizes))
        mlps = [
            MLP([X.shape[1], *sizes, outputs], hidden_activation=activations, loss=loss, dtype=X.dtype, seed=int(seed))
            for seed in random.randint(2**31 - 1, size=self.n_estimators)
        ]
        self.rows_ = [random.randint(n, size=n) if self.bootstrap else None for _ in mlps]
        left_out = [None if rows is None else np.setdiff1d(np.arange(n), rows) for rows in self.rows_]
        with threads(self.n_threads):
            self.histories_ = fit_many(
                mlps,
                X,
                y,
                epochs=min(self.max_iter, sys.maxsize),
                batch_size=min(200 if self.batch_size == "auto" else self.batch_size, n),
                optimizer=self.solver,
                rows=self.rows_,
                validation_rows=[None if rows is None or not rows.size else rows for rows in left_out],
                patience=None if self.n_iter_no_change is None else min(self.n_iter_no_change, sys.maxsize),
            )
        self.mlps_ = mlps
        self.n_iter_ = max(history.epochs for history in self.histories_)

    def _outputs(self, X: Any) -> FloatArray:
        """Compute a_L of every network, of shape (n_estimators, n, d_L)."""
        check_is_fitted(self)
        check_real_inputs(X)
        X = validate_data(self, X, dtype=(np.float64, np.float32), reset=False)
        with threads(self.n_threads):
            return np.stack([mlp.predict(X) for mlp in self.mlps_])


def mean_and_std(outputs: FloatArray, return_std: bool) -> FloatArray | tuple[FloatArray, FloatArray]:
    """Give the mean over the networks, and if wanted the standard deviation too."""
    mean: FloatArray = outputs.mean(axis=0)
    return (mean, outputs.std(axis=0)) if return_std else mean


class EnsembleRegressor(RegressorMixin, MultiOutputMixin, BaseEnsemble):  # type: ignore[misc]
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

    @unchanged_by_errors
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
        X, y = validate_data(self, X, y, dtype=(np.float64, np.float32), multi_output=True, y_numeric=True)
        check_real_targets(y)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        self.n_outputs_ = 1 if y.ndim == 1 else y.shape[1]
        self._train(X, y.astype(X.dtype, copy=False), self.n_outputs_, "mse")
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
        a = self._outputs(X)
        return mean_and_std(a[:, :, 0] if self.n_outputs_ == 1 else a, return_std)


class EnsembleClassifier(ClassifierMixin, BaseEnsemble):  # type: ignore[misc]
    """Networks that differ in their initial weights and in the samples that they are trained on, and their soft vote.

    Trained as those of `EnsembleRegressor`. The probability of a class is the mean of what the networks give it, and
    the class with the largest one is predicted.

    Parameters
    ----------
    n_estimators : int, default 10
        Number of networks.
    hidden_layer_sizes : sequence of int, default (100,)
        Units of the hidden layers.
    activation : str or Activation, or a sequence of one per hidden layer, default "relu"
        As `MLPClassifier`'s.
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
    classes_ : ndarray of shape (n_classes,)
        The labels, in order.
    mlps_ : list of chainrule.MLP
        The networks; their outputs are in the order of `classes_`, also where a bootstrap sample lacks a class.
    histories_ : list of chainrule.History
        Their losses, epoch by epoch.
    rows_ : list of (ndarray or None)
        For each network the rows that it was trained on, or None for all.
    n_iter_ : int
        Epochs of the network that was trained longest.
    n_features_in_, feature_names_in_
        As scikit-learn's.

    References
    ----------
    Those of `EnsembleRegressor`.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from chainrule.sklearn import EnsembleClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> ensemble = EnsembleClassifier(5, random_state=0).fit(X, y)
    >>> mean, std = ensemble.predict_proba(X[:2], return_std=True)
    >>> mean.shape, std.shape
    ((2, 3), (2, 3))
    """

    @unchanged_by_errors
    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any) -> EnsembleClassifier:
        """Train the networks on X and y.

        Parameters
        ----------
        X : array-like or frame of shape (n, d_0)
            Samples as rows, finite.
        y : array-like of shape (n,)
            Class labels.

        Returns
        -------
        EnsembleClassifier
            Itself.

        Raises
        ------
        ValueError
            If an argument does not fit.
        FloatingPointError
            If the training of a network diverges.
        """
        X, y = validate_data(self, X, y, dtype=(np.float64, np.float32))
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        self._train(X, codes, len(self.classes_), "cross_entropy")
        return self

    def predict_proba(self, X: Any, return_std: bool = False) -> FloatArray | tuple[FloatArray, FloatArray]:
        """Predict the probability of each class by the mean of the networks.

        Parameters
        ----------
        X : array-like or frame of shape (n, d_0)
            Samples as rows, finite.
        return_std : bool, default False
            Whether to return the standard deviation over the networks too: how far they disagree.

        Returns
        -------
        ndarray of shape (n, n_classes), or a tuple of two
            In the order of `classes_`.
        """
        return mean_and_std(self._outputs(X), return_std)

    def predict_log_proba(self, X: Any) -> FloatArray:
        """Predict the logarithm of the probability of each class.

        Parameters
        ----------
        X : array-like or frame of shape (n, d_0)
            Samples as rows, finite.

        Returns
        -------
        ndarray of shape (n, n_classes)
            Of `predict_proba`; -inf for 0.
        """
        probability: FloatArray = self._outputs(X).mean(axis=0)
        with np.errstate(divide="ignore"):
            return np.log(probability, out=probability)

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """Predict the class of each sample.

        Parameters
        ----------
        X : array-like or frame of shape (n, d_0)
            Samples as rows, finite.

        Returns
        -------
        ndarray of shape (n,)
            Labels as those of `fit`'s y.
        """
        codes = self._outputs(X).mean(axis=0).argmax(axis=1)
        labels: npt.NDArray[Any] = self.classes_[codes]
        return labels
