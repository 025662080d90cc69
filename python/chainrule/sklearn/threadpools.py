"""What threadpoolctl, which scikit-learn and joblib limit threads with, has to know about chainrule."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

import threadpoolctl

from chainrule import _core
from chainrule.threads import get_num_threads, set_num_threads


class _ThreadPool(threadpoolctl.LibController):  # type: ignore[misc]  # it has no stubs
    """The threads that all networks of this process share."""

    user_api = "chainrule"
    internal_api = "chainrule"
    filename_prefixes = (Path(_core.__file__).name,)
    check_symbols = ("chainrule_num_threads",)  # other packages have a _core too

    def get_num_threads(self) -> int:
        return get_num_threads()

    def set_num_threads(self, num_threads: int) -> None:
        set_num_threads(num_threads)

    def get_version(self) -> str:
        return str(_core.config()["version"])


def register() -> None:
    """Let ``threadpoolctl.threadpool_limits`` hold for chainrule, and ``threadpool_info`` list it."""
    threadpoolctl.register(_ThreadPool)


@cache
def _libraries() -> Any:
    """Those that are loaded; to look for them takes milliseconds."""
    return threadpoolctl.ThreadpoolController()


class _OneBlasThread:
    """NumPy's and SciPy's own vector arithmetic on one thread, for as long as anyone is inside.

    A BLAS thread that has nothing more to do spins for a while, on a processor that a network's threads need.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._inside = 0
        self._limits: Any = None

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._limits = _libraries().limit(limits=1, user_api="blas")
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._limits.restore_original_limits()


one_blas_thread = _OneBlasThread()
