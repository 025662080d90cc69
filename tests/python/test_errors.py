"""Wrong input: a typed error that names the argument and what was expected; nothing changes, nothing crashes."""

import numpy as np
import pytest
from helpers import same_bits, state
from nets import few_samples

import chainrule as cr

NAN, INF = float("nan"), float("inf")


class World:
    """A network of four inputs with everything cached, an optimizer in the middle of its work, and right data."""

    def __init__(self, loss, width):
        self.mlp = cr.MLP([4, 5, width], hidden_activation="tanh", loss=loss, dtype="float64", seed=0)
        rng = np.random.default_rng(0)
        self.X = rng.normal(size=(6, 4))
        self.y = {
            "mse": rng.normal(size=(6, width)),
            "bce": rng.integers(0, 2, size=(6, width)),
            "cross_entropy": rng.integers(0, width, size=6),
            "poisson": rng.integers(0, 9, size=(6, width)),
        }[loss]
        self.optimizer = cr.Adam()
        self.mlp.step(self.X, self.y, self.optimizer)
        self.mlp.forward(self.X)
        self.mlp.backward(self.y)


def spoilt(values, where, with_what):
    out = np.array(values, float)
    out[where] = with_what
    return out


def refused(world, call, error, words):
    before = state(world.mlp, world.optimizer)
    with pytest.raises(error, match=words) as caught:
        call()
    assert type(caught.value) in (ValueError, TypeError, RuntimeError), "no subclass, no surprise"
    assert state(world.mlp, world.optimizer) == before


def uses_of_inputs(world):
    mlp, y, optimizer = world.mlp, world.y, world.optimizer
    return {
        "predict": mlp.predict,
        "forward": mlp.forward,
        "evaluate": lambda X: mlp.evaluate(X, y),
        "step": lambda X: mlp.step(X, y, optimizer),
        "fit": lambda X: mlp.fit(X, y, epochs=1, optimizer=optimizer),
        "check_gradients": lambda X: mlp.check_gradients(X, y),
    }


BAD_X = {
    "too few columns": (lambda X: X[:, :3], r"X has 3 columns.*4"),
    "too many columns": (lambda X: np.tile(X, 2), r"X has 8 columns.*4"),
    "one dimension": (lambda X: X[0], r"(?is)\bX\b.*reshape"),
    "three dimensions": (lambda X: X[None], r"\bX\b"),
    "no rows": (lambda X: X[:0], r"\bX\b.*(row|empty|sample)"),
    "NaN": (lambda X: spoilt(X, (2, 0), NAN), r"(?i)X holds .*(nan|inf).*row 2.*column 0"),
    "infinity": (lambda X: spoilt(X, (5, 3), INF), r"(?i)X holds .*(nan|inf).*row 5.*column 3"),
    "minus infinity": (lambda X: spoilt(X, (0, 1), -INF), r"(?i)X holds .*(nan|inf).*row 0.*column 1"),
    "first of several": (
        lambda X: spoilt(spoilt(X, (4, 0), NAN), (3, 2), INF),
        r"(?i)X holds .*(nan|inf).*row 3.*column 2",
    ),
    "float32 NaN": (lambda X: spoilt(X, (1, 1), NAN).astype(np.float32), r"(?i)X holds .*(nan|inf).*row 1.*column 1"),
    "NaN in a strided view": (
        lambda X: spoilt(X, (1, 2), NAN)[::-1, ::-1],
        r"(?i)X holds .*(nan|inf).*row 4.*column 1",
    ),
}


@pytest.mark.parametrize("use", ["predict", "forward", "evaluate", "step", "fit", "check_gradients"])
@pytest.mark.parametrize("case", BAD_X)
def test_inputs(case, use):
    world = World("mse", 3)
    spoil, words = BAD_X[case]
    refused(world, lambda: uses_of_inputs(world)[use](spoil(world.X)), ValueError, words)


