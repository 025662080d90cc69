"""Networks from layers that another library made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from chainrule._core import Loss, loss_names
from chainrule.initializers import ZEROS
from chainrule.losses import LossLike

if TYPE_CHECKING:
    from chainrule._core import Activation
    from chainrule.mlp import MLP

    M = TypeVar("M", bound=MLP)

LOSS_OF_OUTPUT = {Loss(name).default_output: name for name in loss_names if Loss(name).default_output != "identity"}


@dataclass
class Layer:
    """What one layer is made of: weight (d_in, d_out), bias (d_out,), σ, dropout, and what its errors call it."""

    name: str
    weight: npt.NDArray[Any]
    bias: npt.NDArray[Any]
    activation: Activation
    dropout: float = 0.0


def network(cls: type[M], layers: Sequence[Layer], loss: LossLike | None, seed: int | None) -> M:
    """Make a network of these layers, with copies of their parameters.

    By default the loss is the one whose output activation the last layer has: bce for sigmoid, cross_entropy for
    softmax, poisson for exp, mse for all others.
    """
    if not layers:
        raise ValueError("there is no linear layer; expected at least one")
    dtype = layers[0].weight.dtype
    width = layers[0].weight.shape[0]
    for layer in layers:
        check(layer, dtype, width)
        width = layer.weight.shape[1]
    output = layers[-1].activation
    if layers[-1].dropout:
        raise ValueError(f"{layers[-1].name} has dropout {layers[-1].dropout}; only hidden layers have it")
    mlp = cls(
        [layers[0].weight.shape[0], *(layer.weight.shape[1] for layer in layers)],
        hidden_activation=[layer.activation for layer in layers[:-1]],
        output_activation=output,
        loss=LOSS_OF_OUTPUT.get(output.name, "mse") if loss is None else loss,
        init=ZEROS,
        dtype=dtype,
        seed=seed,
        dropout=[layer.dropout for layer in layers[:-1]],
    )
    for layer, W, b in zip(layers, mlp.weights, mlp.biases, strict=True):
        W[:], b[:] = layer.weight, layer.bias
    return mlp


def check(layer: Layer, dtype: np.dtype[Any], width: int) -> None:
    """Check that a layer's parameters are finite numbers of that dtype and follow a layer of that width."""
    for what, values in (("weight", layer.weight), ("bias", layer.bias)):
        if values.dtype != dtype or dtype.name not in ("float32", "float64"):
            raise ValueError(
                f"{layer.name}: its {what} is {values.dtype}; expected float32 or float64, the same in all layers"
            )
        if not np.isfinite(values).all():
            raise ValueError(f"{layer.name}: its {what} holds NaN or infinity")
    if layer.weight.ndim != 2 or layer.weight.shape[0] != width:
        raise ValueError(f"{layer.name}: its weight is {layer.weight.shape}; expected ({width}, units)")
    if layer.bias.shape != layer.weight.shape[1:]:
        raise ValueError(f"{layer.name}: its bias is {layer.bias.shape}; expected {layer.weight.shape[1:]}")
