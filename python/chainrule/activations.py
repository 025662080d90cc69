"""Activations: how a layer turns z into a."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from chainrule import _core
from chainrule._arguments import named_or_object, real, shown
from chainrule._core import Activation

ActivationLike: TypeAlias = str | Activation


class LeakyReLU(Activation):
    """The leaky rectifier: ``σ(z) = z`` for ``z > 0``, else ``negative_slope · z``.

    Its derivative is 1 for ``z > 0`` and ``negative_slope`` elsewhere, at ``z = 0`` too.

    Parameters
    ----------
    negative_slope : float, default 0.01
        Slope for negative z, finite and >= 0.

    Raises
    ------
    ValueError, TypeError
        If negative_slope is not such a number.

    Examples
    --------
    >>> import chainrule as cr
    >>> mlp = cr.MLP([4, 8, 1], hidden_activation=cr.LeakyReLU(0.2))
    >>> mlp.hidden_activations[0].parameter
    0.2
    """

    def __init__(self, negative_slope: float = 0.01) -> None:
        super().__init__("leaky_relu", real("negative_slope", negative_slope))

    @property
    def negative_slope(self) -> float:
        """Slope for negative z."""
        assert self.parameter is not None
        return self.parameter

    def __reduce__(self) -> tuple[type[LeakyReLU], tuple[float]]:
        return type(self), (self.negative_slope,)

    def __repr__(self) -> str:
        return f"LeakyReLU(negative_slope={self.negative_slope!r})"


class ELU(Activation):
    """The exponential linear unit: ``σ(z) = z`` for ``z > 0``, else ``alpha · (exp(z) - 1)``.

    Its derivative is 1 for ``z > 0``, else ``σ(z) + alpha``.

    Parameters
    ----------
    alpha : float, default 1.0
        Minus the limit for z → -∞, finite and > 0.

    Raises
    ------
    ValueError, TypeError
        If alpha is not such a number.

    References
    ----------
    Clevert, Unterthiner, Hochreiter: Fast and accurate deep network learning by exponential linear units. ICLR 2016.
    """

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__("elu", real("alpha", alpha))

    @property
    def alpha(self) -> float:
        """Minus the limit for z → -∞."""
        assert self.parameter is not None
        return self.parameter

    def __reduce__(self) -> tuple[type[ELU], tuple[float]]:
        return type(self), (self.alpha,)

    def __repr__(self) -> str:
        return f"ELU(alpha={self.alpha!r})"


def as_activation(argument: str, given: ActivationLike) -> Activation:
    """Return an activation from itself or its name."""
    return named_or_object(
        argument, given, Activation, _core.activation_names, Activation, "an activation such as LeakyReLU(0.1)"
    )


def as_hidden_activations(
    given: ActivationLike | Sequence[ActivationLike], layers: int, argument: str = "hidden_activation"
) -> list[Activation]:
    """Return one activation for each hidden layer, from one for all or from a sequence."""
    if isinstance(given, (str, Activation)):
        hidden = [as_activation(argument, given)] * layers
    elif isinstance(given, Sequence):
        if len(given) != layers:
            raise ValueError(f"{argument} has {len(given)} entries; expected {layers}, one per hidden layer")
        hidden = [as_activation(f"{argument}[{i}]", entry) for i, entry in enumerate(given)]
    else:
        raise TypeError(f"{argument} is {shown(given)}; expected a name, an activation, or a sequence of these")
    for activation in hidden:
        if activation.output_only:
            raise ValueError(f"{argument}: {activation.name!r} is for the output layer only")
    return hidden


def with_class(activation: Activation) -> Activation:
    """Return an activation of the core's as one of its own class, if there is one."""
    if activation.parameter is None:
        return activation
    return {"leaky_relu": LeakyReLU, "elu": ELU}[activation.name](activation.parameter)


def text(activation: Activation) -> str:
    """Return a name, or for one with another parameter than the default the expression that makes it."""
    return repr(activation.name if activation == Activation(activation.name) else with_class(activation))