def uses_of_targets(world):
    mlp, X, optimizer = world.mlp, world.X, world.optimizer
    return {
        "backward": mlp.backward,
        "backward with lr": lambda y: mlp.backward(y, lr=0.1),
        "evaluate": lambda y: mlp.evaluate(X, y),
        "step": lambda y: mlp.step(X, y, optimizer),
        "fit": lambda y: mlp.fit(X, y, epochs=1, optimizer=optimizer),
        "validation": lambda y: mlp.fit(X, world.y, epochs=1, optimizer=optimizer, validation=(X, y)),
        "check_gradients": lambda y: mlp.check_gradients(X, y),
    }


# case: (loss, width, how y is spoilt, what the message says of it)
BAD_Y = {
    "too few rows": ("mse", 3, lambda y: y[:5], r"has 5 rows; .*6"),
    "too many rows": ("mse", 3, lambda y: np.tile(y, (2, 1)), r"has 12 rows; .*6"),
    "no rows": ("mse", 3, lambda y: y[:0], r"has 0 rows; .*6"),
    "too few columns": ("mse", 3, lambda y: y[:, :2], r"has shape \(6, 2\).*3"),
    "one dimension for three outputs": ("mse", 3, lambda y: y[:, 0], r"has shape \(6,\).*3"),
    "two columns for one output": ("mse", 1, lambda y: np.tile(y, 2), r"has shape \(6, 2\).*1"),
    "three dimensions": ("mse", 3, lambda y: y[None], r"has shape \(1, 6, 3\)"),
    "a number": ("mse", 1, lambda y: 1.0, r"has shape \(\)"),
    "NaN": ("mse", 3, lambda y: spoilt(y, (2, 0), NAN), r"holds nan at row 2"),
    "infinity": ("mse", 1, lambda y: spoilt(y, (4, 0), INF), r"holds inf at row 4"),
    "NaN in one dimension": ("mse", 1, lambda y: spoilt(y, (4, 0), NAN)[:, 0], r"holds nan at row 4"),
    "label too large": ("cross_entropy", 3, lambda y: np.array([0, 1, 2, 3, 0, 1]), r"holds the label 3 at row 3"),
    "label negative": ("cross_entropy", 3, lambda y: np.array([0, 1, -1, 2, 0, 1]), r"holds the label -1 at row 2"),
    "label enormous": (
        "cross_entropy",
        3,
        lambda y: np.array([0, 1, 2**62, 2, 0, 1]),
        r"holds the label 4611686018427387904",
    ),
    "label unsigned enormous": (
        "cross_entropy",
        3,
        lambda y: np.array([0, 1, 2**64 - 1, 2, 0, 1], np.uint64),
        r"holds the label .* at row 2",
    ),
    "labels, too few": ("cross_entropy", 3, lambda y: y[:4], r"has 4 rows; .*6"),
    "probability negative": (
        "cross_entropy",
        3,
        lambda y: spoilt(np.eye(3)[y], (1, 1), -0.5),
        r"holds -0\.5 at row 1, column 1",
    ),
    "probability NaN": (
        "cross_entropy",
        3,
        lambda y: spoilt(np.eye(3)[y], (1, 1), NAN),
        r"holds nan at row 1, column 1",
    ),
    "one-hot of another width": ("cross_entropy", 3, lambda y: np.eye(4)[y], r"has shape \(6, 4\).*3"),
    "bce above one": ("bce", 1, lambda y: spoilt(y, (3, 0), 1.5), r"holds 1\.5 at row 3"),
    "bce below zero": ("bce", 2, lambda y: spoilt(y, (3, 0), -1), r"holds -1 at row 3"),
    "bce label two": ("bce", 1, lambda y: y + 1, r"holds 2 at row 0"),
    "bce NaN": ("bce", 1, lambda y: spoilt(y, (3, 0), NAN), r"holds nan at row 3"),
    "count negative": ("poisson", 2, lambda y: spoilt(y, (0, 1), -1), r"holds -1 at row 0, column 1"),
}


