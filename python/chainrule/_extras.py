"""Packages that only some functions need: imported when used."""

import importlib
import sys
from typing import Any


def optional_package(name: str, extra: str) -> Any:
    """Import the module, or raise an ImportError that says which extra of chainrule brings it."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        package = name.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != package:
            raise
        name_there = {"sklearn": "scikit-learn"}.get(package, package)
        message = f"this needs the package {name_there!r}; install it with: pip install 'chainrule[{extra}]'"
        raise ImportError(message, name=error.name) from error


def progress_bar(epochs: int) -> Any:
    """Return a bar of tqdm's over epochs, a context manager with ``update(n)``, for terminals and notebooks."""
    from tqdm.auto import tqdm

    return tqdm(total=epochs, unit="epoch", disable=sys.stderr is None)  # as in programs without a console
