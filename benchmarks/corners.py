"""Corners where a fit might be slower than scikit-learn's: tiny, huge, sparse, by L-BFGS, with batches of one.

Calls of chainrule's and scikit-learn's estimators with the same settings and initial weights, each in a process of its
own, in alternating rounds, after one call of each to warm up. The figure is how many times faster the median call is.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import cache
from time import perf_counter, sleep
from types import ModuleType
from typing import Any

import numpy as np

from harness import arguments, machine
from harness.results import Spread

SECONDS = 2.0  # for a corner, at least five rounds
PAUSE = 0.1  # seconds, in which the threads of the other process go to sleep
MODULES = {"chainrule": "chainrule.sklearn", "scikit-learn": "sklearn.neural_network"}


@cache
def corners() -> dict[str, Callable[[ModuleType], Any]]:
    """Name: what to call, with the module that has the estimators."""
    import scipy.sparse
    from sklearn import datasets
    from sklearn.preprocessing import StandardScaler

    random = np.random.default_rng(0)
    digits, classes = datasets.load_digits(return_X_y=True)
    digits = digits / 16
    cells, ill = datasets.load_breast_cancer(return_X_y=True)
    cells = StandardScaler().fit_transform(cells)
    diabetes, progress = datasets.load_diabetes(return_X_y=True)
    diabetes, progress = diabetes * 20, (progress - 150) / 70
    large = random.normal(size=(20_000, 30))
    sign = large[:, 0] > 0
    many = random.normal(size=(2000, 20))
    words = scipy.sparse.random(2000, 5000, density=0.02, format="csr", random_state=0)
    wide = scipy.sparse.random(1000, 20_000, density=0.002, format="csr", random_state=0)
    even = np.arange(2000) % 2

    def classify(X: Any, y: Any, *hidden: int, **settings: Any) -> Callable[[ModuleType], Any]:
        sizes = {"hidden_layer_sizes": hidden} if hidden else {}
        return lambda module: module.MLPClassifier(random_state=0, **sizes, **settings).fit(X, y)

    def regress(X: Any, y: Any, *hidden: int, **settings: Any) -> Callable[[ModuleType], Any]:
        sizes = {"hidden_layer_sizes": hidden} if hidden else {}
        return lambda module: module.MLPRegressor(random_state=0, **sizes, **settings).fit(X, y)

    def partial_fits(n: int, times: int) -> Callable[[ModuleType], Any]:
        def call(module: ModuleType) -> None:
            estimator = module.MLPClassifier(random_state=0)
            for _ in range(times):
                estimator.partial_fit(digits[:n], classes[:n], classes=range(10))

        return call

    def predictions(X: Any, times: int) -> Callable[[ModuleType], Any]:
        fitted: dict[str, Any] = {}

        def call(module: ModuleType) -> None:
            if module.__name__ not in fitted:
                fitted[module.__name__] = classify(digits, classes, max_iter=2)(module)
            for _ in range(times):
                fitted[module.__name__].predict_proba(X)

        return call

    lbfgs: dict[str, Any] = {"solver": "lbfgs"}
    return {
        "10 rows, 1 epoch, classes": classify(digits[:10], classes[:10], max_iter=1),
        "10 rows, 1 epoch, numbers": regress(diabetes[:10], progress[:10], max_iter=1),
        "10 × 2, 2 units, 1 epoch": regress(diabetes[:10, :2], progress[:10], 2, max_iter=1),
        "lbfgs, 10 rows, 2 iterations": regress(diabetes[:10], progress[:10], max_iter=2, **lbfgs),
        "lbfgs, digits": classify(digits, classes, max_iter=30, **lbfgs),
        "lbfgs, breast_cancer": classify(cells, ill, max_iter=100, **lbfgs),
        "lbfgs, diabetes, 5 units": regress(diabetes, progress, 5, max_iter=100, **lbfgs),
        "lbfgs, 2,000 × 5,000 with 2 %": classify(words, even, 10, max_iter=10, **lbfgs),
        "lbfgs, 1,000 × 20,000 with 0.2 %": classify(wide, even[:1000], 4, max_iter=10, **lbfgs),
        "1,000 × 20,000 with 0.2 %, 10 units": classify(wide, even[:1000], 10, max_iter=3),
        "1,000 × 20,000 with 0.2 %": classify(wide, even[:1000], max_iter=1),
        "2,000 × 5,000 with 2 %": classify(words, even, max_iter=3),
        "early stopping, digits": classify(digits, classes, early_stopping=True, max_iter=20),
        "early stopping, diabetes": regress(diabetes, progress, early_stopping=True, max_iter=50),
        "batches of 1": classify(cells, ill, batch_size=1, max_iter=1),
        "batches of 1, 300 units": classify(digits[:500], classes[:500], 300, batch_size=1, max_iter=1),
        "one batch of 20,000": classify(large, sign, batch_size=20_000, max_iter=3),
        "one batch of 20,000, 50-50-50": classify(large, sign, 50, 50, 50, batch_size=20_000, max_iter=2),
        "500 classes": classify(many, np.arange(2000) % 500, max_iter=5),
        "10 labels": classify(many, (np.arange(2000)[:, None] % np.arange(2, 12) == 0).astype(int), max_iter=5),
        "1000-500": classify(digits[:400], classes[:400], 1000, 500, max_iter=2),
        "10 layers of 20": classify(digits[:400], classes[:400], *[20] * 10, max_iter=10),
        "float32": classify(digits.astype(np.float32), classes, max_iter=10),
        "sgd, adaptive": regress(diabetes, progress, solver="sgd", learning_rate="adaptive", max_iter=30),
        "30 × partial_fit on 1 row": partial_fits(1, 30),
        "5 × partial_fit on 1,797 rows": partial_fits(1797, 5),
        "20 × predict_proba of 1 row": predictions(digits[:1], 20),
        "20 × predict_proba of 1,797 rows": predictions(digits, 20),
    }


def call(library: str, name: str) -> float:
    """Seconds of one call."""
    warnings.simplefilter("ignore")  # that fits have not converged
    module = importlib.import_module(MODULES[library])
    corner = corners()[name]
    start = perf_counter()
    corner(module)
    return perf_counter() - start


def main() -> None:
    """Run the program."""
    parser = arguments.parser(__doc__)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    arguments.check_threads(parser, [options.threads])

    machine.warn_if_busy()
    os.environ.update(machine.environment(options.threads))
    with ExitStack() as stack:
        stack.enter_context(machine.confined(options.threads))
        # Fresh interpreters: neither library may see what the other has loaded, or find its threads at work.
        context = multiprocessing.get_context("spawn")
        pools = {library: stack.enter_context(ProcessPoolExecutor(1, mp_context=context)) for library in MODULES}
        for name in corners():
            times: dict[str, list[float]] = {library: [] for library in MODULES}
            for library, pool in pools.items():
                pool.submit(call, library, name).result()
            end = perf_counter() + SECONDS
            while len(times["chainrule"]) < 5 or perf_counter() < end:
                for library, pool in pools.items():
                    sleep(PAUSE)
                    times[library].append(pool.submit(call, library, name).result())
            ratios = (theirs / ours for ours, theirs in zip(*times.values(), strict=True))
            milliseconds = np.median(times["chainrule"]) * 1e3
            print(f"  {name:36} {milliseconds:8.2f} ms  faster by {Spread.of(ratios):.2f}", flush=True)


if __name__ == "__main__":
    main()