@pytest.mark.parametrize(
    "use", ["backward", "backward with lr", "evaluate", "step", "fit", "validation", "check_gradients"]
)
@pytest.mark.parametrize("case", BAD_Y)
def test_targets(case, use):
    loss, width, spoil, words = BAD_Y[case]
    world = World(loss, width)
    wrong = spoil(world.y)
    refused(world, lambda: uses_of_targets(world)[use](wrong), ValueError, rf"^(validation )?y {words}")


@pytest.mark.parametrize("d_out", [3, 5])
def test_quantile_outputs_are_targets_times_quantiles(d_out):
    """Five outputs cannot be shared among two quantiles."""
    with pytest.raises(ValueError, match=r"(?i)quantile"):
        cr.MLP([2, d_out], loss=cr.Quantile([0.1, 0.9]), seed=0)


def test_quantile_targets_of_another_width():
    mlp = cr.MLP([2, 6], loss=cr.Quantile([0.1, 0.5, 0.9]), seed=0)
    X = np.ones((4, 2))
    assert np.isfinite(mlp.evaluate(X, np.zeros((4, 2))))
    for wrong in (np.zeros((4, 6)), np.zeros((4, 3)), np.zeros(4)):
        with pytest.raises(ValueError, match=r"^y has shape"):
            mlp.evaluate(X, wrong)


BAD_WEIGHTS = {
    "too few": (np.ones(5), ValueError, r"sample_weight.* 5 .*6"),
    "two dimensions": (np.ones((6, 2)), ValueError, r"sample_weight"),
    "a number": (1.0, ValueError, r"sample_weight"),
    "negative": (np.array([1, 1, -1, 1, 1, 1]), ValueError, r"sample_weight"),
    "NaN": (np.array([1, 1, NAN, 1, 1, 1]), ValueError, r"sample_weight"),
    "infinite": (np.array([1, 1, INF, 1, 1, 1]), ValueError, r"sample_weight"),
    "all zero": (np.zeros(6), ValueError, r"sample_weight"),
    "complex": (np.ones(6, complex), TypeError, r"sample_weight"),
    "objects": (np.ones(6, object), TypeError, r"sample_weight"),
    "text": ("balanced", TypeError, r"sample_weight"),
}


@pytest.mark.parametrize("use", ["backward", "evaluate", "step", "fit", "check_gradients"])
@pytest.mark.parametrize("case", BAD_WEIGHTS)
def test_sample_weight(case, use):
    world = World("mse", 3)
    wrong, error, words = BAD_WEIGHTS[case]
    mlp, X, y, optimizer = world.mlp, world.X, world.y, world.optimizer
    call = {
        "backward": lambda: mlp.backward(y, sample_weight=wrong),
        "evaluate": lambda: mlp.evaluate(X, y, sample_weight=wrong),
        "step": lambda: mlp.step(X, y, optimizer, sample_weight=wrong),
        "fit": lambda: mlp.fit(X, y, epochs=1, optimizer=optimizer, sample_weight=wrong),
        "check_gradients": lambda: mlp.check_gradients(X, y, sample_weight=wrong),
    }[use]
    refused(world, call, error, words)


BAD_GRAD_OUTPUT = {
    "too few rows": lambda g: g[:5],
    "too few columns": lambda g: g[:, :2],
    "one dimension": lambda g: g[:, 0],
    "NaN": lambda g: spoilt(g, (1, 1), NAN),
    "infinity": lambda g: spoilt(g, (1, 1), INF),
}


@pytest.mark.parametrize("case", BAD_GRAD_OUTPUT)
def test_grad_output(case):
    world = World("mse", 3)
    wrong = BAD_GRAD_OUTPUT[case](np.ones((6, 3)))
    refused(world, lambda: world.mlp.pullback(wrong), ValueError, "grad_output")


