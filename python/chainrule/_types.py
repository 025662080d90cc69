"""Types for annotations, by names that typing.get_type_hints finds without the packages that some of them are of."""

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from torch.nn import Module as TorchModule
    from torch.nn import Sequential as TorchSequential
    from typing_extensions import Self

    from chainrule._core import Config, FitRecord
else:
    Axes = TorchModule = TorchSequential = Self = Any
    Config = FitRecord = dict[str, Any]  # of the core's stub alone

FloatArray: TypeAlias = npt.NDArray[np.floating[Any]]

__all__ = ["Axes", "Config", "FitRecord", "FloatArray", "Self", "TorchModule", "TorchSequential"]
