"""Optimizers: ten-step trajectories against the reference and PyTorch, settings, ownership, state."""

import copy
import pickle

import numpy as np
import pytest
import reference
from cases import OPTIMIZERS, TASKS, make_problem, optimizer_id
from helpers import assert_close, same_bits, state
from nets import library_net, small_net

import chainrule as cr

EVERY = pytest.mark.parametrize(("name", "settings"), OPTIMIZERS, ids=optimizer_id)
CLASSES = ("SGD", "RMSprop", "Adam", "AdamW")


def by_backward(mlp, problem, optimizer, steps):
    losses = []
    for _ in range(steps):
        mlp.forward(problem.X)
        losses.append(mlp.backward(problem.y, problem.sample_weight))
        optimizer.step(mlp)
    return losses


def by_step(mlp, problem, optimizer, steps):
    return [mlp.step(problem.X, problem.y, optimizer, sample_weight=problem.sample_weight) for _ in range(steps)]


def by_fit(mlp, problem, optimizer, steps, **settings):
    history = mlp.fit(
        problem.X,
        problem.y,
        epochs=steps,
        batch_size=len(problem.X),
        optimizer=optimizer,
        shuffle=False,
        sample_weight=problem.sample_weight,
        **settings,
    )
    return history.loss


WAYS = pytest.mark.parametrize("train", [by_backward, by_step, by_fit])


def tanh_problem(weighted=True):
    return make_problem(TASKS[0], "tanh", (5, 7), 13, weighted=weighted)


@WAYS
@EVERY
def test_ten_steps_equal_the_reference(name, settings, train):
    problem = tanh_problem()
    optimizer = getattr(cr, name)(**settings)
    mlp = library_net(problem.net)
    losses = train(mlp, problem, optimizer, 10)
    rates = reference.constant(optimizer.lr, 10, 1)
    expected = reference.train(
        problem.net, problem.X, problem.Y, getattr(reference, name)(**settings), rates, 13, problem.sample_weight
    )
    assert_close(losses, expected, 1e-10, "losses before each update")
    assert_close(mlp.parameters, problem.net.parameters, 1e-10)
    assert optimizer.t == 10


@WAYS
@EVERY
def test_ten_steps_equal_torch(torch_reference, name, settings, train):
    problem = tanh_problem()
    mlp, peer = library_net(problem.net), torch_reference.MLP(problem.net)
    losses = train(mlp, problem, getattr(cr, name)(**settings), 10)
    torch_optimizer = getattr(torch_reference.torch.optim, name)(peer.leaves, **settings)
    expected = [peer.train_step(problem.X, problem.y, torch_optimizer, problem.sample_weight) for _ in range(10)]
    assert_close(losses, expected, 1e-10, "losses before each update")
    assert_close(mlp.parameters, peer.parameters, 1e-10)


@pytest.mark.parametrize("clip_norm", [0.05, 1e6], ids=["clipped", "never reached"])
@EVERY
def test_clipped_steps_equal_torch(torch_reference, name, settings, clip_norm):
    problem = tanh_problem(weighted=False)
    mlp, peer = library_net(problem.net), torch_reference.MLP(problem.net)
    losses = by_fit(mlp, problem, getattr(cr, name)(**settings), 10, clip_norm=clip_norm)
    torch_optimizer = getattr(torch_reference.torch.optim, name)(peer.leaves, **settings)
    expected = [peer.train_step(problem.X, problem.y, torch_optimizer, clip_norm=clip_norm) for _ in range(10)]
    assert_close(losses, expected, 1e-10)
    assert_close(mlp.parameters, peer.parameters, 1e-10)