@pytest.mark.parametrize("lr", [NAN, INF, -INF, -0.1])
def test_lr_of_backward(lr):
    world = World("mse", 3)
    refused(world, lambda: world.mlp.backward(world.y, lr=lr), ValueError, r"\blr\b")


def test_lr_of_backward_that_is_no_number():
    world = World("mse", 3)
    refused(world, lambda: world.mlp.backward(world.y, lr="fast"), TypeError, "lr is 'fast'")


class TestBeforeForward:
    @pytest.mark.parametrize("use", ["backward", "pullback", "gradient_flow"])
    def test_needs_forward_or_backward(self, use):
        mlp = cr.MLP([4, 5, 3], seed=0)
        call = {
            "backward": lambda: mlp.backward(np.zeros((6, 3))),
            "pullback": lambda: mlp.pullback(np.zeros((6, 3))),
            "gradient_flow": lambda: mlp.gradient_flow(),
        }[use]
        before = state(mlp)
        with pytest.raises(RuntimeError, match=r"(?i)forward|backward"):
            call()
        assert state(mlp) == before

    def test_predict_is_not_forward(self):
        mlp = cr.MLP([4, 5, 3], seed=0)
        mlp.predict(np.ones((6, 4)))
        mlp.evaluate(np.ones((6, 4)), np.zeros((6, 3)))
        with pytest.raises(RuntimeError, match=r"(?i)forward"):
            mlp.backward(np.zeros((6, 3)))

    def test_a_failed_forward_is_not_forward(self):
        mlp = cr.MLP([4, 5, 3], seed=0)
        with pytest.raises(ValueError, match=r"X"):
            mlp.forward(np.full((6, 4), NAN))
        with pytest.raises(RuntimeError, match=r"(?i)forward"):
            mlp.backward(np.zeros((6, 3)))


BAD_NETWORKS = {
    "unknown hidden activation": (
        {"hidden_activation": "rellu"},
        ValueError,
        r"hidden_activation.*'rellu'.*did you mean 'relu'",
    ),
    "unknown hidden activation of a layer": (
        {"hidden_activation": ["tanh", "sigmod"]},
        ValueError,
        r"hidden_activation.*'sigmod'.*'sigmoid'",
    ),
    "unknown output activation": (
        {"output_activation": "softmx"},
        ValueError,
        r"output_activation.*'softmx'.*did you mean 'softmax'",
    ),
    "unknown loss": ({"loss": "cross_entrpy"}, ValueError, r"loss.*'cross_entrpy'.*did you mean 'cross_entropy'"),
    "unknown init": ({"init": "xaver"}, ValueError, r"init.*'xaver'.*did you mean 'xavier'"),
    "unknown and like nothing": ({"loss": "zzzzzz"}, ValueError, r"loss.*'zzzzzz'.*mse"),
    "known names are listed": ({"hidden_activation": "qqq"}, ValueError, r"hidden_activation.*identity.*softplus"),
    "empty name": ({"loss": ""}, ValueError, r"loss"),
    "output-only activation, exp": ({"hidden_activation": "exp"}, ValueError, r"hidden_activation.*exp"),
    "output-only activation, softmax": ({"hidden_activation": "softmax"}, ValueError, r"hidden_activation.*softmax"),
    "too few activations": ({"hidden_activation": ["relu"]}, ValueError, r"hidden_activation.*1.*2"),
    "too many activations": ({"hidden_activation": ["relu"] * 3}, ValueError, r"hidden_activation.*3.*2"),
    "activation of another type": ({"hidden_activation": 3}, TypeError, r"hidden_activation"),
    "output activation of another type": ({"output_activation": 3.0}, TypeError, r"output_activation"),
    "loss of another type": ({"loss": ["mse"]}, TypeError, r"loss"),
    "init of another type": ({"init": 1.0}, TypeError, r"init"),
    "a loss as activation": ({"hidden_activation": cr.Huber()}, TypeError, r"hidden_activation"),
    "unknown dtype": ({"dtype": "float16"}, ValueError, r"dtype.*float32.*float64"),
    "integer dtype": ({"dtype": int}, ValueError, r"dtype"),
    "dtype in the other byte order": ({"dtype": ">f8"}, ValueError, r"dtype is >f8.*float64"),
    "misspelt dtype": ({"dtype": "flaot32"}, ValueError, r"dtype.*did you mean 'float32'"),
    "no dtype at all": ({"dtype": None}, TypeError, r"dtype is None"),
    "negative seed": ({"seed": -1}, ValueError, r"seed"),
    "seed too large": ({"seed": 2**64}, ValueError, r"seed"),
    "seed with a fraction": ({"seed": 1.5}, TypeError, r"seed"),
    "seed as text": ({"seed": "7"}, TypeError, r"seed"),
}


