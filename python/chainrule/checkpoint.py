"""A fit between two epochs as a file, from which it goes on as if it had never stopped.

The file is one of `MLP.save`, so that `MLP.load` reads the network as it was then, with more tensors and a second entry
of metadata: the optimizer's moments and settings, the history, and what schedule and early stopping remember.
"""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
import numpy.typing as npt

from chainrule import serialization
from chainrule._arguments import boolean, integer, known_name, shown
from chainrule._core import Optimizer
from chainrule._extras import optional_package
from chainrule.digest import digest
from chainrule.non_finite import CURES, NonFinite
from chainrule.serialization import FIT_KEY, Tensors
from chainrule.stream import ArrayStream
from chainrule.training import Job

if TYPE_CHECKING:
    from chainrule._core import FitProgress, RestoredFit
    from chainrule.mlp import MLP

SAMPLES = ("X", "y", "sample_weight", "validation_samples")  # of which the file holds digests
PICKED = ("micro_batch", "block_rows")  # by memory_limit, from what memory there was when the fit began
HISTORY = ("loss", "penalty", "validation_loss", "lr")


class FitDescription(TypedDict):
    """What a checkpoint says of its fit in JSON; all other numbers are tensors."""

    format: int
    arguments: dict[str, Any]
    optimizer: str
    settings: dict[str, Any]
    steps: int
    moments: list[bool]
    step: int
    stopped: bool
    bad_epochs: int
    best_epoch: int
    non_finite: dict[str, Any] | None
    steps_left_out: int


class CheckpointSettings(TypedDict):
    """Arguments of the core's fit."""

    checkpoint: Callable[[FitProgress], None] | None
    checkpoint_every: int
    resume: RestoredFit | None


class Checkpoint:
    """The file of a fit, from the arguments of `MLP.fit` about it; there is none where `path` is None."""

    def __init__(self, path: str | os.PathLike[str] | None, every: int, resume: bool) -> None:
        self.every, self.resume = integer("checkpoint_every", every, 1, 2**63 - 1), boolean("resume", resume)
        if path is None and self.resume:
            raise ValueError("resume is True; expected a checkpoint to go on from")
        if path is not None:
            optional_package("safetensors", "io")
        self.path = None if path is None else serialization.place_of("checkpoint", path)

    def written_by(self, job: Job) -> bool:
        """Whether this process writes the file."""
        return self.path is not None and job.leads

    def prepare(self, job: Job) -> CheckpointSettings:
        """Read the file to go on from, if there is one, and return the arguments of the core's fit.

        One that is limited in memory takes over what the limit made of it.
        """
        path, mlp, optimizer = self.path, job.mlp, job.settings["optimizer"]
        if path is None:
            return {"checkpoint": None, "checkpoint_every": self.every, "resume": None}
        same, restored = arguments(job), None
        if self.resume and os.path.exists(path):
            restored, there = read(mlp, optimizer, same, () if job.limit is None else PICKED, path)
            same |= there
            job.settings["micro_batch"] = same["micro_batch"]
            if isinstance(job.source, ArrayStream):
                job.source.block_rows = same["block_rows"]
        if job.leads:
            remove_leftovers(path)
        return {
            "checkpoint": (lambda progress: write(mlp, optimizer, progress, same, path)) if job.leads else None,
            "checkpoint_every": self.every,
            "resume": restored,
        }


def arguments(job: Job) -> dict[str, Any]:
    """Return what has to be the same in a fit that goes on, in values that JSON knows.

    Samples of several processes, and those that come block by block, have no digests.
    """
    settings, dtype = job.settings, job.mlp.dtype
    weight, validation = settings["sample_weight"], settings["validation"]
    known = job.ranks is None and job.y is not None
    digests = [digest(array, dtype) for array in (job.X, job.y, weight)] if known else [None] * 3
    held_out = [digest(array, dtype) for array in validation or ()] if known else []
    return {
        "samples": job.n_rows,
        "batch_size": settings["batch_size"],
        "shuffle": settings["shuffle"],
        "validation": settings["validation"] is not None,
        "patience": settings["patience"],
        "schedule": repr(settings["schedule"]),
        "clip_norm": settings["clip_norm"],
        "micro_batch": settings["micro_batch"],
        "reproducible": job.reproducible or None,  # files of before have no such entry
        "block_rows": job.source.block_rows if isinstance(job.source, ArrayStream) else None,
        **dict(zip(SAMPLES, (*digests, held_out), strict=True)),
    }


