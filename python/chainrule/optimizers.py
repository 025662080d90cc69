"""Optimizers: how a gradient changes the parameters."""

from typing import Any, TypeAlias

from chainrule._arguments import named_or_object
from chainrule._core import SGD, Adam, AdamW, Optimizer, RMSprop
from chainrule.serialization import PICKLE_VERSION, check_format

OptimizerLike: TypeAlias = str | Optimizer

OPTIMIZERS: dict[str, type[SGD | RMSprop | Adam | AdamW]] = {
    "sgd": SGD,
    "rmsprop": RMSprop,
    "adam": Adam,
    "adamw": AdamW,
}


def as_optimizer(given: OptimizerLike) -> Optimizer:
    """Return an optimizer from itself, or a new one with its default settings from its name."""
    return named_or_object(
        "optimizer", given, Optimizer, tuple(OPTIMIZERS), lambda name: OPTIMIZERS[name](), "one such as Adam(lr=1e-3)"
    )


def restored(kind: Any, state: tuple[Any, ...], version: int, own: dict[str, Any] | None = None) -> Any:
    """Return an optimizer from its class and what its `__getstate__` gave: settings by name, and plain arrays.

    `own` are the attributes that an instance of a subclass has beside them.
    """
    check_format(f"the pickled {kind.__name__}", version, PICKLE_VERSION)
    optimizer = kind.__new__(kind)
    optimizer.__setstate__(state)
    if own:
        vars(optimizer).update(own)
    return optimizer


def _reduce(optimizer: Any) -> tuple[Any, ...]:
    own = getattr(optimizer, "__dict__", {})
    return restored, (type(optimizer), optimizer.__getstate__(), PICKLE_VERSION, *([own] if own else []))


# What copyreg does for pickle's first protocols, which skops asks for, needs a base class in Python: it would abort.
setattr(Optimizer, "__reduce__", _reduce)  # noqa: B010

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "OptimizerLike", "RMSprop", "as_optimizer"]