@pytest.mark.parametrize("case", BAD_NETWORKS)
def test_network_settings(case):
    settings, error, words = BAD_NETWORKS[case]
    with pytest.raises(error, match=words):
        cr.MLP([4, 5, 6, 3], **settings)


BAD_SIZES = {
    "none": ([], ValueError),
    "one": ([4], ValueError),
    "zero": ([4, 0, 3], ValueError),
    "zero inputs": ([0, 3], ValueError),
    "negative": ([4, -5, 3], ValueError),
    "a fraction": ([4, 5.5, 3], TypeError),
    "a float": ([4, 5.0, 3], TypeError),
    "text": ([4, "5", 3], TypeError),
    "a name": ("453", TypeError),
    "None": (None, TypeError),
    "None inside": ([4, None, 3], TypeError),
    "a number": (4, TypeError),
    "a number as an array": (np.array(4), TypeError),
    "a set": ({2, 4, 1}, TypeError),
    "a dictionary": ({2: 4, 4: 1}, TypeError),
    "nested": ([[4, 5], [5, 3]], TypeError),
}


@pytest.mark.parametrize(("dropout", "error"), [("half", TypeError), (7.0, ValueError), (np.array("x"), TypeError)])
def test_dropout_of_a_network_without_hidden_layers(dropout, error):
    with pytest.raises(error, match="dropout is"):
        cr.MLP([2, 1], dropout=dropout)


@pytest.mark.parametrize("case", BAD_SIZES)
def test_layer_sizes(case):
    sizes, error = BAD_SIZES[case]
    with pytest.raises(error, match=r"layer_sizes"):
        cr.MLP(sizes)