def remove_leftovers(path: str | os.PathLike[str]) -> None:
    """Remove what killed processes left of their files; the name is this fit's alone."""
    folder, name = os.path.split(os.path.realpath(path))
    for leftover in glob.glob(os.path.join(glob.escape(folder), f".{glob.escape(name)}.{'[0-9a-f]' * 8}.tmp")):
        os.unlink(leftover)


def write(
    mlp: MLP, optimizer: Optimizer, progress: FitProgress, arguments: dict[str, Any], path: str | os.PathLike[str]
) -> None:
    """Replace the checkpoint, whole or not at all."""
    settings, state = optimizer.__getstate__()
    _, steps, _, moments = state
    description: FitDescription = {
        "format": serialization.FORMAT_VERSION,
        "arguments": arguments,
        "optimizer": type(optimizer).__name__,
        "settings": settings,
        "steps": steps,
        "moments": [moment is not None for moment in moments],
        "step": progress["step"],
        "stopped": progress["stopped"],
        "bad_epochs": progress["bad_epochs"],
        "best_epoch": progress["best_epoch"],
        "non_finite": written_non_finite(progress["non_finite"]),
        "steps_left_out": progress["steps_left_out"],
    }
    tensors: dict[str, npt.NDArray[Any]] = {f"fit.{name}": np.array(progress[name], np.float64) for name in HISTORY}  # type: ignore[literal-required]
    tensors["fit.rate"] = np.array([*progress["rate"], progress["best_loss"]])
    tensors["fit.best"] = progress["best_parameters"]
    tensors |= {f"fit.moment_{i}": moment for i, moment in enumerate(moments) if moment is not None}
    serialization.save(mlp, path, tensors, {FIT_KEY: json.dumps(description)})


def read(
    mlp: MLP, optimizer: Optimizer, given: dict[str, Any], taken_over: tuple[str, ...], path: str | os.PathLike[str]
) -> tuple[RestoredFit, dict[str, Any]]:
    """Read a checkpoint of a fit with that network, optimizer and arguments, some of which are taken from it."""
    with serialization.opened(path) as file:
        if file.fit is None:
            raise ValueError(f"{file.path} is a saved network; expected a checkpoint of a fit")
        here = serialization.describe(mlp)
        for name in ("layer_sizes", "hidden_activation", "output_activation", "loss", "dtype", "dropout"):
            there, mine = json.dumps(file.description[name]), json.dumps(here[name])
            if there != mine:
                raise ValueError(f"{file.path} is a checkpoint of a network with {name} {there}; this one has {mine}")
        fit = read_fit_description(file.fit, file.path)
        if fit["optimizer"] != type(optimizer).__name__:
            raise ValueError(f"{file.path} was written with {fit['optimizer']}; optimizer is {shown(optimizer)}")
        for name, value in given.items():
            was = fit["arguments"].get(name)
            in_blocks = name == "block_rows" and (was is None) != (value is None)
            if was == value or (name in taken_over and not in_blocks):
                continue
            if name in SAMPLES:
                if given["X"] is None or fit["arguments"].get("X") is None:
                    continue  # several processes have or had a share each
                if "" in (value if isinstance(value, list) else [value]):
                    continue  # the fit says what is wrong with them
                what = "validation samples" if name == "validation_samples" else name
                raise ValueError(f"{file.path} was written with other {what}; expected the same numbers")
            raise ValueError(f"{file.path} was written with {name} {was}; it is {value} now")
        restored = restored_fit(file, fit, type(optimizer), mlp.n_parameters)
        return restored, read_picked(fit["arguments"], taken_over, file.path)


def read_picked(arguments: dict[str, Any], names: tuple[str, ...], path: str) -> dict[str, int | None]:
    """Read the numbers that a fit takes over."""
    try:
        given = {name: arguments.get(name) for name in names}
        return {name: None if n is None else integer(name, n, 1, 2**63 - 1) for name, n in given.items()}
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: bad header: {error}") from error


