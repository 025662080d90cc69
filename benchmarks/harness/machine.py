"""The cores that a measurement may use, and what to say about the computer."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

# A load above this, before anything is measured, is somebody else's.
BUSY = 0.5


def available_cores() -> list[int]:
    """The cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def check_threads(threads: int) -> None:
    """Refuse more threads than cores: they would measure the scheduler."""
    cores = len(available_cores())
    if not 1 <= threads <= cores:
        raise ValueError(f"{threads} threads asked for; this process may use {cores} cores")


@contextlib.contextmanager
def confined(threads: int) -> Iterator[None]:
    """Let this process, and what it starts meanwhile, use as many cores as threads (where the system can do that)."""
    cores = available_cores()
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    os.sched_setaffinity(0, cores[:threads])
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def environment(threads: int) -> dict[str, str]:
    """Environment variables under which every peer starts that many threads."""
    variables = dict(os.environ)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        variables[name] = str(threads)
    variables["JAX_PLATFORMS"] = "cpu"
    if threads == 1:
        variables["XLA_FLAGS"] = f"{variables.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false".strip()
    return variables


def cpu_model() -> str:
    """The processor's name, as far as the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def load() -> float | None:
    """How many processes have wanted to run in the last minute, where the system tells."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def warn_if_busy() -> None:
    """Say so if something else is running: peers that wait at barriers for a thread suffer most from it."""
    busy = load()
    if busy is not None and busy > BUSY:
        print(f"warning: the load of this computer is {busy:.1f}; the ratios will not hold", file=sys.stderr)


def description() -> dict[str, str | int | float | None]:
    """What a reader of the results needs to know about this computer."""
    return {
        "cpu": cpu_model(),
        "cores": len(available_cores()),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load": load(),
    }


def peak_memory() -> int:
    """The most memory that this process has had resident, in bytes."""
    # ru_maxrss would count the process that started this one too: Linux keeps it across exec.
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024