@pytest.mark.parametrize(
    "sizes",
    [
        [2**40, 2**40],
        [10**7, 10**7],
        [4194305, 4194305, 211106198978564],
        [2**31, 2**31, 2**31],
        [2**62, 4],
        [1, 2**63 - 1],
        [1, 2**63],
        [1, 2**64 + 1],
        [10**30, 1],
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_layer_sizes_that_no_memory_holds(sizes, dtype):
    """The product overflows or asks for hundreds of terabytes: an error at once."""
    with pytest.raises((MemoryError, ValueError)):
        cr.MLP(sizes, dtype=dtype)


@pytest.mark.parametrize("dtype", ["float64", "f8", "<f8", "d", "double", float, np.float64, np.dtype("f8")], ids=str)
def test_dtypes_in_every_spelling(dtype):
    assert cr.MLP([4, 3], dtype=dtype, seed=0).dtype == np.float64


def test_sizes_of_numpy_integers_are_sizes():
    assert cr.MLP(np.array([4, 5, 3], np.int16), seed=0).layer_sizes == (4, 5, 3)
    assert cr.MLP((np.uint8(4), 3), seed=0).layer_sizes == (4, 3)


BAD_FITS = {
    "epochs zero": ({"epochs": 0}, ValueError, "epochs"),
    "epochs negative": ({"epochs": -1}, ValueError, "epochs"),
    "epochs a fraction": ({"epochs": 1.5}, TypeError, "epochs"),
    "epochs as text": ({"epochs": "3"}, TypeError, "epochs"),
    "batch_size zero": ({"batch_size": 0}, ValueError, "batch_size"),
    "batch_size negative": ({"batch_size": -4}, ValueError, "batch_size"),
    "batch_size a fraction": ({"batch_size": 2.5}, TypeError, "batch_size"),
    "optimizer unknown": ({"optimizer": "adm"}, ValueError, "optimizer.*'adm'.*did you mean 'adam'"),
    "optimizer of another type": ({"optimizer": 3}, TypeError, "optimizer"),
    "optimizer class": ({"optimizer": cr.Adam}, TypeError, "optimizer"),
    "schedule unknown": ({"schedule": "cosin"}, ValueError, "schedule.*'cosin'.*did you mean 'cosine'"),
    "schedule of another type": ({"schedule": 3}, TypeError, "schedule"),
    "patience zero": ({"patience": 0}, ValueError, "patience"),
    "patience negative": ({"patience": -1}, ValueError, "patience"),
    "patience a fraction": ({"patience": 1.5}, TypeError, "patience"),
    "clip_norm zero": ({"clip_norm": 0}, ValueError, "clip_norm"),
    "clip_norm negative": ({"clip_norm": -1.0}, ValueError, "clip_norm"),
    "clip_norm NaN": ({"clip_norm": NAN}, ValueError, "clip_norm"),
    "clip_norm as text": ({"clip_norm": "1"}, TypeError, "clip_norm"),
    "validation of one part": ({"validation": (np.ones((2, 4)),)}, ValueError, "validation"),
    "validation of four parts": ({"validation": (np.ones((2, 4)),) * 4}, ValueError, "validation"),
    "validation a fraction": ({"validation": 0.2}, TypeError, "validation"),
    "callbacks no functions": ({"callbacks": [3]}, TypeError, "callbacks"),
}


@pytest.mark.parametrize("case", BAD_FITS)
def test_fit_settings(case):
    world = World("mse", 3)
    settings, error, words = BAD_FITS[case]
    settings = {"epochs": 1, "optimizer": world.optimizer, **settings}
    refused(world, lambda: world.mlp.fit(world.X, world.y, **settings), error, words)


@pytest.mark.parametrize(
    ("validation", "words"),
    [
        (lambda X, y: (X[:, :3], y), r"3 columns.*4"),
        (lambda X, y: (X, y[:5]), r" 5 .*6"),
        (lambda X, y: (spoilt(X, (2, 1), NAN), y), r"nan.*row 2"),
        (lambda X, y: (X[:0], y[:0]), r""),
        (lambda X, y: (X, y, np.ones(5)), r" 5 .*6"),
        (lambda X, y: (X, y, -np.ones(6)), r""),
    ],
    ids=["columns of X", "rows of y", "NaN in X", "empty", "rows of weights", "negative weights"],
)
def test_validation_data(validation, words):
    world = World("mse", 3)
    wrong = validation(world.X, world.y)
    call = lambda: world.mlp.fit(world.X, world.y, epochs=1, optimizer=world.optimizer, validation=wrong)  # noqa: E731
    refused(world, call, ValueError, rf"(?is)(?=.*validation).*{words}")


def test_epochs_must_be_given():
    world = World("mse", 3)
    refused(world, lambda: world.mlp.fit(world.X, world.y), TypeError, "epochs")


@pytest.mark.parametrize("optimizer", ["adam", None, 3, cr.Adam], ids=["name", "None", "int", "class"])
def test_step_needs_an_optimizer_with_its_own_state(optimizer):
    world = World("mse", 3)
    refused(world, lambda: world.mlp.step(world.X, world.y, optimizer), TypeError, "optimizer is")


def test_settings_are_keywords():
    with pytest.raises(TypeError):
        cr.MLP([2, 3], "relu")
    with pytest.raises(TypeError, match=r"learning_rate"):
        cr.MLP([2, 3], learning_rate=0.1)
    world = World("mse", 3)
    refused(world, lambda: world.mlp.fit(world.X, world.y, 3), TypeError, None)


@pytest.mark.parametrize(
    ("build", "error", "words"),
    [
        (lambda: cr.Huber(delta=0.0), ValueError, "delta"),
        (lambda: cr.Huber(delta=-1.0), ValueError, "delta"),
        (lambda: cr.Huber(delta=NAN), ValueError, "delta"),
        (lambda: cr.Huber(delta="1"), TypeError, None),
        (lambda: cr.Quantile([]), ValueError, "quantiles"),
        (lambda: cr.Quantile([0.0, 0.5]), ValueError, "quantiles"),
        (lambda: cr.Quantile([0.5, 1.0]), ValueError, "quantiles"),
        (lambda: cr.Quantile([NAN]), ValueError, "quantiles"),
        (lambda: cr.Quantile([[0.1], [0.9]]), (ValueError, TypeError), "quantiles"),
        (lambda: cr.ELU(alpha=NAN), ValueError, "alpha"),
        (lambda: cr.LeakyReLU(negative_slope=INF), ValueError, "negative_slope"),
        (lambda: cr.Normal(std=-1.0), ValueError, "std"),
        (lambda: cr.Normal(std=NAN), ValueError, "std"),
        (lambda: cr.Uniform(bound=-0.1), ValueError, "bound"),
        (lambda: cr.Uniform(bound=INF), ValueError, "bound"),
    ],
)
def test_parameters_of_losses_activations_and_inits(build, error, words):
    with pytest.raises(error, match=words):
        build()


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: cr.Adam(lr="x"), r"^lr is 'x' \(str\); expected a number$"),
        (lambda: cr.Adam(1, 0.9), r"^betas is 0\.9 \(float\); expected two numbers$"),
        (lambda: cr.SGD(momentum=None), r"^momentum is None \(NoneType\); expected a number$"),
        (lambda: cr.SGD(lr=True), r"^lr is True \(bool\); expected a number$"),
        (lambda: cr.SGD(nesterov=1), r"^nesterov is 1 \(int\); expected True or False$"),
        (lambda: setattr(cr.RMSprop(), "alpha", "x"), r"^alpha is 'x' \(str\); expected a number$"),
        (lambda: cr.RMSprop(beta=3), r"^RMSprop\(\) got an unknown argument 'beta'; it takes \(lr, alpha, eps, "),
        (lambda: cr.Adam(0.1, lr=0.1), r"^Adam\(\) got 'lr' twice; "),
        (lambda: cr.StepDecay(2.5), r"^step_size is 2\.5 \(float\); expected an integer$"),
        (lambda: cr.Plateau(0.1, True), r"^patience is True \(bool\); expected an integer$"),
        (lambda: cr.CosineDecay(0, 1), r"^CosineDecay\(\) got 2 arguments; it takes \(eta_min\)$"),
        (lambda: cr.ConstantRate(lr=1), r"^ConstantRate\(\) got an unknown argument 'lr'; it takes \(\)$"),
        (lambda: cr.LeakyReLU("a"), r"^negative_slope is 'a' \(str\); expected a number$"),
        (lambda: cr.Huber(None), r"^delta is None \(NoneType\); expected a number$"),
        (lambda: cr.Uniform(bound=[1]), r"^bound is \[1\] \(list\); expected a number$"),
    ],
)
def test_settings_of_another_type(build, words):
    with pytest.raises(TypeError, match=words):
        build()


