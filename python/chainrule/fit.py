"""A fit with all that is around it: other processes, blocks from the disk, a memory limit, checkpoints."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from typing import Any

import numpy.typing as npt

import chainrule
from chainrule._arguments import boolean, known_name, n_rows_of, shown
from chainrule._core import FlowRecord
from chainrule.checkpoint import Checkpoint, CheckpointSettings
from chainrule.distributed import Communicator, Ranks, as_communicator
from chainrule.history import Callback, History, Observer, epoch_observer
from chainrule.memory import as_bytes, keep_within_limit, micro_batch_within_limit
from chainrule.monitor import GradientFlow
from chainrule.non_finite import NON_FINITE, NonFiniteError
from chainrule.optimizers import OptimizerLike
from chainrule.schedules import ScheduleLike
from chainrule.serialization import describe
from chainrule.stream import ArrayStream, Stream, as_stream, is_on_disk
from chainrule.training import Job, Validation, fit_settings

OF_THE_PROCESS = ("seed", "sample_weight", "validation")  # what ranks may differ in


def fit(
    self: chainrule.MLP,
    X: npt.ArrayLike | Iterable[tuple[npt.ArrayLike, ...]],
    y: npt.ArrayLike | None = None,
    *,
    epochs: int,
    batch_size: int = 32,
    optimizer: OptimizerLike = "adam",
    shuffle: bool = True,
    sample_weight: npt.ArrayLike | None = None,
    validation: Validation | None = None,
    patience: int | None = None,
    schedule: ScheduleLike | None = None,
    clip_norm: float | None = None,
    callbacks: Callback | Iterable[Callback] = (),
    progress: bool = False,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int = 1,
    resume: bool = False,
    monitor: GradientFlow | None = None,
    on_nonfinite: str = "raise",
    micro_batch: int | None = None,
    memory_limit: str | int | None = None,
    comm: Any = None,
    reproducible: bool = False,
) -> History:
    """Train: for each epoch, for each batch, a step.

    Parameters
    ----------
    X : array-like of shape (N, d_0), or iterable
        Samples as rows, finite. What does not fit into memory is read in blocks, one ahead in a thread of its own: a
        memory map (numpy.memmap; also chunked arrays as of h5py or zarr), or, without y, an iterable of blocks (X, y)
        or (X, y, sample_weight) that gives the same ones in every epoch; what has a length and indices will do too. No
        batch reaches from one block of an iterable into the next: the last of each may be smaller. A fit that ends in
        the midst of an epoch waits for the block that is being read, but not on Ctrl-C. Blocks may come from `predict`
        of this network, or from anything of a copy of it. With `comm` nothing is read in blocks: a memory map of the
        network's dtype is used where it is, and any other array on the disk is loaded whole.
    y : array-like of shape (N, d_L), or (N,)
        Their targets; see the Notes of `MLP`.
    epochs : int
        How often to go through all samples, at least 1.
    batch_size : int, default 32
        Samples a step, at least 1. The last batch of an epoch may be smaller; more than N is N.
    optimizer : str or Optimizer, default "adam"
        "sgd", "rmsprop", "adam", "adamw" with their default settings, or an object, which keeps its state from one fit
        to the next.
    shuffle : bool, default True
        Whether each epoch takes the samples in a new order. The order depends on `seed` and on how many epochs the
        network has been trained, so that three fits of one epoch with one optimizer object equal one of three. What is
        read in blocks is shuffled within each; the blocks of arrays are put together from all over them.
    sample_weight : array-like of shape (N,), optional
        Weight of each sample; equal by default. Each batch divides by the sum of its own.
    validation : tuple (X, y) or (X, y, sample_weight), optional
        Samples whose loss is computed after each epoch, and which are not trained on.
    patience : int, optional
        Stop after that many epochs in a row without a better validation loss (training loss without validation). When
        such a fit ends, the network has the parameters of its best epoch.
    schedule : str or schedule, optional
        "constant", "step", "exponential", "cosine", "one_cycle", "warmup", "plateau", or an object with settings:
        `StepDecay` and so on. It starts from the optimizer's lr.
    clip_norm : float, optional
        Where the norm of a step's whole gradient exceeds it, scale the gradient down to that norm.
    callbacks : callable, or iterable of callables, optional
        Each is called with an `EpochReport` after every epoch; one that returns True ends the fit. An exception in one
        ends the fit too, and comes out of it. What one sets of the optimizer holds from the next step on; `lr` is
        then what the schedule multiplies.
    progress : bool, default False
        Whether to show a progress bar on the standard error stream, with the losses and the smallest norm of a layer's
        weight gradient.
    checkpoint : str or path-like, optional
        A file, for this fit alone, that is replaced as `save` does it after every `checkpoint_every` epochs, and after
        the last one, whether `epochs`, `patience` or a callback made it that. A fit that ends otherwise, within an
        epoch by ``on_nonfinite="stop"`` or by an exception, leaves the file as it last was. `load` reads the network as
        it was then, with `patience` too: that of the best epoch is what `fit` leaves. Needs the extra "io".
    checkpoint_every : int, default 1
        Epochs from one checkpoint to the next, at least 1.
    resume : bool, default False
        Whether to go on from the checkpoint, if that file is there. The same call in a new process then ends with the
        same bits as one that was never killed. The network takes its parameters, seed and count of epochs from the
        file, the optimizer its settings, its lr among them, and its state. Samples and arguments have to be the same
        but for `epochs`, which may be more but not fewer than the checkpoint has (a schedule that reaches over all
        epochs then goes on as one over that many), `callbacks`, `progress`, `monitor` and `on_nonfinite`. Samples are
        told by a digest of X, y, sample_weight and validation: of arrays on the disk their number and 64 runs of 16
        rows, of an iterable nothing, and of a fit that was or is one with `comm` their number: any number of processes
        may go on. The numbers that `memory_limit` picked stay.
    monitor : GradientFlow, optional
        Records the gradient flow of the steps; of a fit that is resumed those of this call.
    on_nonfinite : {"raise", "stop", "ignore"}, default "raise"
        What to do about a step whose loss or gradient is not finite. It is never taken: "raise" tells where it began,
        "stop" ends the fit, "ignore" goes on with the next batch; the last two tell in the History. Samples that hold
        NaN or infinity are a ValueError all the same.
    micro_batch : int, optional
        Rows that go through the network at a time, at most. The gradient of a batch is then summed over its parts,
        which gives the same to rounding: the memory for activations no longer grows with the batch, but the gradient
        has to be stored. By default all rows, or, of large batches, parts whose activations and deltas take 4 MB and
        stay in the caches, but of no less than 128 rows, and 1,024 where the parameters take more than 3 MB.
    memory_limit : int or str, optional
        Bytes, or a text such as "2GB" or "512MiB", below which the memory of the whole process is to stay, with all
        that `checkpoint` and `resume` take, and with the pages of memory maps; blocks of an iterable are not counted.
        Picks the largest `micro_batch` that does, and tells it in the History. Where not even one row at a time does,
        a ValueError tells how much is needed, before anything is trained.
    comm : mpi4py communicator, optional
        Train together with the other processes of a job, ``mpiexec -n 4 python -m mpi4py train.py``: each gives its own
        rows of X and y (see `shard`), one at least, of the validation samples too, whose weights may all be zero on
        some, and the same other arguments. Without ``-m mpi4py`` the others wait for ever where one fails. Batches,
        losses, validation and stopping are those of one process with the rows of all, in the order of the ranks, to
        rounding; `batch_size` counts the rows of all. Without `shuffle`, a batch is mostly of one rank, for which the
        others wait. Parameters and order are those of rank 0; that all ranks still have the same parameters is checked
        after every epoch. Any object with `rank`, `size`, and `allreduce(array)`, `bcast(array)` and `barrier()` that
        work in place will do.
    reproducible : bool, default False
        With `comm`: give the same bits for any number of ranks and however they share the rows, as long as these are
        the same in the order of the ranks. All samples of a batch then go to all ranks, and the gradient is the sum of
        those of parts of `micro_batch` rows (by default a 32nd of a batch, but 16 to 256), in a tree that does not
        depend on the ranks. That takes additional memory for gradients, and as many ranks have something to do as there
        are parts. Parts of few rows take longer: larger ones pay where there are few ranks.

    Returns
    -------
    History
        Losses and learning rates, epoch by epoch.

    Raises
    ------
    ValueError, TypeError
        If an argument does not fit, or if the optimizer belongs to another network; nothing is changed then. Of data on
        the disk and of iterables only the form and the first row of arrays are looked at beforehand: a bad number
        further on raises when its block is read, and the parameters are those after the last whole step.
    NonFiniteError
        If the loss or the gradient of a step is not finite, with the epoch, batch, layer, tensor and row where it
        began; a FloatingPointError. The parameters are those before the step.
    OverflowError
        If the schedule takes the learning rate beyond the range of the dtype. The parameters are those before the step.
    RuntimeError
        With `comm`, if network, arguments or, after an epoch, parameters are not the same on all ranks.
    KeyboardInterrupt
        On Ctrl-C; the parameters are those after the last whole step.
    OSError
        If a checkpoint cannot be written or read; an existing one stays as it was.
    """
    settings = fit_settings(
        epochs=epochs,
        batch_size=batch_size,
        optimizer=optimizer,
        shuffle=shuffle,
        sample_weight=sample_weight,
        validation=validation,
        patience=patience,
        schedule=schedule,
        clip_norm=clip_norm,
        micro_batch=micro_batch,
    )
    progress = boolean("progress", progress)
    limit = None if memory_limit is None else as_bytes(memory_limit)
    job = Job(self, X, y, settings, limit, boolean("reproducible", reproducible))
    _check_options(job, monitor, on_nonfinite, comm)
    saving = Checkpoint(checkpoint, checkpoint_every, resume)
    if comm is not None:
        job.ranks = _join(job, on_nonfinite, as_communicator(comm))
    elif y is None or is_on_disk(X):
        job.source = _stream(job)
    progress = progress and job.leads
    # The bar shows a gradient: of the last step of each epoch, where nobody asked for more.
    watched = GradientFlow(every=None) if progress and monitor is None else monitor
    flow = None if watched is None else watched._attach(self)
    try:
        with (
            job.source or nullcontext(),
            epoch_observer(self, settings["epochs"], callbacks, progress, monitor, watched) as on_epoch,
        ):
            saved = _prepare(job, saving, flow)
            record = self._model.fit(
                *((None, None) if job.source else (X, y)),
                on_epoch=_agreed(on_epoch, job.ranks) if job.ranks else on_epoch,
                monitor=flow,
                on_nonfinite=on_nonfinite,
                ranks=job.ranks,
                source=job.source,
                **settings,
                **saved,
            )
    except (ValueError, TypeError, NonFiniteError) as error:
        if job.source:
            job.source.name_row(error)
        raise
    if job.ranks:
        job.ranks.done()
    history = History.of(record, monitor, settings["micro_batch"])
    if isinstance(job.source, ArrayStream) and history.non_finite:
        epochs_before = job.source.first_epoch - (len(saved["resume"]["loss"]) if saved["resume"] else 0)
        history.non_finite = job.source.with_row(history.non_finite, epochs_before + history.non_finite.epoch - 1)
    return history


def _check_options(job: Job, monitor: GradientFlow | None, on_nonfinite: str, comm: Any) -> None:
    """Check the arguments that only `MLP.fit` has, and which of them go together."""
    known_name("on_nonfinite", on_nonfinite, NON_FINITE)
    if not isinstance(monitor, GradientFlow | None):
        raise TypeError(f"monitor is {shown(monitor)}; expected a GradientFlow")
    if job.y is None and hasattr(job.X, "shape"):
        raise TypeError("y is None; expected real numbers, the targets of the rows of X")
    if job.reproducible and comm is None:
        raise ValueError(
            "reproducible is True without comm; expected a communicator (one process alone always gives the "
            "same bits, for any number of threads)"
        )
    if job.reproducible and job.limit is not None:
        raise ValueError(
            "memory_limit is given with reproducible; expected micro_batch instead, the same for any number of ranks"
        )
    if comm is not None and job.y is None:
        raise ValueError("comm is given and X is an iterable; expected arrays, each process with its own rows")


def _prepare(job: Job, saving: Checkpoint, flow: FlowRecord | None) -> CheckpointSettings:
    """Keep to the limit of memory, and read the checkpoint that the fit goes on from."""
    if job.limit is not None:
        keep_within_limit(job, saving.written_by(job), saving.resume)
    saved = saving.prepare(job)
    resumed = saved["resume"]
    if job.ranks:
        job.ranks.agree({"checkpoint": repr(resumed and resumed["epochs_trained"]).encode()})
    if resumed is None:
        return saved
    if (done := len(resumed["loss"])) > job.settings["epochs"]:
        raise ValueError(f"epochs is {job.settings['epochs']}; expected at least the {done} of {saving.path}")
    own = job.settings["micro_batch"]
    if job.limit is not None and micro_batch_within_limit(job, job.leads, resumes=False) != own:
        raise ValueError(
            f"memory_limit is {job.limit:,} bytes; the fit of {saving.path} goes on with micro_batch {own}, for which "
            "that is too little"
        )
    if flow is not None:
        flow.begin(resumed["step"])
    if job.source:
        job.source.first_epoch, job.source.seed = resumed["epochs_trained"], resumed["seed"]
    return saved


def _join(job: Job, on_nonfinite: str, comm: Communicator) -> Ranks:
    mlp, settings = job.mlp, job.settings
    held_out = settings["validation"]
    agreed = {name: value for name, value in {**describe(mlp), **settings}.items() if name not in OF_THE_PROCESS}
    agreed |= {"optimizer.t": settings["optimizer"].t, "validation": held_out is None}
    agreed |= {"on_nonfinite": on_nonfinite, "reproducible": job.reproducible}
    weights = {"sample_weight": settings["sample_weight"]}
    if held_out is not None:
        weights["validation sample_weight"] = held_out[2] if len(held_out) == 3 else None
    return Ranks(comm, mlp.parameters, mlp.seed, n_rows_of(job.X), agreed, job.reproducible, weights, checks_first=True)


def _agreed(on_epoch: Observer | None, ranks: Ranks) -> Observer:
    """Let the fit end on all processes where one wants it to."""
    return lambda *report: ranks.epoch_done(on_epoch is not None and on_epoch(*report))


def _stream(job: Job) -> Stream:
    mlp, settings = job.mlp, job.settings
    if job.y is None and isinstance(job.X, Iterator) and settings["epochs"] > 1:
        raise ValueError(
            f"X is {shown(job.X)}, which gives its blocks once, and epochs is {settings['epochs']}; expected an "
            "iterable that starts anew each time, such as a list or an object whose __iter__ is a generator"
        )
    stream = as_stream(mlp, job.X, job.y, settings["sample_weight"], settings["batch_size"], settings["shuffle"])
    stream.first_epoch, stream.seed = mlp._model.epochs_trained, mlp.seed
    return stream