@EVERY
def test_wide_net_in_mini_batches_equals_the_reference(name, settings):
    """Weight tiles, tails and several batches a pass, the last one short."""
    problem = make_problem(TASKS[6], "tanh", (33, 100), 70, weighted=True)
    mlp = library_net(problem.net)
    optimizer = getattr(cr, name)(**settings)
    mlp.fit(
        problem.X,
        problem.y,
        epochs=3,
        batch_size=32,
        optimizer=optimizer,
        shuffle=False,
        sample_weight=problem.sample_weight,
    )
    rates = reference.constant(optimizer.lr, 3, 3)
    reference.train(
        problem.net, problem.X, problem.Y, getattr(reference, name)(**settings), rates, 32, problem.sample_weight
    )
    assert_close(mlp.parameters, problem.net.parameters, 1e-10)
    assert optimizer.t == 9


@EVERY
def test_float32_steps_stay_near_float64(name, settings):
    problem = make_problem(TASKS[0], "tanh", (5, 7), 13, weighted=False, dtype=np.float32)
    mlp = library_net(problem.net)
    by_step(mlp, problem, getattr(cr, name)(**settings), 10)
    net = make_problem(TASKS[0], "tanh", (5, 7), 13, weighted=False).net
    net.parameters = problem.net.parameters.astype(float)
    optimizer = getattr(reference, name)(**settings)
    reference.train(
        net, problem.X.astype(float), problem.Y.astype(float), optimizer, reference.constant(optimizer.lr, 10, 1), 13
    )
    assert mlp.parameters.dtype == np.float32
    assert_close(mlp.parameters, net.parameters, 1e-4)


@pytest.mark.parametrize("name", CLASSES)
def test_a_name_means_the_default_settings(name):
    X, y = np.linspace(-1, 1, 20).reshape(10, 2), np.linspace(0, 1, 10)
    by_name, by_object = (cr.MLP([2, 3, 1], seed=0) for _ in range(2))
    by_name.fit(X, y, epochs=3, optimizer=name.lower())
    by_object.fit(X, y, epochs=3, optimizer=getattr(cr, name)())
    assert same_bits(by_name.parameters, by_object.parameters)


def test_fit_s_default_optimizer_is_adam():
    X, y = np.linspace(-1, 1, 20).reshape(10, 2), np.linspace(0, 1, 10)
    by_default, by_object = (cr.MLP([2, 3, 1], seed=0) for _ in range(2))
    by_default.fit(X, y, epochs=3)
    by_object.fit(X, y, epochs=3, optimizer=cr.Adam())
    assert same_bits(by_default.parameters, by_object.parameters)


def test_attributes_and_defaults_are_pytorch_s():
    sgd, rmsprop, adam, adamw = cr.SGD(), cr.RMSprop(), cr.Adam(), cr.AdamW()
    assert (sgd.lr, sgd.momentum, sgd.nesterov, sgd.weight_decay) == (1e-3, 0, False, 0)
    assert (rmsprop.lr, rmsprop.alpha, rmsprop.eps, rmsprop.weight_decay) == (1e-2, 0.99, 1e-8, 0)
    assert (rmsprop.momentum, rmsprop.centered) == (0, False)
    assert (adam.lr, adam.betas, adam.eps, adam.weight_decay) == (1e-3, (0.9, 0.999), 1e-8, 0)
    assert (adamw.lr, adamw.betas, adamw.eps, adamw.weight_decay) == (1e-3, (0.9, 0.999), 1e-8, 1e-2)
    assert [optimizer.t for optimizer in (sgd, rmsprop, adam, adamw)] == [0, 0, 0, 0]
    assert "SGD" in repr(sgd) and "0.25" in repr(cr.SGD(lr=0.25))


def test_learning_rate_may_be_set_on_the_way():
    problem = tanh_problem()
    mlp, optimizer = library_net(problem.net), cr.Adam(lr=0.01)
    by_step(mlp, problem, optimizer, 3)
    optimizer.lr = 0.05
    assert optimizer.lr == 0.05
    by_step(mlp, problem, optimizer, 3)
    rates = np.repeat([0.01, 0.05], 3)[:, None]
    reference.train(problem.net, problem.X, problem.Y, reference.Adam(), rates, 13, problem.sample_weight)
    assert_close(mlp.parameters, problem.net.parameters, 1e-10)


