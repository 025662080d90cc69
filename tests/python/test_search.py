"""The search on worker processes: it runs, and each worker uses one thread."""

import pytest


@pytest.mark.parametrize("backend", ["loky", *(pytest.param(each, marks=pytest.mark.long) for each in ("dask", "ray"))])
def test_search_example(backend, root, run_python):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed: the search example is not run")
    package = {"loky": "joblib", "dask": "distributed", "ray": "ray"}[backend]
    pytest.importorskip(package, reason=f"{package} is not installed: the search on {backend} is not run")
    output = run_python(root / "examples" / "search.py", "--backend", backend).stdout
    assert f"{backend}: threads of the workers [1]" in output
    assert float(output.split()[-1]) > 0.85
