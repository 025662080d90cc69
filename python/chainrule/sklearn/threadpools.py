"""How scikit-learn's own threads keep out of the way."""

from __future__ import annotations

from functools import cache
from threading import Lock
from typing import Any

import threadpoolctl


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
