"""What the classifier and the regressor share."""

from __future__ import annotations

import copy
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import cache, cached_property, wraps
from inspect import signature
from itertools import pairwise
from numbers import Integral, Real
from typing import Any
from zlib import crc32

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from chainrule import losses
from chainrule._arguments import integer
from chainrule._core import Activation, FitQueue, NumpyShuffles, Optimizer, Schedule, activation_names
from chainrule._types import FloatArray, Self
from chainrule.activations import as_hidden_activations
from chainrule.distributed import Communicator, Ranks, as_communicator
from chainrule.gradient_flow import GradientFlowReport
from chainrule.initializers import ZEROS
from chainrule.mlp import MLP
from chainrule.optimizers import OPTIMIZERS
from chainrule.schedules import SCHEDULES
from chainrule.serialization import PICKLE_VERSION, check_format, describe
from chainrule.sklearn.callbacks import CallbackSupportMixin
from chainrule.sklearn.interchange import CORE_NAMES, SKLEARN_NAMES, from_sklearn, to_onnx, to_sklearn
from chainrule.sklearn.lbfgs import fit_lbfgs
from chainrule.sklearn.objective import Objective
from chainrule.sklearn.samples import Samples, check_real_inputs, without_subnormals
from chainrule.sklearn.stochastic import BESTS, OWN_RATES, RECORDS, fit_stochastic, not_finite, rows_per_batch
from chainrule.threads import num_threads

OF_THE_PROCESS = ("callbacks", "n_threads", "random_state", "seed", "verbose")  # parameters that ranks may differ in
FLOW_NUMBERS = 2**22  # of X that gradient_flow_ looks at: it makes them dense
# Older versions of scikit-learn take weights that are all zero, and have no such argument.
ZEROS_TOO = dict.fromkeys({"allow_all_zero_weights"} & signature(_check_sample_weight).parameters.keys(), True)