def test_a_batch_that_does_not_fit_in_memory_changes_nothing():
    """Ten million rows that are one row, over a layer of ten million units: hundreds of terabytes of tape."""
    mlp = cr.MLP([1, 10_000_000, 1], seed=0)
    before = mlp.parameters.copy()
    with pytest.raises(MemoryError):
        mlp.forward(np.broadcast_to(np.float32(1), (10_000_000, 1)))
    assert same_bits(mlp.parameters, before)
    with pytest.raises(RuntimeError, match=r"(?i)forward"):
        mlp.backward(np.zeros(10_000_000))


@pytest.mark.parametrize("index", ["x", 10, -10])
def test_lists_raise_as_lists_do(index):
    mlp = cr.MLP([2, 3], seed=0)
    with pytest.raises((IndexError, TypeError)):
        mlp.weights[index]


HUGE = 10**5000  # which Python does not write out


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: cr.MLP([2, 1], seed=HUGE), ValueError, "^seed is a huge number"),
        (lambda: cr.MLP([2, 1]).input_gradient([[1, 2]], HUGE), ValueError, "^output is a huge number"),
        (lambda: cr.StepDecay(2**63), ValueError, r"^step_size is .*; expected an integer up to 2\*\*63 - 1"),
        (lambda: cr.SGD(10**400), ValueError, r"^lr is .*; expected a number up to 1\.8e308"),
        (lambda: setattr(cr.SGD(), "lr", HUGE), ValueError, "^lr is a huge number"),
        (lambda: cr.Adam(betas=3), TypeError, r"^betas is 3 \(int\); expected two numbers"),
        (lambda: cr.MLP([2, 1], loss=cr.Huber(1e-50)), ValueError, "^the parameter of loss 'huber' is 1e-50"),
        (lambda: cr.MLP([2, 1], init=cr.Normal(1e300)), ValueError, r"^the parameter of init is 1e\+300"),
        (lambda: cr.MLP([2, 1, 1], hidden_activation=cr.ELU(1e39)), ValueError, r"^alpha is 1e\+39"),
    ],
)
def test_numbers_beyond_what_the_core_holds(call, error, words):
    with pytest.raises(error, match=words):
        call()


