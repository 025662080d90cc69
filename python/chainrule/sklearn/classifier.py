"""The classifier."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import _check_partial_fit_first_call, type_of_target, unique_labels

from chainrule._arguments import shown
from chainrule._types import FloatArray
from chainrule.distributed import Communicator, of_all
from chainrule.sklearn.base import BaseMLP, unchanged_by_errors
from chainrule.sklearn.objective import Objective, log_loss
from chainrule.sklearn.samples import Samples


class MLPClassifier(ClassifierMixin, BaseMLP):  # type: ignore[misc]
    """Multi-layer perceptron classifier: scikit-learn's `MLPClassifier`, trained by chainrule.

    Everything that scikit-learn's takes means the same here, but negative sample weights, and one class a sample for a
    network fitted with several labels a sample, are ValueErrors. Predictions have the dtype of the network, whatever
    that of X. The parameters from `class_weight` on are additions.

    Parameters
    ----------
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
        `activation` and `dropout` may have changed, for `partial_fit` too.
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
    class_weight : dict, list of dict or "balanced", optional
        Weight of each class, times `sample_weight`; a class that a dict does not name weighs 1. "balanced" is
        ``n / (n_classes · n_of_class)``; not in `partial_fit`. It counts in the score of the rows that early stopping
        holds out, which are some of those that were given, but not in that of a `validation_set`.
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
    classes_ : ndarray
        Labels, sorted.
    loss_ : float
        Mean loss of the last epoch, with the L2 term.
    best_loss_ : float or None
        Smallest so far; None with `early_stopping`. Not with "lbfgs".
    loss_curve_ : list of float
        `loss_` after each epoch, or each iteration of "lbfgs".
    validation_curve_ : list of float
        Loss on `fit`'s `validation_set` after each epoch or iteration, without the L2 term.
    validation_scores_, best_validation_score_
        Accuracy on the held-out samples after each epoch, and the largest; None without `early_stopping`.
    gradient_flow_ : chainrule.GradientFlowReport
        How the gradient runs through the layers, on the first 200 samples of `fit` at most; made at the first look, and
        gone after `partial_fit`.
    n_iter_, t_ : int
        Epochs of the last fit, and samples trained on in all.
    n_features_in_, feature_names_in_, n_layers_, n_outputs_, out_activation_
        As scikit-learn's.

    Notes
    -----
    With the same ``random_state``, each epoch's loss is scikit-learn's to rounding, shuffled or not, where every
    label's probability is above the dtype's ε, 2.2e-16 or for float32 1.2e-7. Below, scikit-learn takes it for ε, so
    that no label costs more than -ln ε, 36 or 16; here its cost is exact. Where outputs saturate so far, as they may on
    inputs that are not scaled, `loss_` is larger than scikit-learn's, and what follows from it differs: when `tol` ends
    the training, and the weights of "lbfgs". With an int for ``random_state``, `partial_fit` goes on to the next order
    of the samples, so that n of them are a `fit` of n epochs, where scikit-learn's begins anew each time.

    What else differs, errors above all, is in the notes of `MLPRegressor`.

    References
    ----------
    Pedregosa et al.: Scikit-learn: Machine learning in Python. JMLR 12, 2011, whose names and rules these are.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from chainrule.sklearn import MLPClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> classifier = MLPClassifier(max_iter=500, random_state=0).fit(X, y)
    >>> bool(classifier.score(X, y) > 0.95)
    True
    """

    _parameter_constraints: dict[str, list[Any]] = {  # noqa: RUF012
        **BaseMLP._parameter_constraints,
        "class_weight": [dict, list, StrOptions({"balanced"}), None],
    }

    loss = "log_loss"  # which scikit-learn's has too
    classes_: npt.NDArray[Any]

    def __init__(
        self,
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
        class_weight: Any = None,
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
    ) -> MLPClassifier:
        """Train on X and y.

        Parameters
        ----------
        X : array-like, frame or sparse matrix of shape (n, d_0)
            Samples as rows, finite.
        y : array-like of shape (n,), or (n, n_outputs) of zeros and ones
            Class labels; or with several labels a sample, which of them it has.
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
        MLPClassifier
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

    def _check_stochastic(self) -> bool:
        if self._by_lbfgs:
            raise AttributeError("partial_fit is only available for stochastic optimizers. lbfgs is not stochastic.")
        return True

    @available_if(_check_stochastic)  # type: ignore[untyped-decorator]
    @unchanged_by_errors
    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> MLPClassifier:
        """Train one epoch more on X and y.

        Parameters
        ----------
        X : array-like, frame or sparse matrix of shape (n, d_0)
            Samples as rows, finite.
        y : array-like of shape (n,), or (n, n_outputs) of zeros and ones
            Class labels.
        sample_weight : array-like of shape (n,), optional
            Weight of each sample, >= 0; equal by default.
        classes : array-like of shape (n_classes,), optional
            All labels that any call will bring; the first call needs it.

        Returns
        -------
        MLPClassifier
            Itself.

        Raises
        ------
        ValueError
            If an argument does not fit, and nothing has changed then; or if the training diverges, and the network
            keeps the steps that were taken.
        """
        if _check_partial_fit_first_call(self, classes):
            self._label_binarizer = LabelBinarizer().fit(y if type_of_target(y).startswith("multilabel") else classes)
        return self._fit(X, y, sample_weight, None, incremental=True)  # type: ignore[no-any-return]

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """Predict the class of each sample.

        Parameters
        ----------
        X : array-like, frame or sparse matrix of shape (n, d_0)
            Samples as rows, finite.

        Returns
        -------
        ndarray of shape (n,), or (n, n_outputs) of zeros and ones
            Labels as those of `fit`'s y.
        """
        a = self._outputs(X)
        labels: npt.NDArray[Any] = self._label_binarizer.inverse_transform(a.ravel() if a.shape[1] == 1 else a)
        return labels

    def predict_proba(self, X: Any) -> FloatArray:
        """Predict the probability of each class.

        Parameters
        ----------
        X : array-like, frame or sparse matrix of shape (n, d_0)
            Samples as rows, finite.

        Returns
        -------
        ndarray of shape (n, n_classes)
            In the order of `classes_`; with several labels a sample, the probability of each.
        """
        a = self._outputs(X)
        return np.hstack([1 - a, a]) if a.shape[1] == 1 else a

    def predict_log_proba(self, X: Any) -> FloatArray:
        """Predict the logarithm of the probability of each class.

        Parameters
        ----------
        X : array-like, frame or sparse matrix of shape (n, d_0)
            Samples as rows, finite.

        Returns
        -------
        ndarray of shape (n, n_classes)
            In the order of `classes_`.
        """
        probability = self.predict_proba(X)
        return np.log(probability, out=probability)

    def _targets(self, y: Any, incremental: bool, dtype: npt.DTypeLike, comm: Communicator | None) -> npt.NDArray[Any]:
        labels = y
        if comm is not None and not type_of_target(y).startswith("multilabel"):
            labels = np.concatenate(of_all(comm, np.unique(y)))
        if not hasattr(self, "classes_") or not (self.warm_start or incremental):
            self._label_binarizer = LabelBinarizer().fit(labels)
            self.classes_ = self._label_binarizer.classes_
        else:
            self._check_classes(unique_labels(labels))
        encoded = self._encode(y, dtype)
        self.n_outputs_ = len(self.classes_) if encoded.ndim == 1 else encoded.shape[1]
        return encoded

    def _check_classes(self, given: npt.NDArray[Any]) -> None:
        if self.warm_start:
            if set(given) != set(self.classes_):
                raise ValueError(
                    "warm_start can only be used where `y` has the same classes as in the previous call to fit. "
                    f"Previously got {self.classes_}, `y` has {given}"
                )
        elif len(np.setdiff1d(given, self.classes_, assume_unique=True)):
            raise ValueError(
                f"`y` has classes not in `self.classes_`. `self.classes_` has {self.classes_}. 'y' has {given}."
            )

    def _encode(self, y: Any, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Give codes (n,) of several classes, else zeros and ones (n, 1), or (n, outputs) of several labels."""
        several = self._label_binarizer.y_type_.startswith("multilabel")
        if type_of_target(y).startswith("multilabel") != several:
            raise ValueError(
                f"y holds one class a sample; expected zeros and ones of shape (n, {len(self.classes_)}), as in fit"
                if several
                else "The object was not fitted with multilabel input."
            )
        if not several:
            codes: npt.NDArray[Any] = np.searchsorted(self.classes_, y)
            unknown = self.classes_[np.minimum(codes, len(self.classes_) - 1)] != y
            if unknown.any():
                raise ValueError(f"y holds {y[unknown].tolist()[0]!r}, which is not in classes_: {self.classes_}")
            return codes if self._label_binarizer.y_type_ == "multiclass" else codes.reshape(-1, 1).astype(dtype)
        zeros_and_ones: npt.NDArray[Any] = (self._label_binarizer.transform(y) != 0).astype(dtype)
        return zeros_and_ones

    def _weights(self, y: Any, sample_weight: Any, incremental: bool, comm: Communicator | None) -> Any:
        if self.class_weight is None:
            return sample_weight
        if self.class_weight == "balanced" and (incremental or comm is not None):
            raise ValueError(
                "class_weight 'balanced' is not supported for partial_fit or with comm. Pass a dict, such as one "
                "computed with compute_class_weight('balanced', classes=classes, y=y) on all of y."
            )
        if isinstance(self.class_weight, dict) and not type_of_target(y).startswith("multilabel"):
            # of all classes: y may lack some that the dict names
            of_class = compute_class_weight(self.class_weight, classes=self.classes_, y=self.classes_)
            weight = of_class[np.searchsorted(self.classes_, y)]
        else:
            weight = compute_sample_weight(self.class_weight, y)
        if not ((weight >= 0) & (weight < np.inf)).all():
            raise ValueError(f"class_weight is {shown(self.class_weight)}; expected finite weights >= 0")
        if sample_weight is not None:
            weight = weight * sample_weight
        if comm is None and not weight.any():
            raise ValueError(f"class_weight is {shown(self.class_weight)}, which leaves no sample with a weight > 0")
        return weight

    def _objective(self) -> Objective:
        return log_loss(self._label_binarizer.y_type_, self.n_outputs_)

    def _score_of(self, samples: Samples) -> float:
        """Give the accuracy: the share of samples with all labels right."""
        if len(self.classes_) == 1:
            return 1.0
        a = self.mlp_.predict(samples.X)
        right = a.argmax(axis=1) == samples.y if samples.y.ndim == 1 else ((a > 0.5) == (samples.y > 0.5)).all(axis=1)
        return float(np.average(right, weights=samples.sample_weight))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
