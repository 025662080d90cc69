"""Arguments as the core wants them, and errors that say which argument it was, what came and what was expected."""

import difflib
import math
import numbers
import operator
import os
import reprlib
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

T = TypeVar("T")


def shown(value: object) -> str:
    """Return a value and its type, short enough for an error message."""
    try:
        text = reprlib.repr(value)
    except ValueError:  # an integer of more digits than Python writes
        text = "a huge number"
    return f"{text} ({type(value).__name__})"


def file_path(argument: str, given: object) -> str:
    """Return the path of a file or folder as text."""
    if not isinstance(given, (str, os.PathLike)):
        raise TypeError(f"{argument} is {shown(given)}; expected a str or path-like")
    path = os.fsdecode(given)
    if not path:
        raise ValueError(f"{argument} is empty; expected a path")
    if "\0" in path:
        raise ValueError(f"{argument} is {shown(given)}; expected a path without null characters")
    return path


def array(argument: str, given: npt.ArrayLike) -> npt.NDArray[Any]:
    """Return what NumPy makes of it, of a subclass too."""
    try:
        return np.asanyarray(given)
    except ValueError as error:
        raise ValueError(f"{argument} is not rectangular: {error}") from None


def known_name(argument: str, given: object, known: Sequence[str]) -> str:
    """Return `given` if it is one of the `known` names; else raise a ValueError that suggests the nearest one."""
    if not isinstance(given, str):
        raise TypeError(f"{argument} is {shown(given)}; expected a name ({', '.join(known)})")
    if given in known:
        return given
    nearest = difflib.get_close_matches(given.lower().replace("-", "_").replace(" ", "_"), known, n=1)
    suggestion = f"; did you mean {nearest[0]!r}?" if nearest else "."
    raise ValueError(f"{argument}: unknown name {given!r}{suggestion} Known: {', '.join(known)}")


def named_or_object(
    argument: str, given: object, kind: type[T], known: Sequence[str], make: Callable[[str], T], example: str
) -> T:
    """Return an object of that kind from itself or from its name."""
    if isinstance(given, str):
        return make(known_name(argument, given, known))
    if not isinstance(given, kind):
        raise TypeError(f"{argument} is {shown(given)}; expected a name ({', '.join(known)}) or {example}")
    return given


def integer(argument: str, given: object, minimum: int, maximum: int | None = None) -> int:
    """Return an integer of any integer type, NumPy's too, but not a bool."""
    if isinstance(given, (bool, np.bool_)):
        raise TypeError(f"{argument} is {shown(given)}; expected an integer")
    try:
        number = operator.index(given)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{argument} is {shown(given)}; expected an integer") from None
    if number < minimum:
        raise ValueError(f"{argument} is {shown(number)}; expected an integer >= {minimum}")
    if maximum is not None and number > maximum:
        raise ValueError(f"{argument} is {shown(number)}; expected an integer <= {maximum}")
    return number


def real(argument: str, given: object) -> float:
    """Return a finite number as a float."""
    if isinstance(given, bool) or not isinstance(given, numbers.Real):
        raise TypeError(f"{argument} is {shown(given)}; expected a number")
    try:
        number = float(given)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{argument} is {number}; expected a finite number")
    return number


def positive(argument: str, given: object) -> float:
    """Return a finite number above zero as a float."""
    number = real(argument, given)
    if number <= 0:
        raise ValueError(f"{argument} is {number}; expected a number > 0")
    return number


def boolean(argument: str, given: object) -> bool:
    """Return True or False, from NumPy's too."""
    if not isinstance(given, (bool, np.bool_)):
        raise TypeError(f"{argument} is {shown(given)}; expected True or False")
    return bool(given)


def n_rows_of(array: Any) -> int:
    """Return the number of rows; 0 for what has none, which the core refuses."""
    try:
        return int(array.shape[0] if hasattr(array, "shape") else len(array))
    except (TypeError, IndexError):
        return 0
