"""What a fit is told, checked and in the form that the core takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict

import numpy.typing as npt

from chainrule._arguments import boolean, integer, n_rows_of, positive, shown
from chainrule.optimizers import Optimizer, OptimizerLike, as_optimizer
from chainrule.schedules import ScheduleLike, as_schedule

if TYPE_CHECKING:
    from chainrule._core import Schedule
    from chainrule.distributed import Ranks
    from chainrule.mlp import MLP
    from chainrule.stream import Stream

Validation: TypeAlias = tuple[npt.ArrayLike, npt.ArrayLike] | tuple[npt.ArrayLike, npt.ArrayLike, npt.ArrayLike]


class FitSettings(TypedDict):
    """Arguments of the core's fit."""

    epochs: int
    batch_size: int
    optimizer: Optimizer
    shuffle: bool
    sample_weight: npt.ArrayLike | None
    validation: tuple[Any, ...] | None
    patience: int | None
    schedule: Schedule | None
    clip_norm: float | None
    micro_batch: int | None


@dataclass
class Job:
    """A fit whose arguments are checked, and with whom or from where it gets its samples."""

    mlp: MLP
    X: Any
    y: Any
    settings: FitSettings
    limit: int | None = None  # of memory, in bytes
    reproducible: bool = False
    ranks: Ranks | None = None
    source: Stream | None = None

    @property
    def n_rows(self) -> int:
        """Samples of an epoch, of all processes; 0 where that is not known."""
        return self.ranks.rows if self.ranks else self.source.rows if self.source else n_rows_of(self.X)

    @property
    def leads(self) -> bool:
        """Whether it is this process that writes files and shows the progress."""
        return self.ranks is None or self.ranks.rank == 0


def fit_settings(
    *,
    epochs: int,
    batch_size: int,
    optimizer: OptimizerLike,
    shuffle: bool,
    sample_weight: npt.ArrayLike | None,
    validation: Validation | None,
    patience: int | None,
    schedule: ScheduleLike | None,
    clip_norm: float | None,
    micro_batch: int | None = None,
) -> FitSettings:
    """Check the arguments of `MLP.fit` that do not depend on the network."""
    return {
        "epochs": integer("epochs", epochs, 1, 2**63 - 1),
        "batch_size": integer("batch_size", batch_size, 1, 2**63 - 1),
        "optimizer": as_optimizer(optimizer),
        "shuffle": boolean("shuffle", shuffle),
        "sample_weight": sample_weight,
        "validation": None if validation is None else _as_validation(validation),
        "patience": None if patience is None else integer("patience", patience, 1, 2**63 - 1),
        "schedule": None if schedule is None else as_schedule(schedule),
        "clip_norm": None if clip_norm is None else positive("clip_norm", clip_norm),
        "micro_batch": None if micro_batch is None else integer("micro_batch", micro_batch, 1, 2**63 - 1),
    }


def _as_validation(given: object) -> tuple[Any, ...]:
    if not isinstance(given, (tuple, list)):
        raise TypeError(f"validation is {shown(given)}; expected a tuple (X, y) or (X, y, sample_weight)")
    if len(given) not in (2, 3):
        raise ValueError(f"validation has {len(given)} entries; expected (X, y) or (X, y, sample_weight)")
    return tuple(given)