class BaseMLP(CallbackSupportMixin, BaseEstimator, ABC):  # type: ignore[misc]
    """Parameters, training and fitted attributes; subclasses add what differs between classes and numbers."""

    _parameter_constraints: dict[str, list[Any]] = {  # noqa: RUF012
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions({"logistic", *activation_names}), Activation, "array-like"],
        "solver": [StrOptions({"lbfgs", *OPTIMIZERS}), Optimizer],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate": [StrOptions({*OWN_RATES, *SCHEDULES}), Schedule],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "power_t": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
        "momentum": [Interval(Real, 0, 1, closed="both")],
        "nesterovs_momentum": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "beta_1": [Interval(Real, 0, 1, closed="left")],
        "beta_2": [Interval(Real, 0, 1, closed="left")],
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), Options(Real, {np.inf})],
        "max_fun": [Interval(Integral, 1, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left"), "array-like"],
        "clip_norm": [Interval(Real, 0, None, closed="neither"), None],
        "callbacks": ["array-like", tuple, callable, None],
        "dtype": [StrOptions({"float32", "float64"}), type, np.dtype, None],
        "n_threads": [Interval(Integral, 1, None, closed="left"), None],
    }

    # Those that the methods below use.
    activation: Any
    alpha: float
    batch_size: Any
    callbacks: Any
    dtype: Any
    early_stopping: bool
    epsilon: float
    hidden_layer_sizes: Any
    learning_rate: Any
    learning_rate_init: float
    max_fun: int
    max_iter: int
    momentum: float
    n_iter_no_change: float
    power_t: float
    solver: Any
    tol: float
    verbose: int
    # Fitted.
    mlp_: MLP
    n_iter_: int
    n_outputs_: int
    t_: int
    loss_: float
    loss_curve_: list[float]
    best_loss_: Any
    validation_curve_: list[float]
    validation_scores_: Any
    best_validation_score_: Any
    _first_samples: Samples
    _no_improvement_count: int
    _optimizer: Optimizer
    _rate_rule: tuple[Any, float, float]  # which `partial_fit` keeps with the optimizer
    _shuffles: tuple[Any, NumpyShuffles]  # of `partial_fit` with that int for random_state

    def __getstate__(self) -> dict[str, Any]:
        state = {**super().__getstate__(), "_format": PICKLE_VERSION}
        if state.pop("_first_samples", None) is not None and "gradient_flow_" not in state:  # no samples in a file
            with suppress(ValueError):  # the user may have put another network in place
                state["gradient_flow_"] = self._gradient_flow()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        check_format(f"the pickled {type(self).__name__}", state.pop("_format", None), PICKLE_VERSION)
        super().__setstate__(state)

    def _keep(self, arguments: dict[str, Any]) -> None:
        """Keep the arguments of the constructor under their names, untouched, as scikit-learn asks."""
        for name, value in arguments.items():
            if name != "self":
                setattr(self, name, value)

    @abstractmethod
    def _targets(self, y: Any, incremental: bool, dtype: npt.DTypeLike, comm: Communicator | None) -> npt.NDArray[Any]:
        """Learn of validated y what there is to learn, and give it as the core takes it."""

    @abstractmethod
    def _encode(self, y: Any, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Give y as the core takes it."""

    @abstractmethod
    def _objective(self) -> Objective:
        """Give the loss to train with, of `n_outputs_` outputs."""

    @abstractmethod
    def _score_of(self, samples: Samples) -> float:
        """Give the score that early stopping watches."""

    def _get_fitted_attr_html(self, doc_link: str = "") -> Any:
        """Show the fitted attributes in a notebook, without `gradient_flow_` where nobody has looked at it yet."""
        seen = type(self).__new__(type(self))
        seen.__dict__.update({name: value for name, value in vars(self).items() if name != "_first_samples"})
        return BaseEstimator._get_fitted_attr_html(seen, doc_link)

    @cached_property
    def gradient_flow_(self) -> GradientFlowReport:
        """How the gradient runs through the layers, on the first samples of the last `fit`; made at the first look."""
        if not hasattr(self, "_first_samples"):
            raise AttributeError("there is no gradient_flow_; call fit before")
        return self._gradient_flow()

    def _gradient_flow(self) -> GradientFlowReport:
        X, y, sample_weight = self._first_samples
        mlp = self.mlp_.copy()  # mlp_ keeps its activations and gradients
        mlp.forward(X)
        mlp.backward(y, sample_weight if sample_weight is None or sample_weight.any() else None)
        return mlp.gradient_flow()

    @property
    def coefs_(self) -> list[FloatArray]:
        """W_1 ... W_L, of shape (d_{l-1}, d_l): views of the network's memory. What is assigned is copied into them."""
        return Views("coefs_", self._fitted_for("coefs_").weights)

    @coefs_.setter
    def coefs_(self, arrays: Any) -> None:
        self.coefs_[:] = arrays

    @property
    def intercepts_(self) -> list[FloatArray]:
        """b_1 ... b_L, of shape (d_l,): views of the network's memory. What is assigned is copied into them."""
        return Views("intercepts_", self._fitted_for("intercepts_").biases)

    @intercepts_.setter
    def intercepts_(self, arrays: Any) -> None:
        self.intercepts_[:] = arrays

    @property
    def n_layers_(self) -> int:
        """Number of layers, with that of the inputs."""
        return len(self._fitted_for("n_layers_").layer_sizes)

    @property
    def out_activation_(self) -> str:
        """Activation of the output, by scikit-learn's name."""
        name = self._fitted_for("out_activation_").output_activation.name
        return SKLEARN_NAMES.get(name, name)

    def _fitted_for(self, attribute: str) -> MLP:
        """Give the network that an attribute is read off."""
        if not hasattr(self, "mlp_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {attribute!r}: it is not fitted yet")
        return self.mlp_

    @classmethod
    def from_sklearn(cls, fitted: Any) -> Self:
        """Make an estimator of scikit-learn's fitted one, with copies of its parameters and fitted attributes.

        Parameters
        ----------
        fitted : sklearn.neural_network.MLPClassifier or MLPRegressor
            The one of the same name. An optimizer's moments do not come along: `partial_fit` starts with new ones.

        Returns
        -------
        MLPClassifier or MLPRegressor

        Raises
        ------
        TypeError
            If it is another estimator.
        sklearn.exceptions.NotFittedError
            If it is not fitted.
        """
        return from_sklearn(cls, fitted)

    def to_sklearn(self) -> Any:
        """Return scikit-learn's estimator of this name with the same predictions.

        Settings of training that scikit-learn does not have are left at its defaults.

        Returns
        -------
        sklearn.neural_network.MLPClassifier or MLPRegressor

        Raises
        ------
        ValueError
            If scikit-learn has no network with these activations or this loss.
        sklearn.exceptions.NotFittedError
            If this one is not fitted.
        """
        return to_sklearn(self)

    def to_onnx(self, path: str | os.PathLike[str]) -> None:
        """Write an ONNX model as `MLP.to_onnx` does; a classifier's has the outputs "label" and "probabilities".

        Parameters
        ----------
        path : str or path-like
            The file; an existing one is replaced.

        Raises
        ------
        OSError
            If it cannot be written; an existing file stays as it was.
        sklearn.exceptions.NotFittedError
            If this estimator is not fitted.
        """
        to_onnx(self, path)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    @classmethod
    @cache  # scikit-learn inspects the signature in each call, which takes a tenth of a fit of ten samples
    def _get_param_names(cls) -> list[str]:
        names: list[str] = super()._get_param_names()
        return names

    @property
    def _by_lbfgs(self) -> bool:
        return isinstance(self.solver, str) and self.solver == "lbfgs"

    def _validated(self, X: Any, y: Any, sample_weight: Any, comm: Communicator | None, *, reset: bool) -> Samples:
        """Check samples for training or validation, and give them with y as the user has it."""
        X, y = validate_data(
            self,
            X,
            y,
            accept_sparse="csr",
            dtype=(np.float64, np.float32) if self.dtype is None else np.dtype(self.dtype),
            multi_output=True,
            y_numeric=not is_classifier(self),
            reset=reset,
        )
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if sample_weight is not None:
            zeros = {} if comm is None else ZEROS_TOO  # other processes have weights too
            sample_weight = _check_sample_weight(sample_weight, X, dtype=X.dtype, **zeros)
        return Samples(X, y, sample_weight)

    def _outputs(self, X: Any) -> FloatArray:
        """Compute a_L for X as a user gives it."""
        check_is_fitted(self)
        check_real_inputs(X)
        with np.errstate(over="ignore"):  # what is too large for the dtype is refused as an infinity is
            X = validate_data(self, X, accept_sparse="csr", dtype=self.mlp_.dtype, reset=False)
        with threads(self.n_threads):
            return self.mlp_.predict(X)

    def _fit(
        self, X: Any, y: Any, sample_weight: Any, validation_set: Any, comm: Any = None, *, incremental: bool
    ) -> Any:
        for _ in self._fitting(X, y, sample_weight, validation_set, comm, incremental=incremental):
            pass
        return self

    def _fitting(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        validation_set: Any = None,
        comm: Any = None,
        *,
        incremental: bool = False,
        queue: FitQueue | None = None,
    ) -> Iterator[None]:
        """Fit. With a queue, a stochastic solver trains in it: a pause says that the queue has to be run now."""
        for name in ("gradient_flow_", "_first_samples"):  # of the fit before
            self.__dict__.pop(name, None)
        if self._by_lbfgs:
            stochastic = {
                "dropout": np.any(np.asarray(self.dropout) != 0),
                "clip_norm": self.clip_norm is not None,
            }
            for name, is_given in stochastic.items():
                if is_given:
                    raise ValueError(f"{name} needs a stochastic solver; solver is 'lbfgs'")
        comm = None if comm is None else as_communicator(comm)
        hidden = hidden_layers(self.hidden_layer_sizes)
        first = not hasattr(self, "mlp_") or not (self.warm_start or incremental)
        X, y, sample_weight = given = self._validated(X, y, sample_weight, comm, reset=first)
        targets = self._targets(y, incremental, X.dtype, comm)
        weight = without_subnormals(self._weights(y, sample_weight, incremental, comm), X.dtype)
        samples = Samples(X, targets, weight)
        objective = self._objective()
        random = check_random_state(self.random_state)
        before = getattr(self, "mlp_", None)
        if first:
            self._initialise([X.shape[1], *hidden], objective, X.dtype, random)
        else:
            self._take_over_settings(objective)
        if self.mlp_ is not before:
            # An optimizer belongs to the first network that it steps; an error leaves the lists to the one before.
            for name in {"_optimizer", "loss_curve_", "validation_curve_", "validation_scores_"} & vars(self).keys():
                setattr(self, name, copy.copy(getattr(self, name)))
        with threads(self.n_threads):
            if self._by_lbfgs:
                warn_of_end = fit_lbfgs(self, samples, given, validation_set, objective, comm)
            else:
                samples, warn_of_end = yield from fit_stochastic(
                    self, samples, given, validation_set, objective, random, incremental, comm, queue
                )
            if not np.isfinite(self.mlp_.parameters).all():
                raise not_finite()
            if not incremental:
                rows = min(200, rows_per_batch(self, len(samples.y)), max(1, FLOW_NUMBERS // X.shape[1]))
                self._first_samples = samples.take(np.arange(rows))
        warn_of_end()  # last, for a filter may make an error of it

    def _weights(self, y: Any, sample_weight: Any, incremental: bool, comm: Communicator | None) -> Any:
        """Give the weight of each sample, or None, after `_targets`."""
        return sample_weight

    def _join(self, comm: Communicator, samples: Samples, validation: Samples | None) -> Ranks:
        """Begin to train together with the other processes."""
        all_of_it = {**self.get_params(), **describe(self.mlp_), "validation_set": validation is None}
        agreed = {name: value for name, value in all_of_it.items() if name not in OF_THE_PROCESS}
        weights = {"sample_weight": samples.sample_weight}
        if validation is not None:
            weights["validation sample_weight"] = validation.sample_weight
        return Ranks(comm, self.mlp_.parameters, self.mlp_.seed, len(samples.y), agreed, weights=weights)

    def _spoken(self, comm: Communicator | None) -> dict[str, bool]:
        """Tell whether to print scikit-learn's lines or to show a bar: on the first process alone."""
        verbose = int(self.verbose) if comm is None or comm.rank == 0 else 0
        return {"lines": verbose not in (0, 2), "bar": verbose == 2}

    def _initialise(
        self, sizes: list[int], objective: Objective, dtype: npt.DTypeLike, random: np.random.RandomState
    ) -> None:
        """Make a new network, with the initial weights that scikit-learn draws for this random state."""
        self.mlp_ = self._network([*sizes, self.n_outputs_ * objective.per_target], objective, dtype, seed=0)
        # The output's weights are drawn as those of the last hidden layer, or as that which there would be.
        hidden = self.mlp_.hidden_activations
        of_output = hidden[-1] if hidden else activations_named(self.activation or "relu", 1)[0]
        layers = zip(pairwise(self.mlp_.layer_sizes), self.mlp_.weights, self.mlp_.biases, strict=True)
        for activation, ((d_in, d_out), W, b) in zip([*hidden, of_output], layers, strict=True):
            bound = np.sqrt((2 if activation.name == "sigmoid" else 6) / (d_in + d_out))  # Glorot & Bengio 2010
            W[:] = random.uniform(-bound, bound, W.shape)
            b[:] = drawn = random.uniform(-bound, bound, b.shape)
        # For what scikit-learn does not draw, and without drawing a number more.
        self.mlp_._model.seed = crc32(drawn.tobytes())
        self.n_iter_ = self.t_ = 0
        for name in (*RECORDS, *BESTS):
            self.__dict__.pop(name, None)

    def _network(self, sizes: Sequence[int], objective: Objective, dtype: npt.DTypeLike, seed: int) -> MLP:
        """Make a network of zeros with the activations, the loss and the dropout of the parameters."""
        return MLP(
            sizes,
            hidden_activation=activations_named(self.activation, len(sizes) - 2),
            loss=objective.loss,
            init=ZEROS,
            dtype=dtype,
            seed=seed,
            dropout=self.dropout,
        )

    def _take_over_settings(self, objective: Objective) -> None:
        """Let the network have the activations, the loss and the dropout that the parameters say by now."""
        mlp = self.mlp_
        layers = len(mlp.hidden_activations)
        hidden = activations_named(self.activation, layers)
        dropout = tuple(self.dropout) if hasattr(self.dropout, "__iter__") else (self.dropout,) * layers
        if (mlp.hidden_activations, mlp.loss, mlp.dropout) == (tuple(hidden), objective.loss, dropout):
            return
        outputs = self.n_outputs_ * objective.per_target
        if mlp.loss != objective.loss and mlp.layer_sizes[-1] != outputs:
            raise ValueError(
                f"loss is {losses.text(objective.loss)}, which takes {outputs} outputs here; the network has "
                f"{mlp.layer_sizes[-1]}"
            )
        self.mlp_ = self._network(mlp.layer_sizes, objective, mlp.dtype, mlp.seed)
        self.mlp_.parameters[:] = mlp.parameters
        self.mlp_._model.epochs_trained = mlp._model.epochs_trained


class Views(list[FloatArray]):
    """A list of arrays; what is assigned to its items is copied into them. A copy or a pickle of it is a plain list."""

    def __init__(self, name: str, views: list[FloatArray]) -> None:
        super().__init__(views)
        self.name = name

    def __setitem__(self, key: Any, given: Any) -> None:
        views, given = (self[key], given) if isinstance(key, slice) else ([self[key]], [given])
        arrays = [np.array(array, dtype=self[0].dtype) for array in given]  # of these very views, perhaps
        shapes, expected = [array.shape for array in arrays], [view.shape for view in views]
        if shapes != expected:
            raise ValueError(f"the arrays for {self.name} have the shapes {shapes}; expected {expected}")
        for view, array in zip(views, arrays, strict=True):
            view[:] = array

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (list(self),)


def unchanged_by_errors(method: Callable[..., Any]) -> Callable[..., Any]:
    """Let an estimator be as it was where the method raises, unless its network has been trained an epoch more.

    The steps of an epoch that `partial_fit` has begun are not taken back: for that each call had to copy the optimizer.
    """

    @wraps(method)
    def call(estimator: Any, *args: Any, **kwargs: Any) -> Any:
        before: dict[str, Any] = dict(estimator.__dict__)
        mlp: Any = before.get("mlp_")
        epochs = mlp._model.epochs_trained if mlp is not None else 0
        warm = mlp is not None and estimator.warm_start and method.__name__ == "fit"
        state = (mlp.parameters.copy(), mlp._model.rows_drawn) if warm else None
        try:
            return method(estimator, *args, **kwargs)
        except ConvergenceWarning:  # all is done
            raise
        except BaseException:
            if mlp is None or estimator.mlp_ is not mlp or mlp._model.epochs_trained == epochs:
                estimator.__dict__.clear()
                estimator.__dict__.update(before)
                if state is not None:
                    mlp.parameters[:], mlp._model.rows_drawn = state
            raise

    return call


def threads(number: int | None) -> AbstractContextManager[None]:
    """Use that many threads within, or as many as ever."""
    return nullcontext() if number is None else num_threads(int(number))


def activations_named(given: Any, layers: int) -> list[Activation]:
    """Give the activation of each hidden layer, with scikit-learn's names too."""
    each = [given] * layers if isinstance(given, (str, Activation)) else list(given)
    named = [CORE_NAMES.get(entry, entry) if isinstance(entry, str) else entry for entry in each]
    return as_hidden_activations(named, layers, "activation")


def hidden_layers(given: Any) -> list[int]:
    """Give the units of each hidden layer."""
    sizes = list(given) if hasattr(given, "__iter__") else [given]
    if np.any(np.array(sizes) <= 0):
        raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
    return [integer(f"hidden_layer_sizes[{i}]", size, 1) for i, size in enumerate(sizes)]
