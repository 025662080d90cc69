"""from_torch and to_torch: the same function and the same gradients on both sides; anything else is refused by name."""

import pickle

import numpy as np
import pytest
from helpers import assert_close, same_bits
from nets import small_net

import chainrule as cr

torch = pytest.importorskip("torch", reason="PyTorch is not installed: the way to it and back is not checked")
nn = torch.nn

MODULES = {
    "identity": nn.Identity,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "leaky_relu": lambda: nn.LeakyReLU(0.2),
    "elu": lambda: nn.ELU(0.7),
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
}


@pytest.fixture
def seeded():
    torch.manual_seed(0)


def gradients_there(module, X, y):
    """Of the mean squared error, in the library's layout."""
    module.zero_grad()
    nn.functional.mse_loss(module(torch.from_numpy(X)), torch.from_numpy(y)).backward()
    return np.concatenate([p.grad.numpy().T.ravel() for p in module.parameters()])


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("last", [None, nn.Sigmoid, lambda: nn.Softmax(dim=1)], ids=["none", "sigmoid", "softmax"])
def test_outputs_and_gradients_from_torch(seeded, name, last):
    parts = [nn.Linear(4, 6), MODULES[name](), nn.Linear(6, 3), *([last()] if last else [])]
    module = nn.Sequential(*parts).double().eval()
    mlp = cr.MLP.from_torch(module, loss="mse")
    rng = np.random.default_rng(0)
    X, y = 3 * rng.normal(size=(9, 4)), rng.normal(size=(9, 3))
    assert_close(mlp.forward(X), module(torch.from_numpy(X)).detach().numpy(), 1e-12)
    mlp.backward(y)
    assert_close(mlp.gradient, gradients_there(module, X, y), 1e-12)


@pytest.mark.parametrize("name", [*MODULES, "exp", "softmax"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_there_and_back(name, dtype):
    hidden = "tanh" if name in ("exp", "softmax") else name
    mlp, X, y = small_net((4, 5, 3), hidden_activation=hidden, output_activation=name, dtype=dtype)
    module = mlp.to_torch()
    X, y = X.astype(dtype), y.astype(dtype)
    tolerance = 1e-12 if dtype == "float64" else 1e-5
    assert_close(module(torch.from_numpy(X)).detach().numpy(), mlp.forward(X), tolerance)
    mlp.backward(y)
    assert_close(mlp.gradient, gradients_there(module, X, y), tolerance)
    twin = cr.MLP.from_torch(module, loss="mse")
    assert same_bits(twin.parameters, mlp.parameters) and repr(twin) == repr(mlp)
    again = pickle.loads(pickle.dumps(module))
    assert torch.equal(again(torch.from_numpy(X)), module(torch.from_numpy(X)))


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_dropout_goes_along(seeded, mode):
    module = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Dropout(0.25), nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 2))
    mlp = cr.MLP.from_torch(getattr(module, mode)())
    assert mlp.dropout == (0.25, 0.0)
    X = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
    assert_close(mlp.predict(X), module.eval()(torch.from_numpy(X)).detach().numpy(), 1e-6)
    assert str(mlp.to_torch()) == str(module)


def test_a_state_dict_goes_in_and_out(seeded):
    trained = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Dropout(0.25), nn.Linear(5, 3))
    module = cr.MLP([4, 5, 3], dropout=0.25, seed=0).to_torch()
    module.load_state_dict(trained.state_dict(), strict=True)
    mlp = cr.MLP.from_torch(module)
    assert mlp.dropout == (0.25,)
    assert same_bits(mlp.weights[1], trained[3].weight.detach().numpy().T)
    assert all(torch.equal(value, trained.state_dict()[key]) for key, value in mlp.to_torch().state_dict().items())


def test_a_copy_is_a_copy(seeded):
    module = nn.Sequential(nn.Linear(2, 3))
    mlp = cr.MLP.from_torch(module)
    before = mlp.parameters.copy()
    nn.init.zeros_(module[0].weight)
    assert same_bits(mlp.parameters, before)
    back = mlp.to_torch()
    mlp.parameters[:] = 7
    assert not np.any(back[0].weight.detach().numpy() == 7)


def test_views_share_their_memory_with_tensors():
    mlp = cr.MLP([4, 5, 3], seed=0)
    for view in (mlp.parameters, *mlp.weights, *mlp.biases):
        tensor = torch.from_numpy(view)
        tensor.fill_(0.25)
        assert np.all(view == 0.25)
    assert np.all(mlp.parameters == 0.25)
    mlp.forward(np.ones((2, 4)))
    mlp.backward(np.ones((2, 3)))
    assert torch.from_numpy(mlp.gradient).data_ptr() == mlp.gradient.ctypes.data


