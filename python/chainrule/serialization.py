"""Networks as files: safetensors for the numbers, JSON in its header for the architecture. Loading runs no code."""

from __future__ import annotations

import errno
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

import numpy as np
import numpy.typing as npt

from chainrule import _core
from chainrule._arguments import file_path, integer, shown
from chainrule._core import Activation, Init, Loss
from chainrule._extras import optional_package
from chainrule._names import parameter_names

if TYPE_CHECKING:
    from chainrule.mlp import MLP

    M = TypeVar("M", bound=MLP)

METADATA_KEY = "chainrule"
FIT_KEY = "chainrule.fit"
FORMAT_VERSION = 1
PICKLE_VERSION = 1  # of the states of networks, optimizers and estimators
SAFETENSORS_DTYPES = {"float32": "F32", "float64": "F64"}


class Description(TypedDict):
    """The arguments that make an `MLP`, and how far it was trained, in values that JSON knows."""

    layer_sizes: list[int]
    hidden_activation: list[tuple[str, float | None]]
    output_activation: tuple[str, float | None]
    loss: tuple[str, list[float]]
    init: tuple[str, float | None] | None
    dtype: str
    seed: int
    dropout: list[float]
    epochs_trained: int


def describe(mlp: MLP) -> Description:
    """Describe a network; its parameters are not part of it."""
    hidden, output, init = mlp.hidden_activations, mlp.output_activation, mlp.init
    return {
        "layer_sizes": list(mlp.layer_sizes),
        "hidden_activation": [(activation.name, activation.parameter) for activation in hidden],
        "output_activation": (output.name, output.parameter),
        "loss": (mlp.loss.name, list(mlp.loss.parameters)),
        "init": None if init is None else (init.name, init.parameter),
        "dtype": mlp.dtype.name,
        "seed": mlp.seed,
        "dropout": list(mlp.dropout),
        "epochs_trained": mlp._model.epochs_trained,
    }


def arguments(description: Description) -> dict[str, Any]:
    """Return the arguments of `MLP` that a description stands for."""
    init = description["init"]
    return {
        "layer_sizes": description["layer_sizes"],
        "hidden_activation": [Activation(*entry) for entry in description["hidden_activation"]],
        "output_activation": Activation(*description["output_activation"]),
        "loss": Loss(*description["loss"]),
        "init": None if init is None else Init(*init),
        "dtype": description["dtype"],
        "seed": description["seed"],
        "dropout": description["dropout"],
    }


