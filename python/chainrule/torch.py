"""Networks to and from PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from chainrule._core import Activation
from chainrule._extras import optional_package
from chainrule.interchange import Layer, network
from chainrule.losses import LossLike

if TYPE_CHECKING:
    from chainrule.mlp import MLP

    M = TypeVar("M", bound=MLP)

torch: Any = optional_package("torch", "torch")
nn: Any = torch.nn


class Exp(torch.nn.Module):  # type: ignore[misc]
    """e^z, for which PyTorch has no module."""

    def forward(self, z: Any) -> Any:
        """Apply it elementwise."""
        return torch.exp(z)


PLAIN_ACTIVATIONS = {
    nn.Identity: "identity",
    nn.Sigmoid: "sigmoid",
    nn.Tanh: "tanh",
    nn.ReLU: "relu",
    nn.SELU: "selu",
    nn.SiLU: "silu",
    Exp: "exp",
}
ACCEPTED = (
    "Linear, Identity, Sigmoid, Tanh, ReLU, LeakyReLU, ELU, SELU, GELU, SiLU, Softplus, Dropout, and at the end "
    "Softmax or the Exp that to_torch makes"
)
SOFTPLUS_THRESHOLD = 20  # PyTorch's: above it softplus is the identity, which is off by 2e-9 there


def from_torch(cls: type[M], module: Any, loss: LossLike | None, seed: int | None) -> M:
    """Make a network that computes what the module does."""
    if not isinstance(module, nn.Module):
        raise TypeError(f"module is of type {type(module).__name__}; expected a torch.nn.Sequential")
    layers: list[Layer] = []
    linears: set[int] = set()
    activated = True  # whether the last layer has its activation
    for name, part in chain("module", module):
        if type(part) is nn.Dropout:
            if not layers or layers[-1].dropout:
                raise ValueError(f"{name} is {part}; expected it after a Linear and its activation")
            layers[-1].dropout = part.p
            activated = True
        elif type(part) is nn.Linear:
            if part.bias is None:
                raise ValueError(f"{name} is {part}; expected one with a bias")
            if id(part.weight) in linears:
                raise ValueError(f"{name} has the weight of an earlier layer; expected one of its own")
            linears.add(id(part.weight))
            if part.weight.is_meta:
                raise ValueError(f"{name} is on the device 'meta'; expected one with data")
            if part.weight.dtype not in (torch.float32, torch.float64):
                raise ValueError(f"{name} is of {part.weight.dtype}; expected torch.float32 or torch.float64")
            weight, bias = (parameter.detach().cpu().numpy() for parameter in (part.weight, part.bias))
            layers.append(Layer(name, weight.T, bias, Activation("identity")))
            activated = False
        else:
            activation = activation_of(name, part)
            if activation.name == "identity":
                continue
            if activated:
                raise ValueError(f"{name} is {part}; expected a Linear before it")
            layers[-1].activation = activation
            activated = True
    return network(cls, layers, loss, seed)


def chain(name: str, module: Any) -> Iterator[tuple[str, Any]]:
    """Iterate over the modules of nested Sequentials with their names."""
    if module._forward_hooks or module._forward_pre_hooks:
        raise ValueError(f"{name} has hooks, which have no counterpart; expected a module without")
    if type(module) is nn.Sequential:
        for i, part in enumerate(module):  # named_children would leave out what is there twice
            yield from chain(f"{name}[{i}]", part)
    else:
        yield name, module


def activation_of(name: str, module: Any) -> Activation:
    """Return the activation that a module is."""
    kind = type(module)
    if kind in PLAIN_ACTIVATIONS:
        return Activation(PLAIN_ACTIVATIONS[kind])
    if kind is nn.LeakyReLU and module.negative_slope >= 0:
        return Activation("leaky_relu", module.negative_slope)
    if kind is nn.ELU and module.alpha > 0:
        return Activation("elu", module.alpha)
    if kind is nn.GELU and module.approximate == "none":
        return Activation("gelu")
    if kind is nn.Softplus and module.beta == 1 and module.threshold >= SOFTPLUS_THRESHOLD:
        return Activation("softplus")
    if kind is nn.Softmax and module.dim in (1, -1):
        return Activation("softmax")
    lines = str(module).splitlines()  # of a module with parts: one for each
    what = lines[0] if len(lines) == 1 else kind.__name__
    raise ValueError(f"{name} is {what}, which has no counterpart; known are {ACCEPTED}")


def to_torch(mlp: MLP) -> Any:
    """Make a Sequential with copies of the network's parameters."""
    modules: list[Any] = []
    dropouts = [*mlp.dropout, 0.0]
    for W, b, activation, dropout in zip(mlp.weights, mlp.biases, mlp._model.activations, dropouts, strict=True):
        linear = nn.utils.skip_init(nn.Linear, *W.shape, dtype=getattr(torch, mlp.dtype.name))
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(np.ascontiguousarray(W.T)))
            linear.bias.copy_(torch.from_numpy(b))
        modules.append(linear)
        if activation.name != "identity":
            modules.append(module_of(activation))
        if dropout:
            modules.append(nn.Dropout(dropout))
    return nn.Sequential(*modules)


def module_of(activation: Activation) -> Any:
    """Return the module for an activation."""
    if activation.name == "leaky_relu":
        return nn.LeakyReLU(activation.parameter)
    if activation.name == "elu":
        return nn.ELU(activation.parameter)
    if activation.name == "gelu":
        return nn.GELU()
    if activation.name == "softplus":
        return nn.Softplus(threshold=2 * SOFTPLUS_THRESHOLD)
    if activation.name == "softmax":
        return nn.Softmax(dim=1)
    kinds = {name: kind for kind, name in PLAIN_ACTIVATIONS.items()}
    return kinds[activation.name]()