def read_fit_description(header: dict[str, Any], path: str) -> FitDescription:
    """Read the second entry of the metadata, with every field of the type it should have."""
    try:
        return {
            "format": header["format"],
            "arguments": dict(header["arguments"]),
            "optimizer": str(header["optimizer"]),
            "settings": dict(header["settings"]),
            "steps": integer("steps", header["steps"], 0, 2**63 - 1),
            "moments": [boolean("moments", there) for there in header["moments"]],
            "step": integer("step", header["step"], 0, 2**63 - 1),
            "stopped": boolean("stopped", header["stopped"]),
            "bad_epochs": integer("bad_epochs", header["bad_epochs"], 0, 2**63 - 1),
            "best_epoch": integer("best_epoch", header["best_epoch"], 0, 2**63 - 1),
            "non_finite": read_non_finite(header["non_finite"]),
            "steps_left_out": integer("steps_left_out", header["steps_left_out"], 0, 2**63 - 1),
        }
    except KeyError as error:
        raise ValueError(f"{path}: its header has no {error.args[0]!r}") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{path}: bad header: {error}") from error


def written_non_finite(where: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the fields of `NonFinite` with its numbers, which JSON does not know, as text."""
    return None if where is None else {**where, "value": repr(where["value"]), "loss": repr(where["loss"])}


def read_non_finite(given: dict[str, Any] | None) -> dict[str, Any] | None:
    """Read what `written_non_finite` gave."""
    if given is None:
        return None
    where = NonFinite(**{**given, "value": float(given["value"]), "loss": float(given["loss"])})
    known_name("cause", where.cause, tuple(CURES))
    for name in ("layer", "row", "column", "epoch", "batch", "step"):
        integer(name, getattr(where, name), 0, 2**63 - 1)
    return {**asdict(where), "tensor": str(where.tensor)}


def restored_fit(file: Tensors, fit: FitDescription, kind: type[Optimizer], n_parameters: int) -> RestoredFit:
    """Read the tensors, checking all of them, into what the core's fit takes."""
    dtype = file.description["dtype"]
    epochs = file.length("fit.loss")
    moments = [
        file.tensor(f"fit.moment_{i}", [n_parameters], dtype) if there else None
        for i, there in enumerate(fit["moments"])
    ]
    if any(moment is not None and np.isnan(moment).any() for moment in moments):
        raise ValueError(f"{file.path}: a moment of the optimizer holds NaN")
    made: Any = kind.__new__(kind)
    settings = {key: tuple(value) if isinstance(value, list) else value for key, value in fit["settings"].items()}
    try:
        made.__setstate__((settings, (dtype, fit["steps"], n_parameters, moments)))
    except (TypeError, ValueError, IndexError, RuntimeError) as error:
        raise ValueError(f"{file.path}: bad optimizer: {error}") from error
    best = file.tensor("fit.best", [n_parameters if fit["best_epoch"] else 0], dtype)
    serialization.check_finite("fit.best", best)
    rate: npt.NDArray[np.float64] = file.tensor("fit.rate", [4], "float64")
    validated = epochs if fit["arguments"].get("validation") else 0
    lengths = {"loss": epochs, "penalty": epochs, "validation_loss": validated, "lr": epochs}
    history = {name: file.tensor(f"fit.{name}", [length], "float64").tolist() for name, length in lengths.items()}
    if np.isnan(rate).any() or not 0 < epochs <= file.description["epochs_trained"] or fit["best_epoch"] > epochs:
        raise ValueError(f"{file.path}: its learning rate or its count of epochs cannot be")
    parameters = [file.tensor(name, shape, dtype).ravel() for name, shape in file.network_shapes().items()]
    for name, values in zip(file.network_shapes(), parameters, strict=True):
        serialization.check_finite(name, values)
    return {
        "loss": history["loss"],
        "penalty": history["penalty"],
        "validation_loss": history["validation_loss"],
        "lr": history["lr"],
        "step": fit["step"],
        "stopped": fit["stopped"],
        "rate": (float(rate[0]), float(rate[1]), float(rate[2])),
        "bad_epochs": fit["bad_epochs"],
        "best_epoch": fit["best_epoch"],
        "best_loss": float(rate[3]),
        "best_parameters": best,
        "non_finite": fit["non_finite"],
        "steps_left_out": fit["steps_left_out"],
        "parameters": np.concatenate(parameters),
        "optimizer": made,
        "seed": file.description["seed"],
        "epochs_trained": file.description["epochs_trained"],
    }