def save(
    mlp: MLP,
    path: str | os.PathLike[str],
    more_tensors: Mapping[str, npt.NDArray[Any]] | None = None,
    more_metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a network to a file, whole or not at all."""
    optional_package("safetensors", "io")  # without which nobody here could read the file
    header = {"format": FORMAT_VERSION, "version": _core.config()["version"], **describe(mlp)}
    tensors = {name: np.ascontiguousarray(parameter) for name, parameter in mlp.named_parameters()}
    for name, values in tensors.items():
        check_finite(name, values)
    metadata = {METADATA_KEY: json.dumps(header), **(more_metadata or {})}
    write_atomically(path, *safetensors_file({**tensors, **(more_tensors or {})}, metadata))


def safetensors_file(tensors: dict[str, npt.NDArray[Any]], metadata: dict[str, str]) -> list[bytes | memoryview]:
    """Return the parts of a file, the arrays themselves among them: safetensors.numpy.save would copy all twice."""
    header: dict[str, Any] = {"__metadata__": metadata}
    aligned = sorted(tensors.items(), key=lambda item: -item[1].itemsize)
    end = 0
    for name, tensor in aligned:
        begin, end = end, end + tensor.nbytes
        dtype = SAFETENSORS_DTYPES[tensor.dtype.name]
        header[name] = {"dtype": dtype, "shape": tensor.shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return [len(text).to_bytes(8, "little"), text, *(tensor.data for _, tensor in aligned)]


def load(cls: type[M], path: str | os.PathLike[str]) -> M:
    """Read a network from a file that `save` wrote, checking all of it before anything is built."""
    with opened(path) as file:
        dtype = file.description["dtype"]
        tensors = {name: file.tensor(name, shape, dtype) for name, shape in file.network_shapes().items()}
        for name, values in tensors.items():
            check_finite(f"{file.path}: {name}", values)
        mlp = build(cls, file.description, file.path)
    for name, parameter in mlp.named_parameters():
        parameter[...] = tensors[name]
    mlp._model.epochs_trained = file.description["epochs_trained"]
    return mlp


@dataclass
class Tensors:
    """An open file: its tensors, what its header says of the network, and of a fit that goes on."""

    file: Any
    path: str
    description: Description
    fit: dict[str, Any] | None
    names: set[str]

    def network_shapes(self) -> dict[str, list[int]]:
        """Return the names and shapes of the network's parameters, in the order of θ."""
        sizes = self.description["layer_sizes"]
        shapes = [shape for d_in, d_out in pairwise(sizes) for shape in ([d_in, d_out], [d_out])]
        return dict(zip(parameter_names(len(sizes) - 1), shapes, strict=True))

    def length(self, name: str) -> int:
        """Return how long a vector is; 0 for what is none."""
        shape = self.file.get_slice(name).get_shape() if name in self.names else []
        return int(shape[0]) if len(shape) == 1 else 0

    def tensor(self, name: str, shape: list[int], dtype: str) -> npt.NDArray[Any]:
        """Read a tensor whose shape and dtype are as they should be."""
        if name not in self.names:
            raise ValueError(f"{self.path} lacks {name}, which its header asks for")
        there = self.file.get_slice(name)
        if list(there.get_shape()) != shape:
            raise ValueError(f"{self.path}: {name} has shape {tuple(there.get_shape())}; expected {tuple(shape)}")
        if there.get_dtype() != SAFETENSORS_DTYPES[dtype]:
            raise ValueError(f"{self.path}: {name} holds {there.get_dtype()}; expected {SAFETENSORS_DTYPES[dtype]}")
        values: npt.NDArray[Any] = self.file.get_tensor(name)
        return values


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[Tensors]:
    """Open a file that `save` wrote, with a header that is as it should be and no unknown tensor."""
    safetensors = optional_package("safetensors", "io")
    path = file_path("path", path)
    if os.path.isdir(path):
        raise IsADirectoryError(f"{path} is a folder; expected a file that MLP.save wrote")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            description = read_description(read_json(metadata, METADATA_KEY, path), path)
            fit = read_json(metadata, FIT_KEY, path) if FIT_KEY in metadata else None
            tensors = Tensors(file, path, description, fit, set(file.keys()))
            known = tensors.network_shapes().keys()
            surplus = sorted(n for n in tensors.names if n not in known and not (fit and n.startswith("fit.")))
            if surplus:
                raise ValueError(f"{path} has {', '.join(surplus)}, which its header does not ask for")
            yield tensors
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file: {error}") from error


def read_json(metadata: Mapping[str, str], key: str, path: str) -> dict[str, Any]:
    """Read an entry of a file's metadata."""
    text = metadata.get(key)
    if text is None:
        raise ValueError(f"{path} has no {key!r} in its header; expected a file that MLP.save wrote")
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: its header is not JSON: {error}") from error
    if not isinstance(header, dict):
        raise ValueError(f"{path}: its header is {shown(header)}; expected an object")
    check_format(path, header.get("format"), FORMAT_VERSION)
    return header


def check_format(name: str, found: object, expected: int) -> None:
    """Check that this version of the library knows a format."""
    if found != expected:
        raise ValueError(f"{name} is of format {shown(found)}; version {_core.config()['version']} reads {expected}")


def read_description(header: dict[str, Any], path: str) -> Description:
    """Read the description of the network, with every field of the type it should have."""
    try:
        description: Description = {
            "layer_sizes": [integer("layer_sizes", size, 1) for size in _list(header["layer_sizes"])],
            "hidden_activation": [_named(entry) for entry in _list(header["hidden_activation"])],
            "output_activation": _named(header["output_activation"]),
            "loss": _loss(header["loss"]),
            "init": None if header["init"] is None else _named(header["init"]),
            "dtype": str(header["dtype"]),
            "seed": integer("seed", header["seed"], 0, 2**64 - 1),
            "dropout": [float(share) for share in _list(header["dropout"])],
            "epochs_trained": integer("epochs_trained", header["epochs_trained"], 0, 2**63 - 1),
        }
        arguments(description)
    except KeyError as error:
        raise ValueError(f"{path}: its header has no {error.args[0]!r}") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{path}: bad header: {error}") from error
    if description["dtype"] not in SAFETENSORS_DTYPES:
        raise ValueError(f"{path}: dtype is {description['dtype']!r}; expected float32 or float64")
    if len(description["layer_sizes"]) < 2:
        raise ValueError(f"{path}: layer_sizes is {description['layer_sizes']}; expected at least two")
    return description


def build(cls: type[M], description: Description, path: str) -> M:
    """Make the network, which checks what in the description does not go together."""
    try:
        return cls(**arguments(description))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: bad header: {error}") from error


def check_finite(name: str, values: npt.NDArray[Any]) -> None:
    """Check that a tensor holds no NaN and no infinity."""
    if not np.isfinite(values).all():
        raise ValueError(f"{name} holds NaN or infinity")


def place_of(argument: str, path: str | os.PathLike[str]) -> str:
    """Return where a file is to be written, if one can be there."""
    path = os.path.realpath(file_path(argument, path))
    if os.path.isdir(path):
        raise IsADirectoryError(errno.EISDIR, f"{argument} is a folder; expected a file", path)
    if not os.path.isdir(os.path.dirname(path)):
        raise FileNotFoundError(errno.ENOENT, f"{argument} is in a folder that is not there", path)
    return path


def write_atomically(path: str | os.PathLike[str], *parts: bytes | memoryview) -> None:
    """Replace the file, so that at any time, and after a crash, it is the old one or the new one."""
    path = place_of("path", path)
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name}.{secrets.token_hex(4)}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    try:
        with os.fdopen(os.open(temporary, flags, 0o666), "wb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        if os.path.exists(temporary):
            os.unlink(temporary)
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, path) from error
        raise
    with suppress(OSError):  # not all file systems write a folder's entries on request
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"{shown(value)} is not a list")
    return value


def _named(value: object) -> tuple[str, float | None]:
    if isinstance(value, list) and len(value) == 2:
        name, parameter = value
        if isinstance(name, str) and (parameter is None or isinstance(parameter, (float, int))):
            return name, None if parameter is None else float(parameter)
    raise TypeError(f"{shown(value)} is not a name with its parameter")


def _loss(value: object) -> tuple[str, list[float]]:
    if isinstance(value, list) and len(value) == 2:
        name, parameters = value
        if isinstance(name, str) and all(isinstance(parameter, (float, int)) for parameter in _list(parameters)):
            return name, [float(parameter) for parameter in parameters]
    raise TypeError(f"{shown(value)} is not a name with its parameters")
