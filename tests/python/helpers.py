"""Small helpers of the tests: how far two arrays are apart, and what a network and its optimizer look like now."""

import pickle

import numpy as np


def relative_error(actual, expected):
    """‖actual - expected‖ / ‖expected‖; 0 where both are zero."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, (actual.shape, expected.shape)
    difference, size = np.linalg.norm(np.ravel(actual - expected)), np.linalg.norm(np.ravel(expected))
    return difference / size if difference else 0.0


def assert_close(actual, expected, tolerance, what=""):
    error = relative_error(actual, expected)
    assert error <= tolerance, f"{what}: relative error {error:.2e} > {tolerance:.0e}"


def assert_all_close(actual, expected, tolerance, what):
    """The same for two lists of arrays, one a layer."""
    assert len(actual) == len(expected), what
    for layer, (one, other) in enumerate(zip(actual, expected, strict=True)):
        assert_close(one, other, tolerance, f"{what}[{layer}]")


def same_bits(one, other):
    one, other = np.asarray(one), np.asarray(other)
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


def readable(read):
    """What read() gives, as bytes; None where nothing is cached yet."""
    try:
        arrays = read()
    except RuntimeError:
        return None
    return [np.asarray(part).tobytes() for part in (arrays if isinstance(arrays, list) else [arrays])]


def state(mlp, optimizer=None):
    """All that a failed call must leave as it was."""
    now = {
        "parameters": mlp.parameters.tobytes(),
        "gradient": readable(lambda: mlp.gradient),
        "activations": readable(lambda: mlp.activations),
        "deltas": readable(lambda: mlp.deltas),
    }
    if optimizer is not None:
        now["t"] = optimizer.t
        now["lr"] = optimizer.lr
        now["optimizer"] = pickle.dumps(optimizer)
    return now


def central_differences(function, theta, eps=1e-6):
    """The gradient of function at the vector theta, two calls a component."""
    gradient = np.empty_like(theta)
    for i in range(theta.size):
        above, below = theta.copy(), theta.copy()
        above[i] += eps
        below[i] -= eps
        gradient[i] = (function(above) - function(below)) / (above[i] - below[i])
    return gradient


class Recorder:
    """A callback of scikit-learn's protocol that keeps what it hears of."""

    def __init__(self):
        self.events = []

    def setup(self, estimator, context):
        self.events.append("setup")

    def teardown(self, estimator, context):
        self.events.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        self.events.append(("begin", context.task_name))

    def on_fit_task_end(self, estimator, context):
        self.events.append(("end", context.task_name))
