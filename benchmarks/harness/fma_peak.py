"""The fused multiply-add peak of the cores in use, measured by a small C++ program."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from harness import machine

SOURCE = Path(__file__).resolve().parent.parent / "fma_peak.cpp"


class FmaPeak:
    """The compiled program; a context manager, since it lives in a temporary folder.

    Raises
    ------
    RuntimeError
        No C++ compiler, or it failed.
    """

    def __init__(self) -> None:
        compiler = next((c for c in (os.environ.get("CXX"), "g++", "clang++") if c and shutil.which(c)), None)
        if compiler is None:
            raise RuntimeError("no C++ compiler (g++, clang++ or $CXX)")
        self._folder = tempfile.TemporaryDirectory()
        self._program = Path(self._folder.name) / "fma_peak"
        command = [compiler, "-std=c++20", "-O3", "-march=native", "-pthread", str(SOURCE), "-o", str(self._program)]
        compiled = subprocess.run(command, capture_output=True, text=True)
        if compiled.returncode:
            self._folder.cleanup()
            raise RuntimeError(f"{compiler} failed: {compiled.stderr.strip()}")

    def __enter__(self) -> FmaPeak:
        return self

    def __exit__(self, *exception: object) -> None:
        self._folder.cleanup()

    def gigaflops(self, threads: int) -> float:
        """Measure the peak of that many threads together, in 10⁹ operations a second."""
        with machine.confined(threads):
            answer = subprocess.run([self._program, str(threads)], capture_output=True, text=True, check=True)
        return float(answer.stdout)
