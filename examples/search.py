"""Search for hyper-parameters with scikit-learn on two workers: joblib's loky, Dask or Ray.

    python examples/search.py [--backend loky|dask|ray]

Every worker is told to use one thread, so that two of them take two cores and not four. Dask and Ray need the package
dask[distributed] or ray.
"""

import argparse
import contextlib
import os
import time

import joblib
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV

import chainrule
from chainrule.sklearn import MLPClassifier


@contextlib.contextmanager
def workers(backend):
    """Two worker processes of that backend, each with one thread."""
    os.environ["OMP_NUM_THREADS"] = "1"  # inherited by the workers
    if backend == "loky":
        with joblib.parallel_config("loky", n_jobs=2, inner_max_num_threads=1):
            yield
    elif backend == "dask":
        from distributed import Client, LocalCluster

        local = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
        with local as cluster, Client(cluster), joblib.parallel_config("dask", n_jobs=2):
            yield
    else:
        import ray
        from ray.util.joblib import register_ray

        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
        register_ray()
        with joblib.parallel_config("ray", n_jobs=2):
            yield
        ray.shutdown()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", choices=["loky", "dask", "ray"], default="loky")
    backend = parser.parse_args().backend
    X, y = load_digits(return_X_y=True)
    grid = {"hidden_layer_sizes": [(32,), (64,)], "learning_rate_init": [0.001, 0.01]}
    search = GridSearchCV(MLPClassifier(max_iter=30, early_stopping=True, random_state=0), grid, cv=3)
    with workers(backend):
        threads = joblib.Parallel()(joblib.delayed(chainrule.get_num_threads)() for _ in range(4))
        start = time.perf_counter()
        search.fit(X / 16, y)
    print(f"{backend}: threads of the workers {sorted(set(threads))}")
    print(f"{backend}: 12 fits in {time.perf_counter() - start:.1f} s")
    print(f"best {search.best_params_}, accuracy {search.best_score_:.3f}")