@pytest.mark.parametrize("call", ["save", "load", "checkpoint"])
def test_paths_with_null_characters(call):
    mlp = cr.MLP([2, 1])
    with pytest.raises(ValueError, match=r"is 'a\\x00b' \(str\); expected a path without null characters"):
        if call == "checkpoint":
            mlp.fit([[1, 2]], [1], epochs=1, checkpoint="a\0b")
        else:
            getattr(mlp, call)("a\0b")


@pytest.mark.parametrize("value", ["3", 2.5, None, [3]])
def test_what_is_no_integer(value):
    X, y = few_samples()
    with pytest.raises(TypeError, match=r"epochs is .*expected an integer"):
        cr.MLP([3, 1]).fit(X, y, epochs=value)


@pytest.mark.parametrize("given", [True, np.True_], ids=repr)
def test_a_bool_is_no_integer(given):
    X, y = few_samples()
    with pytest.raises(TypeError, match=r"epochs is .*True.*expected an integer"):
        cr.MLP([3, 1]).fit(X, y, epochs=given)


def test_a_number_beyond_floats():
    with pytest.raises(ValueError, match="finite"):
        cr.LeakyReLU(10**400)


def test_callbacks_that_cannot_be_called():
    X, y = few_samples()
    with pytest.raises(TypeError, match="callbacks is 5"):
        cr.MLP([3, 1]).fit(X, y, epochs=1, callbacks=5)


def test_dropout_of_all_units():
    with pytest.raises(ValueError, match=r"dropout is 1.0 \(float\); expected a number in \[0, 1\)"):
        cr.MLP([3, 4, 1], dropout=1.0)


def test_more_threads_than_can_be_counted():
    with pytest.raises(ValueError, match="n is"):
        cr.set_num_threads(2**31)
