"""Networks to and from ONNX."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np

from chainrule import _core
from chainrule._arguments import file_path, integer, shown
from chainrule._core import Activation
from chainrule._extras import optional_package
from chainrule._names import parameter_names
from chainrule.interchange import Layer, network
from chainrule.losses import LossLike, as_loss
from chainrule.serialization import write_atomically

if TYPE_CHECKING:
    from chainrule.mlp import MLP

    M = TypeVar("M", bound=MLP)

onnx = optional_package("onnx", "onnx")

OPSETS = {"": 20, "ai.onnx.ml": 3}  # 20 is the first with Gelu
IR_VERSION = 9
ELEMENT_TYPES = {"float32": onnx.TensorProto.FLOAT, "float64": onnx.TensorProto.DOUBLE}
PLAIN_OPERATORS = {
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "relu": "Relu",
    "selu": "Selu",
    "gelu": "Gelu",
    "softplus": "Softplus",
    "exp": "Exp",
    "softmax": "Softmax",
}


def to_onnx(mlp: MLP, path: str | os.PathLike[str]) -> None:
    """Write a network as an ONNX model, whole or not at all."""
    nodes, parameters = chain(mlp, "output")
    outputs = [tensor("output", mlp, mlp.layer_sizes[-1])]
    write(path, mlp, nodes, parameters, outputs)


def chain(mlp: MLP, output: str) -> tuple[list[Any], list[Any]]:
    """Return the nodes from "X" to `output`, and the parameters as initializers."""
    nodes: list[Any] = []
    parameters = [
        onnx.numpy_helper.from_array(np.ascontiguousarray(values), name) for name, values in mlp.named_parameters()
    ]
    names, a = parameter_names(mlp.n_layers), "X"
    for i, activation in enumerate(mlp._model.activations):
        last = i == mlp.n_layers - 1
        z = output if last and activation.name == "identity" else f"z_{i + 1}"
        nodes.append(onnx.helper.make_node("Gemm", [a, *names[2 * i : 2 * i + 2]], [z]))
        a = z
        if activation.name != "identity":
            a = output if last else f"a_{i + 1}"
            nodes += activation_nodes(activation, z, a)
    return nodes, parameters


def activation_nodes(activation: Activation, z: str, a: str) -> list[Any]:
    """Return the nodes that compute a = σ(z)."""
    node = onnx.helper.make_node
    if activation.name == "silu":
        return [node("Sigmoid", [z], [f"sigmoid_{z}"]), node("Mul", [z, f"sigmoid_{z}"], [a])]
    if activation.name == "leaky_relu":
        return [node("LeakyRelu", [z], [a], alpha=activation.parameter)]
    if activation.name == "elu":
        return [node("Elu", [z], [a], alpha=activation.parameter)]
    return [node(PLAIN_OPERATORS[activation.name], [z], [a])]


def tensor(name: str, mlp: MLP, width: int) -> Any:
    """Describe an input or output of any number of rows."""
    return onnx.helper.make_tensor_value_info(name, ELEMENT_TYPES[mlp.dtype.name], ["n", width])


def write(
    path: str | os.PathLike[str], mlp: MLP, nodes: list[Any], initializers: list[Any], outputs: list[Any]
) -> None:
    """Write a checked model with the input "X"."""
    graph = onnx.helper.make_graph(nodes, "MLP", [tensor("X", mlp, mlp.layer_sizes[0])], outputs, initializers)
    domains = sorted({node.domain for node in nodes})
    model = onnx.helper.make_model(
        graph,
        producer_name="chainrule",
        producer_version=_core.config()["version"],
        ir_version=IR_VERSION,
        opset_imports=[onnx.helper.make_opsetid(domain, OPSETS[domain]) for domain in domains],
    )
    onnx.checker.check_model(model, full_check=True)
    write_atomically(path, model.SerializeToString())


# How the operators after a linear layer add up to an activation: an expression is a number, ("z", l) or (operator,
# arguments …), products and sums flattened and sorted, so that 0.5 · (z · (1 + erf(z / √2))) and
# z · (0.5 · (1 + erf(z / √2))) are the same.
Expression: TypeAlias = Any
ELEMENTWISE: dict[str, dict[str, tuple[Any, ...]]] = {  # with the attributes' values that are no other function
    **{key: {} for key in ("Sigmoid", "Tanh", "Relu", "Selu", "Softplus", "Exp", "Erf", "Greater", "Where")},
    "Gelu": {"approximate": (b"none",)},
    "Softmax": {"axis": (1, -1)},
}
PASSING = {"Identity", "Cast", "ZipMap"}
LABEL = object()  # what comes of ArgMax and the like: labels, of which a network knows nothing
MAKES_LABELS = {"ArgMax", "Binarizer"}
KNOWN_OPERATORS = sorted(
    {"Gemm", "MatMul", "Add", "Mul", "Div", "Sub", "Concat", "Constant", "Transpose", "Reshape", "Flatten", "Dropout"}
    | {"LeakyRelu", "Elu"}
    | set(ELEMENTWISE)
    | PASSING
    | MAKES_LABELS
)


def from_onnx(cls: type[M], path: str | os.PathLike[str], loss: LossLike | None, seed: int | None) -> M:
    """Make a network that computes what the model in a file does."""
    path = file_path("path", path)
    loss = None if loss is None else as_loss(loss)
    seed = None if seed is None else integer("seed", seed, 0, 2**64 - 1)
    try:
        model = onnx.load(path, load_external_data=False)
        for constant in constants_in(model.graph):
            if constant.data_location == onnx.TensorProto.EXTERNAL or constant.external_data:
                raise ValueError(
                    f"{constant.name!r} lies in another file, which is not followed; expected all data in the model, "
                    "as PyTorch writes with external_data=False"
                )
        onnx.checker.check_model(model)
        return network(cls, Reading(model.graph).layers, loss, seed)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # of onnx, protobuf and NumPy, whatever the file makes them raise
        raise ValueError(f"{path} cannot be read as a chain of layers: {error}") from error


def constants_in(graph: Any) -> list[Any]:
    """Return all tensors that a graph holds."""
    of_nodes = [attribute.t for node in graph.node for attribute in node.attribute if attribute.HasField("t")]
    return [*graph.initializer, *of_nodes]


def scaled(*factors: Expression) -> Expression:
    """Return the product."""
    return flattened("Mul", factors, 1.0, float.__mul__)


def summed(*terms: Expression) -> Expression:
    """Return the sum."""
    return flattened("Add", terms, 0.0, float.__add__)


def flattened(operator: str, arguments: Any, neutral: float, combine: Any) -> Expression:
    """Return an associative, commutative operator's expression in the order that all its equals have."""
    number, others = neutral, []
    for argument in arguments:
        for part in argument[1:] if isinstance(argument, tuple) and argument[0] == operator else [argument]:
            if isinstance(part, float):
                number = combine(number, part)
            else:
                others.append(part)
    if number != neutral:
        others.append(float(f"{number:.6g}"))  # 1 / √2 in whatever precision it was written
    return others[0] if len(others) == 1 else (operator, *sorted(others, key=repr))


