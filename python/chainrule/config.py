"""What this installation is and runs on."""

from __future__ import annotations

from typing import Literal

from chainrule import _core
from chainrule._arguments import known_name
from chainrule._types import Config


def show_config(mode: Literal["stdout", "dicts"] = "stdout") -> Config | None:
    """Print the version, compiler, instruction set and number of threads, for bug reports and benchmarks.

    Parameters
    ----------
    mode : {"stdout", "dicts"}, default "stdout"
        "stdout" prints and returns None; "dicts" returns a dictionary and prints nothing.

    Returns
    -------
    dict or None
        With ``version``, ``compiler``, ``instruction_set`` (in use), ``instruction_sets`` (that this processor could
        use) and ``threads``.

    Raises
    ------
    ValueError, TypeError
        For another mode.
    """
    config = _core.config()
    if known_name("mode", mode, ("stdout", "dicts")) == "dicts":
        return config
    width = max(map(len, config))
    for name, value in config.items():
        print(f"{name:{width}}  {', '.join(map(str, value)) if isinstance(value, (list, tuple)) else value}")
    return None
