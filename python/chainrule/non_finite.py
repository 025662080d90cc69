"""Where numbers stopped being finite."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from chainrule._json import jsonable

NON_FINITE = ("raise", "stop", "ignore")  # what to do about such a step
CURES = {
    "bad input": "Clean or scale the input.",
    "bad weight": "Something wrote it, or the update before it was too large: a smaller learning rate or clip_norm.",
    "overflow": "A smaller learning rate, clip_norm, a smaller initialisation, or scaled inputs usually help.",
}


@dataclass(frozen=True)
class NonFinite:
    """Where numbers first stopped being finite, in the order in which a training step computes them.

    Attributes
    ----------
    cause : str
        "bad input", "bad weight", or "overflow": here, from finite numbers. What was only received from an earlier
        place is never reported.
    tensor : str
        "X"; "layers.0.weight", "layers.0.bias"; "z", "a" of the forward pass; "loss"; "delta" of the backward pass;
        or "layers.0.weight gradient", "layers.0.bias gradient".
    layer : int
        l, from 1; 0 for X.
    row, column : int
        Its place: row of the samples that were given, or of the parameter.
    value : float
        NaN or an infinity.
    loss : float
        The loss of that step, which may be finite.
    epoch, batch, step : int
        When, from 1: the batch of the epoch, and the step of the whole fit; 0 outside a fit.
    """

    cause: str
    tensor: str
    layer: int
    row: int
    column: int
    value: float
    loss: float
    epoch: int = 0
    batch: int = 0
    step: int = 0

    def __str__(self) -> str:
        failed = "the gradient stopped being finite" if math.isfinite(self.loss) else f"the loss became {self.loss}"
        when = f" in epoch {self.epoch}, batch {self.batch} (step {self.step})" if self.epoch else ""
        name = {"z": f"z_{self.layer}", "a": f"a_{self.layer}", "delta": f"δ_{self.layer}"}.get(
            self.tensor, self.tensor
        )
        column = "" if self.tensor == "loss" else f", column {self.column}"  # a sample's loss is of all its outputs
        what = f"{name} is {self.value} at {'sample' if self.is_of_sample else 'row'} {self.row}{column}"
        if self.cause == "overflow":
            what += f"; it overflowed there, in layers.{max(self.layer - 1, 0)}: all that it is computed from is finite"
        return f"{failed}{when}: {what}. {CURES[self.cause]}"

    @property
    def is_of_sample(self) -> bool:
        """Whether `row` is that of a sample, and not of a parameter."""
        return not self.tensor.startswith("layers.")

    def to_dict(self) -> dict[str, Any]:
        """Return the attributes as a dictionary, ready for JSON; None for what is not finite."""
        return jsonable(asdict(self))


class NonFiniteError(FloatingPointError):
    """A loss or gradient that is not finite; the parameters are those before that step.

    Attributes
    ----------
    where : NonFinite
        Where it began.
    cause, tensor, layer, row, column, value, loss, epoch, batch, step
        Those of `where`.
    """

    cause: str
    tensor: str
    layer: int
    row: int
    column: int
    value: float
    loss: float
    epoch: int
    batch: int
    step: int

    def __init__(self, where: NonFinite) -> None:
        super().__init__(f"{where} The parameters are those before that step.")
        self.where = where

    if not TYPE_CHECKING:  # which would take it for any name

        def __getattr__(self, name: str) -> Any:
            if name in NonFinite.__dataclass_fields__ and "where" in vars(self):
                return getattr(self.where, name)
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *NonFinite.__dataclass_fields__]

    def __reduce__(self) -> tuple[type[NonFiniteError], tuple[NonFinite], dict[str, Any]]:
        return type(self), (self.where,), {"args": self.args}
