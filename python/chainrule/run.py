"""A fit with all that is around it: other processes, blocks from the disk, a memory limit, checkpoints."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy.typing as npt

from chainrule._arguments import known_name, shown
from chainrule.checkpoint import checkpoints
from chainrule.distributed import Communicator, Ranks, as_communicator
from chainrule.history import Callback, History, Observer, epoch_observer
from chainrule.memory import as_bytes, copy_bytes, micro_batch_within, n_rows_of, resident
from chainrule.monitor import GradientFlow
from chainrule.non_finite import NonFiniteError
from chainrule.schedules import OneCycle, Warmup
from chainrule.serialization import describe
from chainrule.stream import BLOCK_BYTES, ArrayStream, Stream, all_zero, as_stream, is_on_disk
from chainrule.training import FitSettings

if TYPE_CHECKING:
    from chainrule.mlp import MLP

Checkpoint: TypeAlias = tuple[str | os.PathLike[str] | None, int, bool]  # path, every, resume


def run_fit(
    mlp: MLP,
    X: Any,
    y: npt.ArrayLike | None,
    settings: FitSettings,
    *,
    callbacks: Iterable[Callback],
    progress: bool,
    monitor: GradientFlow | None,
    on_nonfinite: str,
    checkpoint: Checkpoint,
    memory_limit: str | int | None,
    comm: Any,
    reproducible: bool,
) -> History:
    """Train on samples in memory, or block by block; alone, or together with other processes."""
    known_name("on_nonfinite", on_nonfinite, ("raise", "stop", "ignore"))
    if not isinstance(monitor, GradientFlow | None):
        raise TypeError(f"monitor is {shown(monitor)}; expected a GradientFlow")
    if y is None and hasattr(X, "shape"):
        raise TypeError("y is None; expected real numbers, the targets of the rows of X")
    limit = None if memory_limit is None else as_bytes(memory_limit)
    if reproducible and comm is None:
        raise ValueError(
            "reproducible is True without comm; expected a communicator (one process alone always gives the "
            "same bits, for any number of threads)"
        )
    if reproducible and limit is not None:
        raise ValueError(
            "memory_limit is given with reproducible; expected micro_batch instead, the same for any number of ranks"
        )
    ranks = source = None
    if comm is not None:
        if y is None:
            raise ValueError("comm is given and X is an iterable; expected arrays, each process with its own rows")
        ranks = _join(mlp, X, settings, on_nonfinite, as_communicator(comm), reproducible)
    elif y is None or is_on_disk(X):
        source = _stream(mlp, X, y, settings, limit)
    n_rows = ranks.rows if ranks else source.rows if source else n_rows_of(X)
    first = ranks is None or ranks.rank == 0
    progress = progress and first
    # The bar shows a gradient: of the last step of each epoch, where nobody asked for more.
    watched = GradientFlow(every=None) if progress and monitor is None else monitor
    flow = None if watched is None else watched._attach(mlp)
    try:
        with epoch_observer(mlp, settings["epochs"], callbacks, progress, watched) as on_epoch:
            if limit is not None:
                copies = _sample_bytes(mlp, X, y, source)
                path, _, resumes = checkpoint
                settings["micro_batch"] = micro_batch_within(
                    limit, mlp, settings, n_rows, copies, ranks is not None, first and path is not None, bool(resumes)
                )
            samples = None if ranks or y is None else (X, y)
            limited = limit is not None
            written = checkpoints(
                mlp,
                n_rows,
                samples,
                source,
                settings,
                *checkpoint,
                writes=first,
                limited=limited,
                reproducible=reproducible,
            )
            resumed = written["resume"]
            if resumed and flow is not None:
                flow.begin(resumed["step"])
            if ranks:
                on_epoch = _agreed(on_epoch, ranks)
                ranks.agree("checkpoint", repr(resumed and resumed["epochs_trained"]).encode())
            if resumed and len(resumed["loss"]) > settings["epochs"]:
                done = len(resumed["loss"])
                raise ValueError(f"epochs is {settings['epochs']}; expected at least the {done} of {checkpoint[0]}")
            if resumed and source:
                source.first_epoch, source.seed = resumed["epochs_trained"], resumed["seed"]
            arrays = (None, None) if source else (X, y)
            record = mlp._model.fit(
                *arrays,
                on_epoch=on_epoch,
                monitor=flow,
                on_nonfinite=on_nonfinite,
                ranks=ranks,
                source=source,
                **settings,
                **written,
            )
    except (ValueError, NonFiniteError) as error:
        if isinstance(source, ArrayStream):
            source.name_row(error)
        raise
    finally:
        if source:
            source.close()
    if ranks:
        ranks.done()
    history = History.of(record, monitor, settings["micro_batch"])
    if isinstance(source, ArrayStream) and history.non_finite:
        epochs_before = source.first_epoch - (len(resumed["loss"]) if resumed else 0)
        history.non_finite = source.with_row(history.non_finite, epochs_before + history.non_finite.epoch - 1)
    return history


def _join(mlp: MLP, X: Any, settings: FitSettings, on_nonfinite: str, comm: Communicator, reproducible: bool) -> Ranks:
    network = {name: value for name, value in describe(mlp).items() if name != "seed"}
    samples = ("sample_weight", "validation")
    agreed = [(name, repr(value)) for name, value in settings.items() if name not in samples]
    own = [network, agreed, settings["optimizer"].t, settings["validation"] is None, on_nonfinite, reproducible]
    no_weight = all_zero(settings["sample_weight"])
    return Ranks(comm, mlp.parameters, mlp.seed, n_rows_of(X), own, reproducible, no_weight)


def _agreed(on_epoch: Observer | None, ranks: Ranks) -> Observer:
    """Let the fit end on all processes where one wants it to."""
    return lambda *report: ranks.epoch_done(on_epoch is not None and on_epoch(*report))


def _stream(mlp: MLP, X: Any, y: npt.ArrayLike | None, settings: FitSettings, limit: int | None) -> Stream:
    schedule = settings["schedule"]
    if y is None and isinstance(schedule, (OneCycle, Warmup)):
        raise ValueError(f"schedule is {schedule!r}, which needs the number of steps; an iterable does not tell it")
    # Two blocks and what one is put together from take at most half of what there is.
    room = BLOCK_BYTES if limit is None else max(2**20, min(BLOCK_BYTES, (limit - resident()) // 8))
    stream = as_stream(mlp, X, y, settings["sample_weight"], settings["batch_size"], settings["shuffle"], room)
    stream.first_epoch, stream.seed = mlp._model.epochs_trained, mlp.seed
    return stream


def _sample_bytes(mlp: MLP, X: Any, y: npt.ArrayLike | None, source: Stream | None) -> int:
    if isinstance(source, ArrayStream):
        return 4 * source.block_bytes
    return 0 if source else copy_bytes(X, mlp.dtype) + copy_bytes(y, mlp.dtype)
