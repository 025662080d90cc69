"""Copies and pickles: the same network in every respect, and independent of the first."""

import copy
import pickle

import numpy as np
import pytest
from helpers import same_bits
from nets import small_net, smooth_data

import chainrule as cr


def by_pickle(protocol):
    return lambda thing: pickle.loads(pickle.dumps(thing, protocol=protocol))


DUPLICATES = {
    "copy()": lambda mlp: mlp.copy(),
    "copy.copy": copy.copy,
    "copy.deepcopy": copy.deepcopy,
    "pickle": by_pickle(pickle.HIGHEST_PROTOCOL),
    "pickle 2": by_pickle(2),
}
duplicated = pytest.mark.parametrize("duplicate", DUPLICATES.values(), ids=DUPLICATES)


def rich_net(dtype="float64"):
    """Every setting away from its default."""
    mlp = cr.MLP(
        [4, 6, 5, 4],
        hidden_activation=[cr.ELU(alpha=0.5), "gelu"],
        output_activation="tanh",
        loss=cr.Quantile([0.25, 0.75]),
        init=cr.Normal(std=0.3),
        dtype=dtype,
        seed=2**63 + 5,
    )
    X, y = smooth_data(30)
    mlp.fit(X, y, epochs=2, batch_size=7)
    return mlp, X, y


@duplicated
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_duplicate_is_the_same_network(duplicate, dtype):
    mlp, X, y = rich_net(dtype)
    twin = duplicate(mlp)
    assert type(twin) is cr.MLP and twin is not mlp
    for name in ("layer_sizes", "n_parameters", "dtype", "hidden_activations", "output_activation", "seed"):
        assert getattr(twin, name) == getattr(mlp, name), name
    assert repr(twin) == repr(mlp)
    assert same_bits(twin.parameters, mlp.parameters)
    assert same_bits(twin.predict(X), mlp.predict(X))
    assert twin.evaluate(X, y) == mlp.evaluate(X, y)


@duplicated
def test_a_duplicate_is_independent(duplicate):
    mlp, X, y = rich_net()
    twin = duplicate(mlp)
    before = twin.parameters.copy()
    assert not np.shares_memory(twin.parameters, mlp.parameters)
    mlp.parameters[:] = 0
    mlp.fit(X, y, epochs=1)
    assert same_bits(twin.parameters, before)
    twin.weights[0][:] = 7
    assert not np.any(mlp.weights[0] == 7)


@duplicated
def test_a_duplicate_trains_as_its_original(duplicate):
    """The shuffle counter goes along: the next epochs visit the rows in the same order."""
    mlp, X, y = rich_net()
    twin = duplicate(mlp)
    assert (
        twin.fit(X, y, epochs=3, batch_size=7, optimizer="sgd").loss
        == mlp.fit(X, y, epochs=3, batch_size=7, optimizer="sgd").loss
    )
    assert same_bits(twin.parameters, mlp.parameters)


@pytest.mark.parametrize("name", ["SGD", "RMSprop", "Adam", "AdamW"])
def test_a_checkpoint_of_network_and_optimizer_goes_on(name):
    X, y = smooth_data(30)
    settings = {"momentum": 0.9} if name in ("SGD", "RMSprop") else {}
    mlp, optimizer = cr.MLP([4, 6, 2], dtype="float64", seed=0), getattr(cr, name)(lr=0.01, **settings)
    mlp.fit(X, y, epochs=2, batch_size=7, optimizer=optimizer)
    checkpoint = pickle.dumps((mlp, optimizer))
    expected = mlp.fit(X, y, epochs=3, batch_size=7, optimizer=optimizer)
    twin, twin_optimizer = pickle.loads(checkpoint)
    assert twin.fit(X, y, epochs=3, batch_size=7, optimizer=twin_optimizer).loss == expected.loss
    assert same_bits(twin.parameters, mlp.parameters)
    assert twin_optimizer.t == optimizer.t == 25


def test_an_untrained_network_with_a_gradient_can_be_duplicated():
    mlp, X, y = small_net()
    mlp.forward(X)
    mlp.backward(y)
    for duplicate in DUPLICATES.values():
        twin = duplicate(mlp)
        twin.forward(X)
        twin.backward(y)
        assert same_bits(twin.gradient, mlp.gradient)


VALUES = {
    "LeakyReLU": lambda: cr.LeakyReLU(negative_slope=0.2),
    "ELU": lambda: cr.ELU(alpha=0.3),
    "Huber": lambda: cr.Huber(delta=2.5),
    "Quantile": lambda: cr.Quantile([0.1, 0.9]),
    "Normal": lambda: cr.Normal(std=0.3),
    "Uniform": lambda: cr.Uniform(bound=0.3),
    "ConstantRate": lambda: cr.ConstantRate(),
    "StepDecay": lambda: cr.StepDecay(step_size=3, gamma=0.3),
    "ExponentialDecay": lambda: cr.ExponentialDecay(gamma=0.3),
    "CosineDecay": lambda: cr.CosineDecay(eta_min=0.3),
    "OneCycle": lambda: cr.OneCycle(pct_start=0.2, div_factor=3.0, final_div_factor=30.0),
    "Warmup": lambda: cr.Warmup(epochs=3, start_factor=0.3),
    "Plateau": lambda: cr.Plateau(factor=0.3, patience=3, threshold=0.3, min_lr=0.03),
}


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, by_pickle(5)], ids=["copy", "deepcopy", "pickle"])
def test_settings_keep_type_and_numbers(name, duplicate):
    value = VALUES[name]()
    twin = duplicate(value)
    assert type(twin) is type(value)
    assert repr(twin) == repr(value)
    assert "3" in repr(value) or "2" in repr(value) or "9" in repr(value) or name == "ConstantRate"


@pytest.mark.parametrize("damage", ["truncated", "emptied"])
def test_a_damaged_pickle_is_an_error(damage):
    data = pickle.dumps(rich_net()[0])
    broken = data[: len(data) // 2] if damage == "truncated" else b""
    with pytest.raises((pickle.UnpicklingError, EOFError, ValueError, TypeError)):
        pickle.loads(broken)


def test_a_pickle_loads_in_another_process(run_python, tmp_path):
    mlp, X, _ = rich_net()
    (tmp_path / "net.pickle").write_bytes(pickle.dumps(mlp))
    np.save(tmp_path / "X.npy", X)
    code = (
        "import pickle, numpy as np; mlp = pickle.load(open('net.pickle', 'rb'));"
        "print(mlp.predict(np.load('X.npy')).tobytes().hex())"
    )
    assert run_python("-c", code).stdout.strip() == mlp.predict(X).tobytes().hex()


class Mine(cr.SGD):
    pass


def test_pickle_of_a_subclass_keeps_its_attributes():
    mine = Mine(0.5)
    mine.note = "kept"
    twin = pickle.loads(pickle.dumps(mine))
    assert type(twin) is Mine and twin.note == "kept" and twin.lr == 0.5