@EVERY
def test_step_equals_forward_backward_and_optimizer_step(name, settings):
    problem = tanh_problem()
    fused, plain = library_net(problem.net), library_net(problem.net)
    fused_losses = by_step(fused, problem, getattr(cr, name)(**settings), 5)
    plain_losses = by_backward(plain, problem, getattr(cr, name)(**settings), 5)
    assert_close(fused_losses, plain_losses, 1e-13)
    assert_close(fused.parameters, plain.parameters, 1e-13)


def test_optimizer_step_leaves_the_gradient_as_it_was():
    mlp, X, y = small_net()
    mlp.forward(X)
    mlp.backward(y)
    gradient = mlp.gradient.copy()
    cr.SGD(lr=0.1, weight_decay=0.5).step(mlp)
    assert same_bits(mlp.gradient, gradient) and np.any(gradient)


def test_optimizer_step_uses_a_gradient_that_the_user_changed():
    """A gradient penalty, an all-reduce or a clipping of one's own: write into the view, then step."""
    mlp, X, y = small_net()
    mlp.forward(X)
    mlp.backward(y)
    start = mlp.parameters.copy()
    mlp.gradient[:] = np.arange(mlp.n_parameters)
    cr.SGD(lr=0.5).step(mlp)
    assert_close(mlp.parameters, start - 0.5 * np.arange(mlp.n_parameters), 1e-15)


class TestOwnership:
    @pytest.mark.parametrize("name", CLASSES)
    def test_an_optimizer_belongs_to_its_first_network(self, name):
        (mlp, X, y), (other, _, _) = small_net(seed=1), small_net(seed=2)
        other.forward(X)
        other.backward(y)
        optimizer = getattr(cr, name)()
        mlp.step(X, y, optimizer)
        before = state(other, optimizer)
        for use in (
            lambda: other.step(X, y, optimizer),
            lambda: optimizer.step(other),
            lambda: other.fit(X, y, epochs=1, optimizer=optimizer),
        ):
            with pytest.raises(ValueError, match=r"(?i)optimizer.*network"):
                use()
            assert state(other, optimizer) == before
        mlp.step(X, y, optimizer)
        assert optimizer.t == 2

    @pytest.mark.parametrize("name", CLASSES)
    def test_reset_forgets_network_and_state(self, name):
        (mlp, X, y), (other, _, _), (twin, _, _) = small_net(seed=1), small_net(seed=2), small_net(seed=2)
        used, fresh = getattr(cr, name)(lr=0.05), getattr(cr, name)(lr=0.05)
        for _ in range(3):
            mlp.step(X, y, used)
        used.reset()
        assert (used.t, used.lr) == (0, 0.05)
        for _ in range(3):
            other.step(X, y, used)
            twin.step(X, y, fresh)
        assert same_bits(other.parameters, twin.parameters)

    def test_a_copy_of_a_network_is_another_network(self):
        mlp, X, y = small_net()
        optimizer = cr.Adam()
        mlp.step(X, y, optimizer)
        with pytest.raises(ValueError, match=r"(?i)optimizer"):
            mlp.copy().step(X, y, optimizer)

    def test_a_network_of_another_dtype_is_another_network(self):
        (mlp, X, y), (single, _, _) = small_net(), small_net(dtype="float32")
        optimizer = cr.SGD(momentum=0.9)
        mlp.step(X, y, optimizer)
        with pytest.raises(ValueError, match=r"(?i)optimizer"):
            single.step(X, y, optimizer)

    def test_an_optimizer_outlives_its_network(self):
        mlp, X, y = small_net()
        optimizer = cr.Adam()
        mlp.step(X, y, optimizer)
        del mlp
        other, _, _ = small_net(seed=2)
        with pytest.raises(ValueError, match=r"(?i)optimizer"):
            other.step(X, y, optimizer)
        optimizer.reset()
        other.step(X, y, optimizer)
        assert optimizer.t == 1


