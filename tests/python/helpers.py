"""Small helpers of the tests: how far two arrays are apart, and what a network and its optimizer look like now."""

import inspect
import pickle
import signal
import typing
from contextlib import contextmanager

import numpy as np
import pytest


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


def unreadable_annotations(module):
    """What typing.get_type_hints refuses of all that a module offers: functions, classes, their public methods."""
    unreadable = []
    for offered in [getattr(module, name) for name in module.__all__]:
        annotated = {offered.__name__: offered} if callable(offered) else {}
        for kind in inspect.getmro(offered) if inspect.isclass(offered) else ():
            if kind.__module__.split(".")[0] == "chainrule":
                members = {name: getattr(member, "fget", None) or member for name, member in vars(kind).items()}
                annotated |= {f"{kind.__name__}.{name}": getattr(m, "__func__", m) for name, m in members.items()}
        for name, thing in annotated.items():
            public = not name.split(".")[-1].startswith("_") or name.endswith((".__init__", ".__call__"))
            if public and (inspect.isfunction(thing) or inspect.isclass(thing)):
                try:
                    typing.get_type_hints(thing)
                except NameError as error:
                    unreadable.append(f"{name}: {error}")
    return unreadable


class Interrupted(Exception):  # noqa: N818
    pass


@contextmanager
def interrupted_soon():
    """Expect a block to be ended by a timer's signal, which Python hears of as it does of Ctrl-C."""
    if not hasattr(signal, "setitimer"):
        pytest.skip("no timers here")

    def interrupt(*_):
        raise Interrupted

    handler = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.005)
        with pytest.raises(Interrupted):
            yield
    finally:
        signal.signal(signal.SIGALRM, handler)
