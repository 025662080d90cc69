"""chainrule: multi-layer perceptrons, trained on CPUs by explicit backpropagation, with every gradient open to look at.

>>> import chainrule as cr
>>> mlp = cr.MLP([2, 4, 1], hidden_activation="sigmoid", loss="bce", seed=0)
"""

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from chainrule import _core
from chainrule._core import Activation, Init, Loss, Optimizer, Schedule
from chainrule.activations import ELU, LeakyReLU
from chainrule.config import show_config
from chainrule.distributed import shard
from chainrule.fit_many import fit_many
from chainrule.gradient_check import GradientCheckReport
from chainrule.gradient_flow import GradientFlowReport
from chainrule.history import EpochReport, History
from chainrule.initializers import Normal, Uniform
from chainrule.losses import Huber, Quantile
from chainrule.mlp import MLP
from chainrule.monitor import GradientFlow
from chainrule.non_finite import NonFinite, NonFiniteError
from chainrule.optimizers import SGD, Adam, AdamW, RMSprop
from chainrule.schedules import ConstantRate, CosineDecay, ExponentialDecay, OneCycle, Plateau, StepDecay, Warmup
from chainrule.tensorboard import TensorBoard
from chainrule.threads import get_num_threads, num_threads, set_num_threads

with suppress(ImportError, AttributeError):  # where there is one that is not too old, its limits hold
    from chainrule import _threadpool  # noqa: F401

__version__ = _core.config()["version"]

__all__ = [
    "ELU",
    "MLP",
    "SGD",
    "Activation",
    "Adam",
    "AdamW",
    "ConstantRate",
    "CosineDecay",
    "EpochReport",
    "ExponentialDecay",
    "GradientCheckReport",
    "GradientFlow",
    "GradientFlowReport",
    "History",
    "Huber",
    "Init",
    "LeakyReLU",
    "Loss",
    "NonFinite",
    "NonFiniteError",
    "Normal",
    "OneCycle",
    "Optimizer",
    "Plateau",
    "Quantile",
    "RMSprop",
    "Schedule",
    "StepDecay",
    "TensorBoard",
    "Uniform",
    "Warmup",
    "__version__",
    "fit_many",
    "get_num_threads",
    "num_threads",
    "set_num_threads",
    "shard",
    "show_config",
]


if not TYPE_CHECKING:  # which would take it for any name

    def __getattr__(name: str) -> Any:
        if name == "sklearn":  # needs its extra, and takes a second to import
            import chainrule.sklearn

            return chainrule.sklearn
        raise AttributeError(f"module 'chainrule' has no attribute {name!r}")
