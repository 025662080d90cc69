"""The classes of the compiled core: whatever is done to them from Python, the process goes on."""

import contextlib
import copy
import inspect
import pickle

import numpy as np
import pytest

import chainrule as cr
from chainrule import _core

CLASSES = sorted(name for name, value in vars(_core).items() if inspect.isclass(value))


@pytest.mark.parametrize("name", CLASSES)
def test_without_its_constructor_an_object_is_refused(name):
    made = getattr(_core, name).__new__(getattr(_core, name))
    other = {"__class__", "__init__", "__new__", "__init_subclass__", "__subclasshook__"}
    calls = [lambda name=name: getattr(made, name)() for name in set(dir(made)) - other]
    calls += [lambda protocol=p: pickle.dumps(made, protocol) for p in range(pickle.HIGHEST_PROTOCOL + 1)]
    for call in calls:
        with contextlib.suppress(TypeError, AttributeError):
            call()
    assert type(made) is getattr(_core, name)  # the process is still there


@pytest.mark.parametrize(
    "arguments",
    [
        {"loss": cr.Huber.__new__(cr.Huber)},
        {"init": cr.Normal.__new__(cr.Normal)},
        {"hidden_activation": cr.ELU.__new__(cr.ELU)},
    ],
    ids=["loss", "init", "activation"],
)
def test_a_network_takes_none_of_these(arguments):
    with pytest.raises(TypeError, match=r"__init__\(\) was not called"):
        cr.MLP([2, 3, 1], **arguments)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol_pickles_or_says_that_it_cannot(protocol):
    flow, X = cr.GradientFlow(), np.eye(2)
    history = cr.MLP([2, 1], seed=0).fit(X, np.ones(2), epochs=3, monitor=flow)
    assert pickle.loads(pickle.dumps(history, protocol)).loss == history.loss
    again = pickle.loads(pickle.dumps(flow, protocol))
    assert again.report().to_dict() == flow.report().to_dict()
    for alone in (cr.MLP([2, 1])._model, _core.FitQueue()):
        with pytest.raises(TypeError, match="cannot pickle"):
            pickle.dumps(alone, protocol)


def test_a_subclass_of_an_optimizer_is_copied_with_what_is_its_own():
    class Named(cr.Adam):
        def __init__(self, name):
            super().__init__(lr=0.5)
            self.name = name

    named, mlp = Named("one"), cr.MLP([2, 1], seed=0)
    mlp.step(np.eye(2), np.ones(2), named)
    for twin in (copy.copy(named), copy.deepcopy(named)):
        assert type(twin) is Named
        assert (twin.name, twin.lr, twin.t) == ("one", 0.5, 1)


@pytest.mark.parametrize("made", [cr.SGD(0.1, 0.9), cr.RMSprop(), cr.AdamW(), cr.OneCycle(), cr.Warmup(2)])
def test_signatures_can_be_inspected(made):
    parameters = inspect.signature(type(made)).parameters
    assert type(made)(*(getattr(made, name) for name in parameters)).__reduce__()[1][0] == made.__reduce__()[1][0]
    assert all(parameter.default == getattr(type(made)(), name) for name, parameter in parameters.items())


@pytest.mark.parametrize(
    "setting", [{"lr": True}, {"lr": np.True_}, {"betas": (False, 0.9)}, {"betas": [0.9, np.False_]}], ids=str
)
def test_truth_values_are_no_numbers(setting):
    with pytest.raises(TypeError, match=rf"^{next(iter(setting))} is "):
        cr.Adam(**setting)


def test_losses_and_activations_come_back_as_what_they_were():
    mlp = cr.MLP(
        [2, 3, 3, 1], loss=cr.Huber(2.0), hidden_activation=[cr.LeakyReLU(0.2), "relu"], output_activation=cr.ELU(0.5)
    )
    assert mlp.loss.delta == 2.0
    assert mlp.hidden_activations[0].negative_slope == 0.2
    assert mlp.output_activation.alpha == 0.5
    assert cr.MLP([2, 2], loss=cr.Quantile([0.1, 0.9])).loss.quantiles == (0.1, 0.9)


def test_a_subclass_shows_the_signature_of_its_own_constructor():
    class Named(cr.SGD):
        def __init__(self, name, rate=0.5):
            super().__init__(lr=rate)

    class Same(cr.SGD):
        pass

    assert str(inspect.signature(Named)) == "(name, rate=0.5)"
    assert inspect.signature(Same) == inspect.signature(cr.SGD)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_messages_show_numbers_as_they_were_written(dtype):
    mlp = cr.MLP([2, 1], loss="bce", dtype=dtype, seed=0)
    X = np.eye(2)
    with pytest.raises(ValueError, match=r"^y holds 1\.2 at row 1, column 0"):
        mlp.evaluate(X, [0.0, 1.2])
    with pytest.raises(ValueError, match=r"^y holds 1\.000001 at row 1, column 0"):
        mlp.evaluate(X, [0.0, 1.000001])
    with pytest.raises(ValueError, match=r"^sample_weight holds -0\.1 at row 1"):
        mlp.evaluate(X, [0.0, 1.0], [1.0, -0.1])