@pytest.mark.parametrize(
    ("last", "loss"), [(nn.Sigmoid(), "bce"), (nn.Softmax(dim=-1), "cross_entropy"), (nn.Tanh(), "mse")]
)
def test_the_loss_follows_the_last_activation(last, loss):
    assert cr.MLP.from_torch(nn.Sequential(nn.Linear(2, 3), last)).loss.name == loss


def test_logits_are_trainable(seeded):
    module = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2))
    X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    mlp = cr.MLP.from_torch(module, loss="cross_entropy", seed=0)
    mlp.fit(X, [0, 1, 1, 0], epochs=300, batch_size=4, optimizer=cr.Adam(lr=0.05))
    assert mlp.predict(X).argmax(axis=1).tolist() == [0, 1, 1, 0]


def test_nested_sequentials_and_one_activation_module_used_twice(seeded):
    relu = nn.ReLU()
    module = nn.Sequential(nn.Sequential(nn.Linear(3, 4), relu), nn.Sequential(nn.Linear(4, 4), relu), nn.Linear(4, 1))
    mlp = cr.MLP.from_torch(module)
    X = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
    assert [activation.name for activation in mlp.hidden_activations] == ["relu", "relu"]
    assert_close(mlp.predict(X), module(torch.from_numpy(X)).detach().numpy(), 1e-6)


def shared_weight():
    linear = nn.Linear(3, 3)
    return linear, linear


def hooked():
    linear = nn.Linear(3, 3)
    linear.register_forward_hook(lambda module, given, output: 2 * output)
    return linear


REFUSED = {
    "a hook": ([hooked()], r"module\[0\] has hooks"),
    "normalised weights": ([nn.utils.spectral_norm(nn.Linear(3, 3))], r"module\[0\] has hooks"),
    "conv": ([nn.Conv1d(3, 3, 1)], "Conv1d"),
    "batch norm": ([nn.Linear(3, 3), nn.BatchNorm1d(3)], "BatchNorm1d"),
    "no bias": ([nn.Linear(3, 3, bias=False)], "expected one with a bias"),
    "shared": (shared_weight(), "weight of an earlier layer"),
    "two activations": ([nn.Linear(3, 3), nn.ReLU(), nn.Tanh()], "expected a Linear before it"),
    "first activation": ([nn.ReLU(), nn.Linear(3, 3)], "expected a Linear before it"),
    "hidden softmax": ([nn.Linear(3, 3), nn.Softmax(dim=1), nn.Linear(3, 3)], "softmax"),
    "softmax over rows": ([nn.Linear(3, 3), nn.Softmax(dim=0)], "Softmax"),
    "approximate gelu": ([nn.Linear(3, 3), nn.GELU(approximate="tanh")], "GELU"),
    "sharp softplus": ([nn.Linear(3, 3), nn.Softplus(beta=2)], "Softplus"),
    "input dropout": ([nn.Dropout(0.1), nn.Linear(3, 3)], "expected it after a Linear"),
    "output dropout": ([nn.Linear(3, 3), nn.Dropout(0.1)], "only hidden layers have it"),
    "early dropout": ([nn.Linear(3, 3), nn.Dropout(0.1), nn.ReLU(), nn.Linear(3, 3)], "expected a Linear before it"),
    "widths": ([nn.Linear(3, 4), nn.Linear(3, 4)], r"expected \(4, units\)"),
    "empty": ([], "no linear layer"),
    "half": ([nn.Linear(3, 3).half()], "float16"),
    "brain": ([nn.Linear(3, 3).bfloat16()], "bfloat16"),
    "mixed": ([nn.Linear(3, 3), nn.Linear(3, 3).double()], "the same in all layers"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_anything_else_is_refused_by_name(case):
    parts, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        cr.MLP.from_torch(nn.Sequential(*parts))


def test_numbers_that_are_none_are_refused():
    module = nn.Sequential(nn.Linear(2, 2))
    nn.init.constant_(module[0].bias, float("nan"))
    with pytest.raises(ValueError, match=r"module\[0\]: its bias holds NaN"):
        cr.MLP.from_torch(module)


def test_what_is_no_module():
    with pytest.raises(TypeError, match="module is of type dict"):
        cr.MLP.from_torch({"weight": 1})
