"""Fixtures and settings of the whole suite."""

import importlib.metadata
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from nets import smooth_data

settings.register_profile(
    "chainrule",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("chainrule")


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="run the long sweeps too")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--long"):
        for item in items:
            if "long" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="a long sweep: run with --long"))


@pytest.fixture(scope="session")
def torch_reference():
    """The same nets in PyTorch; tests that ask for it skip where torch is missing."""
    pytest.importorskip("torch", reason="PyTorch is not installed: parity with it is not checked")
    import torch_reference

    return torch_reference


@pytest.fixture(scope="session")
def root():
    """The folder that holds examples/ and README.md."""
    return pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def distribution():
    """The installed package's metadata; a skip where the package is only on the path."""
    try:
        return importlib.metadata.distribution("chainrule")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("chainrule is on the path but not installed: what an installation adds is not checked")


@pytest.fixture
def axes():
    """Axes of a figure that no window shows."""
    matplotlib = pytest.importorskip("matplotlib", reason="matplotlib is not installed: plots are not checked")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots()
    yield axes
    pyplot.close(figure)


@pytest.fixture
def run_python(tmp_path):
    """run_python(*arguments, **environment): a Python process of its own, outside the source tree."""

    def run(*arguments, timeout=120, check=True, **environment):
        process = subprocess.run(
            [sys.executable, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=timeout,
            cwd=tmp_path,
            env={**os.environ, **environment},
            check=False,
        )
        assert not check or process.returncode == 0, process.stdout + process.stderr
        return process

    return run


@pytest.fixture
def maps(tmp_path):
    """X and y as memory maps of files, and in memory."""

    def make(n, dtype="float64"):
        X, y = (array.astype(dtype) for array in smooth_data(n))
        for name, array in (("X", X), ("y", y)):
            np.save(tmp_path / f"{name}.npy", array)
        return *(np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in "Xy"), X, y

    return make


@pytest.fixture
def run_measured(run_python):
    """run_measured(code): the words that the code prints in a process of its own, where it finds `resident` and `peak`,
    the memory that the process has and the most that it had, in bytes."""
    if not pathlib.Path("/proc/self/status").exists():
        pytest.skip("there is no /proc: the peak of memory is not checked")
    measures = r"""
import re
import numpy as np, chainrule as cr
from chainrule.memory import resident

def peak():  # ru_maxrss may be the parent's
    return int(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1]) * 1024

cr.set_num_threads(1)
"""
    return lambda code: run_python("-W", "ignore", "-c", measures + code).stdout.split()
