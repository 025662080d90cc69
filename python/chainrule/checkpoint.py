"""A fit between two epochs as a file, from which it goes on as if it had never stopped.

The file is one of `MLP.save`, so that `MLP.load` reads the network as it was then, with more tensors and a second entry
of metadata: the optimizer's moments and settings, the history, and what schedule and early stopping remember.
"""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
import numpy.typing as npt

from chainrule import serialization
from chainrule._arguments import boolean, integer, shown
from chainrule._core import SGD, Adam, AdamW, Optimizer, RMSprop
from chainrule._extras import optional_package
from chainrule.serialization import FIT_KEY, Tensors
from chainrule.training import FitSettings

if TYPE_CHECKING:
    from chainrule._core import FitProgress, RestoredFit
    from chainrule.mlp import MLP

HISTORY = ("loss", "penalty", "validation_loss", "lr")
OPTIMIZERS = {kind.__name__: kind for kind in (SGD, RMSprop, Adam, AdamW)}


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


class CheckpointSettings(TypedDict):
    """Arguments of the core's fit."""

    checkpoint: Callable[[FitProgress], None] | None
    checkpoint_every: int
    resume: RestoredFit | None


def checkpoints(
    mlp: MLP,
    n_rows: int,
    settings: FitSettings,
    path: str | os.PathLike[str] | None,
    every: int,
    resume: bool,
    writes: bool = True,
) -> CheckpointSettings:
    """Check the arguments of `MLP.fit` that are about checkpoints; read the one to go on from."""
    every, resume = integer("checkpoint_every", every, 1, 2**63 - 1), boolean("resume", resume)
    if path is None:
        if resume:
            raise ValueError("resume is True; expected a checkpoint to go on from")
        return {"checkpoint": None, "checkpoint_every": every, "resume": None}
    optional_package("safetensors", "io")
    optimizer, same = settings["optimizer"], arguments(n_rows, settings)
    if writes:
        remove_leftovers(path)
    return {
        "checkpoint": (lambda progress: write(mlp, optimizer, progress, same, path)) if writes else None,
        "checkpoint_every": every,
        "resume": read(mlp, optimizer, same, path) if resume and os.path.exists(path) else None,
    }


def arguments(n_rows: int, settings: FitSettings) -> dict[str, Any]:
    """Return what has to be the same in a fit that goes on, in values that JSON knows."""
    return {
        "samples": n_rows,
        "batch_size": settings["batch_size"],
        "shuffle": settings["shuffle"],
        "validation": settings["validation"] is not None,
        "patience": settings["patience"],
        "schedule": repr(settings["schedule"]),
        "clip_norm": settings["clip_norm"],
    }


def remove_leftovers(path: str | os.PathLike[str]) -> None:
    """Remove what killed processes left of their files; the name is this fit's alone."""
    folder, name = os.path.split(os.path.realpath(path))
    for leftover in glob.glob(os.path.join(glob.escape(folder), f".{glob.escape(name)}.*.tmp")):
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
    }
    tensors: dict[str, npt.NDArray[Any]] = {f"fit.{name}": np.array(progress[name], np.float64) for name in HISTORY}  # type: ignore[literal-required]
    tensors["fit.rate"] = np.array([*progress["rate"], progress["best_loss"]])
    tensors["fit.best"] = progress["best_parameters"]
    tensors |= {f"fit.moment_{i}": moment for i, moment in enumerate(moments) if moment is not None}
    serialization.save(mlp, path, tensors, {FIT_KEY: json.dumps(description)})


def read(mlp: MLP, optimizer: Optimizer, given: dict[str, Any], path: str | os.PathLike[str]) -> RestoredFit:
    """Read a checkpoint of a fit with that network, optimizer and arguments."""
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
            if fit["arguments"].get(name) != value:
                raise ValueError(f"{file.path} was written with {name} {fit['arguments'].get(name)}; it is {value} now")
        return restored_fit(file, fit, mlp.n_parameters)


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
        }
    except KeyError as error:
        raise ValueError(f"{path}: its header has no {error.args[0]!r}") from None
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: bad header: {error}") from error


def restored_fit(file: Tensors, fit: FitDescription, n_parameters: int) -> RestoredFit:
    """Read the tensors, checking all of them, into what the core's fit takes."""
    dtype = file.description["dtype"]
    epochs = file.length("fit.loss")
    optimizer = OPTIMIZERS[fit["optimizer"]]
    moments = [
        file.tensor(f"fit.moment_{i}", [n_parameters], dtype) if there else None
        for i, there in enumerate(fit["moments"])
    ]
    if any(moment is not None and np.isnan(moment).any() for moment in moments):
        raise ValueError(f"{file.path}: a moment of the optimizer holds NaN")
    made: Any = optimizer.__new__(optimizer)
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
        "parameters": np.concatenate(parameters),
        "optimizer": made,
        "seed": file.description["seed"],
        "epochs_trained": file.description["epochs_trained"],
    }