@pytest.mark.parametrize(
    "duplicate",
    [copy.copy, copy.deepcopy, lambda optimizer: pickle.loads(pickle.dumps(optimizer))],
    ids=["copy", "deepcopy", "pickle"],
)
@EVERY
def test_copies_keep_settings_and_state(name, settings, duplicate):
    """A network and its optimizer, both duplicated, go on as the originals do."""
    problem = tanh_problem()
    mlp, optimizer = library_net(problem.net), getattr(cr, name)(**settings)
    by_step(mlp, problem, optimizer, 4)
    twin, twin_optimizer = mlp.copy(), duplicate(optimizer)
    assert type(twin_optimizer) is type(optimizer)
    assert twin_optimizer.t == 4
    assert repr(twin_optimizer) == repr(optimizer)
    by_step(twin, problem, twin_optimizer, 4)
    assert optimizer.t == 4
    by_step(mlp, problem, optimizer, 4)
    assert same_bits(twin.parameters, mlp.parameters)
    assert not same_bits(mlp.parameters, problem.net.parameters)


@pytest.mark.parametrize("duplicate", [copy.copy, lambda optimizer: pickle.loads(pickle.dumps(optimizer))])
@pytest.mark.parametrize(
    ("optimizer", "change"),
    [
        (cr.SGD(0.1, momentum=0.9), {"momentum": 0.0}),
        (cr.SGD(0.1), {"momentum": 0.9}),
        (cr.RMSprop(0.01, centered=True), {"centered": False, "momentum": 0.5}),
    ],
    ids=repr,
)
def test_copies_of_one_whose_settings_have_changed_since_a_step(optimizer, change, duplicate):
    problem = tanh_problem()
    mlp, optimizer = library_net(problem.net), copy.copy(optimizer)
    by_step(mlp, problem, optimizer, 2)
    for changes in (change, {name: getattr(optimizer, name) for name in change}):  # there and back
        for name, value in changes.items():
            setattr(optimizer, name, value)
        twin, twin_optimizer = mlp.copy(), duplicate(optimizer)
        by_step(twin, problem, twin_optimizer, 2)
        by_step(mlp, problem, optimizer, 2)
        assert same_bits(twin.parameters, mlp.parameters)


@pytest.mark.parametrize("name", ["lr", "weight_decay"])
def test_settings_beyond_the_range_of_the_dtype_are_refused_later_too(name):
    problem = tanh_problem()
    mlp, optimizer = cr.MLP(library_net(problem.net).layer_sizes, dtype="float32", dropout=0.5), cr.AdamW(0.1)
    by_step(mlp, problem, optimizer, 1)
    mlp.forward(problem.X)
    before, twin = mlp.parameters.copy(), mlp.copy()
    setattr(optimizer, name, 1e40)
    with pytest.raises(ValueError, match=r"^lr, or another setting of the optimizer, is beyond the range"):
        by_step(mlp, problem, optimizer, 1)
    with pytest.raises(ValueError, match=r"^lr, or another setting of the optimizer, is beyond the range"):
        mlp.fit(problem.X, problem.Y, epochs=1, optimizer=optimizer)
    assert same_bits(mlp.parameters, before)
    assert len(mlp.activations) == len(mlp.layer_sizes)  # of the forward pass
    assert same_bits(mlp.forward(problem.X), twin.forward(problem.X))  # the same masks


def test_a_message_has_the_digits_that_tell():
    for settings, words in [({"lr": -1e-9}, r"^lr is -1e-09;"), ({"betas": (0.9, 1.0000001)}, r"is 1.0000001;")]:
        with pytest.raises(ValueError, match=words):
            cr.Adam(**settings)


