"""The notebook runs from its first cell to its last, and says what it said when it was written."""

import json

import pytest

RUN = """
import sys, nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
nbformat.write(notebook, sys.argv[2])
"""


def printed(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "".join("".join(output.get("text", "")) for cell in cells for output in cell.get("outputs", ()))


def test_it_runs(root, run_python, tmp_path):
    for package in ("nbclient", "ipykernel", "matplotlib"):
        pytest.importorskip(package, reason=f"{package} is not installed: the notebook is not run")
    notebook, executed = root / "examples" / "backprop_step_by_step.ipynb", tmp_path / "executed.ipynb"
    run_python("-c", RUN, notebook, executed)
    for text in ("W1 (2, 4) b1 (4,)", "17 weights and biases, 34 forward passes", "vanishing", "kB a sample"):
        assert text in printed(executed) and text in printed(notebook)