def activation_of(layer: Layer, expression: Expression, z: Expression) -> Activation:
    """Return the activation σ with expression = σ(z)."""
    plain = {(operator, z): name for name, operator in PLAIN_OPERATORS.items()}
    composed = {
        z: "identity",
        scaled(z, ("Sigmoid", z)): "silu",
        scaled(0.5, z, summed(1.0, ("Erf", scaled(z, 0.5**0.5)))): "gelu",
        ("Where", ("Greater", z, 20.0), z, ("Softplus", z)): "softplus",
    }
    if expression in plain | composed:
        return Activation((plain | composed)[expression])
    if expression[0] in ("LeakyRelu", "Elu") and expression[2] == z:
        return Activation({"LeakyRelu": "leaky_relu", "Elu": "elu"}[expression[0]], expression[1])
    raise ValueError(f"what follows {layer.name} is no activation of this library: {expression}")


class Reading:
    """A graph's nodes in their order, as the layers of a chain."""

    def __init__(self, graph: Any) -> None:
        self.layers: list[Layer] = []
        self.values: dict[str, Any] = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
        inputs = [given.name for given in graph.input if given.name not in self.values]
        if len(inputs) != 1:
            raise ValueError(f"it has {len(inputs)} inputs; expected one")
        self.values[inputs[0]] = ("z", 0)
        for node in graph.node:
            value = self.value_of(node, {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute})
            self.values |= dict.fromkeys(node.output, value)
        outputs = {self.values[output.name] for output in graph.output if self.values[output.name] is not LABEL}
        if len(outputs) != 1:
            raise ValueError(f"it has {len(outputs)} outputs that are not labels; expected one")
        self.finish_layer(*outputs)

    def value_of(self, node: Any, attributes: dict[str, Any]) -> Any:
        """Return what a node computes: an array, an expression, or a label."""
        arguments = [self.values.get(name) for name in node.input if name]
        operator, name = node.op_type, f"node {node.name or node.output[0]!r}"
        if operator in MAKES_LABELS or any(argument is LABEL for argument in arguments):
            return LABEL
        if node.domain not in ("", "ai.onnx.ml") or operator not in KNOWN_OPERATORS:
            raise ValueError(f"{name} is {operator}; known are {', '.join(KNOWN_OPERATORS)}")
        if operator == "Constant":
            return onnx.numpy_helper.to_array(attributes["value"])
        if isinstance(arguments[0], np.ndarray) and len(arguments) == 1:
            if operator not in ("Transpose", "Identity"):
                raise ValueError(f"{name} is {operator} of a constant; expected Transpose or Identity")
            return arguments[0].T if operator == "Transpose" else arguments[0]
        if operator == "Gemm":
            return self.linear(name, arguments, attributes)
        if operator == "MatMul":
            return self.linear(name, arguments, {})
        if operator == "Add" and self.layers and self.layers[-1].bias.size == 0:
            return self.add_bias(name, arguments)
        return self.expression_of(name, operator, [as_expression(name, a) for a in arguments], attributes)

    def linear(self, name: str, arguments: list[Any], attributes: dict[str, Any]) -> Expression:
        """Begin a layer."""
        given = {key: attributes.get(key, usual) for key, usual in (("alpha", 1.0), ("beta", 1.0), ("transA", 0))}
        if given != {"alpha": 1.0, "beta": 1.0, "transA": 0}:
            raise ValueError(f"{name} has {given}; expected alpha 1, beta 1 and transA 0")
        if isinstance(arguments[0], np.ndarray) or not all(isinstance(a, np.ndarray) for a in arguments[1:]):
            raise ValueError(f"{name}: expected a constant weight on the right and a constant bias")
        self.finish_layer(arguments[0])
        weight = arguments[1].T if attributes.get("transB") else arguments[1]
        bias = arguments[2].reshape(-1) if len(arguments) > 2 else np.empty(0, weight.dtype)
        self.layers.append(Layer(name, weight, bias, Activation("identity")))
        return ("z", len(self.layers))

    def finish_layer(self, output: Expression) -> None:
        """Recognise the last layer's activation in the expression of its output."""
        z = ("z", len(self.layers))
        if self.layers:
            self.layers[-1].activation = activation_of(self.layers[-1], output, z)
            if self.layers[-1].bias.size == 0:
                raise ValueError(f"{self.layers[-1].name} has no bias; expected one")
        elif output != z:
            raise ValueError(f"{output} comes before the first linear layer; expected the input")

    def add_bias(self, name: str, arguments: list[Any]) -> Expression:
        """Add what follows a MatMul to its layer."""
        layer, z = self.layers[-1], ("z", len(self.layers))
        bias = next((a for a in arguments if isinstance(a, np.ndarray)), None)
        if bias is None or z not in [a for a in arguments if not isinstance(a, np.ndarray)]:
            raise ValueError(f"{name} is not the bias of {layer.name}; expected a constant there")
        layer.bias = bias.reshape(-1)
        return z

    def expression_of(self, name: str, operator: str, arguments: list[Expression], attributes: dict[str, Any]) -> Any:
        """Return what an operator makes of expressions."""
        first = arguments[0]
        if operator == "Cast" and attributes["to"] not in ELEMENT_TYPES.values():
            raise ValueError(f"{name} is a Cast to type {attributes['to']}; expected float32 or float64")
        if operator in PASSING:
            return first
        if operator == "Dropout":
            if len(arguments) > 2 and arguments[2]:
                raise ValueError(f"{name} is a Dropout in training; expected a model that was exported for inference")
            return first
        if operator in ("Reshape", "Flatten"):
            if operator == "Reshape" and arguments[1:] != [(-1.0, float(self.layers[-1].weight.shape[1]))]:
                raise ValueError(f"{name} is a Reshape to {arguments[1:]}; expected (-1, units of the last layer)")
            return first
        if operator in ("Mul", "Add"):
            return (scaled if operator == "Mul" else summed)(*arguments)
        if operator == "Div" and isinstance(arguments[1], float):
            return scaled(first, 1 / arguments[1])
        if operator == "Sub":
            return summed(first, scaled(-1.0, arguments[1]))
        if operator == "Concat" and first == summed(1.0, scaled(-1.0, arguments[-1])):
            return arguments[-1]  # the probabilities of two classes, from the second's
        if operator == "LeakyRelu":
            return (operator, parameter_of(attributes, 0.01), first)
        if operator == "Elu":
            return (operator, parameter_of(attributes, 1.0), first)
        accepted = ELEMENTWISE.get(operator)
        if accepted is not None and all(value in accepted.get(key, ()) for key, value in attributes.items()):
            return (operator, *arguments)
        raise ValueError(f"{name} is {operator} with {attributes} of {shown(arguments)}, which has no counterpart")


def parameter_of(attributes: dict[str, Any], default: float) -> float:
    """Return alpha as the shortest number that is this one in float32, in which a file holds it."""
    return float(str(np.float32(attributes.get("alpha", default))))


def as_expression(name: str, argument: Any) -> Expression:
    """Return a number for a constant of one element, a tuple of them for a short vector."""
    if not isinstance(argument, np.ndarray):
        return argument
    if argument.shape in ((), (1,)):
        return float(argument.item())
    if argument.ndim == 1 and argument.size <= 4:
        return tuple(float(entry) for entry in argument)
    raise ValueError(f"{name} has a constant of shape {argument.shape}; expected a number")
