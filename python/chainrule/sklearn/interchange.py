"""Fitted estimators to and from scikit-learn's own, and to ONNX."""

from __future__ import annotations

import copy
import os
from typing import TYPE_CHECKING, Any, TypeVar
from zlib import crc32

import numpy as np
from sklearn import neural_network
from sklearn.base import ClassifierMixin, is_classifier
from sklearn.utils._param_validation import InvalidParameterError, validate_parameter_constraints
from sklearn.utils.validation import check_is_fitted

from chainrule._arguments import shown
from chainrule._core import Activation
from chainrule.interchange import Layer, network
from chainrule.mlp import MLP

if TYPE_CHECKING:
    from chainrule.sklearn.base import BaseMLP

    E = TypeVar("E", bound=BaseMLP)

CORE_NAMES = {"logistic": "sigmoid"}
SKLEARN_NAMES = {"sigmoid": "logistic"}
NETWORK = {"coefs_", "intercepts_", "n_layers_", "out_activation_"}  # which an estimator here reads off its network


def from_sklearn(cls: type[E], fitted: Any) -> E:
    """Make an estimator with the parameters and the fitted attributes of scikit-learn's."""
    kind = _kind(cls)
    if type(fitted) is not kind:
        raise TypeError(f"fitted is {shown(fitted)}; expected scikit-learn's {kind.__name__}")
    check_is_fitted(fitted, "coefs_")
    own = cls._get_param_names()
    estimator = cls(**{name: value for name, value in fitted.get_params(deep=False).items() if name in own})
    state = {name: value for name, value in vars(fitted).items() if name.endswith("_") and name not in NETWORK}
    for name, value in state.items():
        setattr(estimator, name, copy.deepcopy(value))
    for name in ("_label_binarizer", "_no_improvement_count"):
        if hasattr(fitted, name):
            setattr(estimator, name, copy.deepcopy(getattr(fitted, name)))
    hidden = [Activation(CORE_NAMES.get(fitted.activation, fitted.activation))] * (fitted.n_layers_ - 2)
    output = Activation(CORE_NAMES.get(fitted.out_activation_, fitted.out_activation_))
    layers = [
        Layer(f"coefs_[{i}]", W, b, activation)
        for i, (W, b, activation) in enumerate(zip(fitted.coefs_, fitted.intercepts_, [*hidden, output], strict=True))
    ]
    seed = crc32(np.asarray(fitted.intercepts_[-1], dtype=np.float64).tobytes())  # the same each time
    estimator.mlp_ = network(MLP, layers, estimator._objective().loss, seed)
    return estimator


def _kind(cls: type[BaseMLP]) -> type[Any]:
    """Give scikit-learn's class for one of ours."""
    kind: type[Any] = neural_network.MLPClassifier if issubclass(cls, ClassifierMixin) else neural_network.MLPRegressor
    return kind


def to_sklearn(estimator: BaseMLP) -> Any:
    """Make scikit-learn's estimator with the same predictions."""
    check_is_fitted(estimator)
    mlp = estimator.mlp_
    names = {SKLEARN_NAMES.get(activation.name, activation.name) for activation in mlp.hidden_activations}
    if len(names) > 1 or not names <= {"identity", "logistic", "tanh", "relu"}:
        raise ValueError(f"scikit-learn has no network with the activations {sorted(names)}; it has one for all layers")
    if estimator.out_activation_ not in ("identity", "logistic", "softmax", "exp") or (
        not is_classifier(estimator) and mlp.loss.name not in ("mse", "poisson")
    ):
        raise ValueError(f"scikit-learn has no network with the loss {mlp.loss.name!r}")
    kind = _kind(type(estimator))
    fitted = kind(activation=names.pop() if names else "relu")
    for name, value in estimator.get_params(deep=False).items():
        constraints = kind._parameter_constraints
        if name in constraints and name != "activation":
            try:
                validate_parameter_constraints({name: constraints[name]}, {name: value}, kind.__name__)
            except InvalidParameterError:
                continue  # a setting of training that scikit-learn does not have
            setattr(fitted, name, copy.deepcopy(value))
    ours = ("mlp_", "gradient_flow_", "validation_curve_")
    state = {name: value for name, value in vars(estimator).items() if name.endswith("_") and name not in ours}
    vars(fitted).update(copy.deepcopy(state))
    for name in ("_label_binarizer", "_no_improvement_count"):
        if hasattr(estimator, name):
            setattr(fitted, name, copy.deepcopy(getattr(estimator, name)))
    fitted.coefs_, fitted.intercepts_ = ([view.copy() for view in views] for views in (mlp.weights, mlp.biases))
    # a warm start with early stopping begins with the best weights as its own
    fitted._best_coefs, fitted._best_intercepts = fitted.coefs_, fitted.intercepts_
    fitted.n_layers_, fitted.out_activation_ = estimator.n_layers_, estimator.out_activation_
    return fitted


def to_onnx(estimator: BaseMLP, path: str | os.PathLike[str]) -> None:
    """Write the network, with "label" and "probabilities" as skl2onnx writes them for a classifier."""
    from chainrule import onnx

    check_is_fitted(estimator)
    mlp = estimator.mlp_
    if not is_classifier(estimator):
        onnx.to_onnx(mlp, path)
        return
    node, array = onnx.onnx.helper.make_node, onnx.onnx.numpy_helper.from_array
    nodes, initializers = onnx.chain(mlp, "a")
    width = max(2, mlp.layer_sizes[-1])
    classes: Any = np.resize(estimator.classes_, width)  # one class has two probabilities too
    strings = classes.dtype.kind in "UO"
    if classes.dtype.kind in "mM":
        raise TypeError(f"classes_ has dtype {classes.dtype}; ONNX has labels that are integers or strings")
    kind = onnx.onnx.TensorProto.STRING if strings else onnx.onnx.TensorProto.INT64
    labels = ["n", width]
    if mlp.output_activation.name == "sigmoid" and mlp.layer_sizes[-1] > 1:  # several labels a sample
        initializers += [array(np.array(0.5, mlp.dtype), "half")]
        nodes += [
            node("Identity", ["a"], ["probabilities"]),
            node("Greater", ["a", "half"], ["above"]),
            node("Cast", ["above"], ["label"], to=kind),
        ]
    else:
        labels = ["n"]
        if mlp.layer_sizes[-1] == 1:
            initializers += [array(np.array(1, mlp.dtype), "one")]
            nodes += [node("Sub", ["one", "a"], ["rest"]), node("Concat", ["rest", "a"], ["probabilities"], axis=1)]
        else:
            nodes += [node("Identity", ["a"], ["probabilities"])]
        initializers += [array(classes.astype(object if strings else np.int64), "classes")]
        nodes += [
            node("ArgMax", ["probabilities"], ["code"], axis=1, keepdims=0),
            node("Gather", ["classes", "code"], ["label"]),
        ]
    outputs = [
        onnx.onnx.helper.make_tensor_value_info("label", kind, labels),
        onnx.tensor("probabilities", mlp, width),
    ]
    onnx.write(path, mlp, nodes, initializers, outputs)