@pytest.mark.parametrize(
    ("name", "settings", "argument"),
    [
        ("SGD", {"lr": -0.1}, "lr"),
        ("SGD", {"lr": float("nan")}, "lr"),
        ("SGD", {"lr": float("inf")}, "lr"),
        ("SGD", {"momentum": -0.1}, "momentum"),
        ("SGD", {"nesterov": True}, "nesterov"),
        ("SGD", {"weight_decay": -1.0}, "weight_decay"),
        ("RMSprop", {"lr": -1.0}, "lr"),
        ("RMSprop", {"alpha": -0.5}, "alpha"),
        ("RMSprop", {"eps": -1e-8}, "eps"),
        ("RMSprop", {"momentum": -1.0}, "momentum"),
        ("RMSprop", {"weight_decay": -1.0}, "weight_decay"),
        ("Adam", {"lr": -1.0}, "lr"),
        ("Adam", {"betas": (1.0, 0.999)}, "beta"),
        ("Adam", {"betas": (0.9, 1.0)}, "beta"),
        ("Adam", {"betas": (-0.1, 0.9)}, "beta"),
        ("Adam", {"eps": -1.0}, "eps"),
        ("Adam", {"weight_decay": float("nan")}, "weight_decay"),
        ("AdamW", {"lr": -1.0}, "lr"),
        ("AdamW", {"betas": (0.9, 2.0)}, "beta"),
        ("AdamW", {"weight_decay": -1.0}, "weight_decay"),
    ],
    ids=optimizer_id,
)
def test_settings_out_of_range(name, settings, argument):
    with pytest.raises(ValueError, match=argument):
        getattr(cr, name)(**settings)


@pytest.mark.parametrize("name", CLASSES)
def test_learning_rate_out_of_range_is_not_set(name):
    optimizer = getattr(cr, name)(lr=0.5)
    for wrong in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=r"lr"):
            optimizer.lr = wrong
        assert optimizer.lr == 0.5
    with pytest.raises(TypeError):
        optimizer.lr = "fast"
    assert optimizer.lr == 0.5


def test_step_before_backward():
    mlp, X, _ = small_net()
    optimizer = cr.SGD()
    for prepare in (lambda: None, lambda: mlp.forward(X)):
        prepare()
        before = state(mlp, optimizer)
        with pytest.raises(RuntimeError, match=r"(?i)gradient|backward"):
            optimizer.step(mlp)
        assert state(mlp, optimizer) == before
    assert optimizer.t == 0


@pytest.mark.parametrize("wrong", [None, 3, "mlp", np.zeros(3)], ids=["None", "int", "str", "array"])
def test_step_of_something_else(wrong):
    optimizer = cr.Adam()
    with pytest.raises(TypeError):
        optimizer.step(wrong)
    assert optimizer.t == 0


@EVERY
def test_n_moments_are_those_that_a_state_holds(name, settings):
    optimizer = getattr(cr, name)(**settings)
    mlp, X, y = small_net()
    before = optimizer.n_moments
    mlp.step(X, y, optimizer)
    _, (_, _, _, kept) = optimizer.__getstate__()
    assert optimizer.n_moments == before == sum(moment is not None for moment in kept)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rmsprop_of_a_gradient_whose_square_overflows(dtype):
    large = {"float32": 1e22, "float64": 1e165}[dtype]
    mlp = cr.MLP([1, 1], loss="mae", dtype=dtype, seed=0)
    before = mlp.parameters.copy()
    for optimizer in (cr.RMSprop(), cr.RMSprop(momentum=0.9)):
        mlp.step([[large]], [[0.0]], optimizer)
        assert same_bits(mlp.weights[0].ravel(), before[:1])  # a step of g / √∞


@pytest.mark.parametrize("optimizer", [cr.SGD, cr.RMSprop, cr.Adam, cr.AdamW])
@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh"])
def test_an_infinite_bias_that_shuts_a_unit_off_stays(optimizer, activation):
    """As in PyTorch: without weight decay nothing is made of 0·∞."""
    mlp = cr.MLP([2, 2, 1], hidden_activation=activation, seed=0)
    mlp.biases[0][0] = -np.inf
    history = mlp.fit([[1.0, 2.0], [0.0, 1.0]], [[0.0], [1.0]], epochs=5, optimizer=optimizer(lr=0.01))
    assert mlp.biases[0][0] == -np.inf and np.isfinite(history.loss).all()
    assert np.isfinite(mlp.parameters[mlp.parameters != -np.inf]).all()
