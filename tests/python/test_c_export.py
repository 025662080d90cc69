"""export_c: headers that a strict compiler takes, and that compute and learn what the library does."""

import ctypes
import re
import shutil
import subprocess

import numpy as np
import pytest
from helpers import assert_close
from nets import small_net

import chainrule as cr

COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
needs_compiler = pytest.mark.skipif(
    COMPILER is None, reason="there is no C compiler: exported headers are not compiled"
)
STRICT = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic"]

HIDDEN = ["identity", "sigmoid", "tanh", "relu", cr.LeakyReLU(0.2), cr.ELU(0.7), "selu", "gelu", "silu", "softplus"]
LOSSES = [
    ("mse", "identity"),
    ("mse", "softmax"),
    ("mse", "exp"),
    ("mse", "gelu"),
    ("mae", "tanh"),
    (cr.Huber(0.3), "identity"),
    (cr.Quantile([0.1, 0.5, 0.9]), "identity"),
    ("bce", "sigmoid"),
    ("bce", "identity"),
    ("cross_entropy", "softmax"),
    ("cross_entropy", "identity"),
    ("poisson", "exp"),
    ("poisson", "identity"),
]


def name_of(value):
    return "-".join(map(name_of, value)) if isinstance(value, tuple) else getattr(value, "name", value)


class Compiled:
    """An exported network as a shared library."""

    def __init__(self, mlp, folder, train=False, flags=("-O1",)):
        self.mlp, self.real = mlp, np.ctypeslib.ndpointer(mlp.dtype)
        self.footprint = mlp.export_c(folder / "net.h", train=train)
        lines = ['#include "net.h"', "void predict(const REAL *x, REAL *a) { net_predict(x, a); }"]
        if train:
            lines += [
                "static net_state state;",
                "void start(void) { net_start(&state); }",
                "const REAL *forward(const REAL *x) { return net_forward(&state, x); }",
                "REAL step(const REAL *x, const REAL *y, REAL lr) { return net_step(&state, x, y, lr); }",
                "const REAL *parameters(void) { return state.parameters; }",
                "unsigned long state_size(void) { return sizeof state; }",
            ]
        real = "float" if mlp.dtype == np.float32 else "double"
        (folder / "net.c").write_text("\n".join(lines).replace("REAL", real) + "\n")
        command = [COMPILER, *STRICT, *flags, "-shared", "-fPIC", "net.c", "-o", "net.so", "-lm"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        self.library = ctypes.CDLL(folder / "net.so")
        if train:
            number = ctypes.c_float if mlp.dtype == np.float32 else ctypes.c_double
            self.library.step.restype = number
            self.library.step.argtypes = [self.real, self.real, number]
            self.library.state_size.restype = ctypes.c_ulong
            for function in (self.library.parameters, self.library.forward):
                function.restype = ctypes.POINTER(number)
            self.library.start()

    def predict(self, X):
        outputs = np.empty((len(X), self.mlp.layer_sizes[-1]), self.mlp.dtype)
        self.library.predict.argtypes = [self.real, self.real]
        for x, output in zip(X.astype(self.mlp.dtype), outputs, strict=True):
            self.library.predict(x, output)
        return outputs

    def step(self, x, y, lr):
        return self.library.step(x.astype(self.mlp.dtype), np.atleast_1d(y).astype(self.mlp.dtype), lr)

    @property
    def parameters(self):
        return np.ctypeslib.as_array(self.library.parameters(), (self.mlp.n_parameters,))


@needs_compiler
@pytest.mark.parametrize("activation", [*HIDDEN, "exp", "softmax"], ids=name_of)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_predictions_agree_to_rounding(tmp_path, activation, dtype):
    hidden = "tanh" if activation in ("exp", "softmax") else activation
    mlp, X, _ = small_net((4, 9, 7, 3), hidden_activation=hidden, output_activation=activation, dtype=dtype)
    mlp.parameters[:] *= 2
    compiled = Compiled(mlp, tmp_path)
    assert_close(compiled.predict(3 * X), mlp.predict(3 * X), 1e-6 if dtype == "float32" else 1e-14)


def check_training(mlp, X, y, rows, folder):
    compiled = Compiled(mlp, folder, train=True)
    assert compiled.footprint.state == compiled.library.state_size()
    assert compiled.parameters.tobytes() == mlp.parameters.tobytes()
    optimizer = cr.SGD(lr=0.05)
    for i in range(len(X)):
        here = mlp.step(X[i : i + 1], y[i : i + 1], optimizer)
        there = compiled.step(X[i], rows[i], 0.05)
        assert there == pytest.approx(here, rel=1e-5 if mlp.dtype == np.float32 else 1e-12)
    assert_close(compiled.parameters, mlp.parameters, 1e-6 if mlp.dtype == np.float32 else 1e-13)
    output = np.ctypeslib.as_array(compiled.library.forward(X[0].astype(mlp.dtype).ctypes), (mlp.layer_sizes[-1],))
    assert_close(output, mlp.predict(X[:1])[0], 1e-5 if mlp.dtype == np.float32 else 1e-12)


@needs_compiler
@pytest.mark.parametrize("activation", HIDDEN, ids=name_of)
def test_steps_agree_to_rounding(tmp_path, activation):
    mlp, X, y = small_net((4, 6, 5, 3), hidden_activation=activation)
    check_training(mlp, X, y, y, tmp_path)


@needs_compiler
@pytest.mark.parametrize("task", LOSSES, ids=name_of)
@pytest.mark.parametrize("sizes", [(4, 6, 3), (4, 3)], ids=["2", "1"])
def test_steps_of_every_loss_agree_to_rounding(tmp_path, task, sizes):
    loss, output = task
    mlp = cr.MLP(sizes, hidden_activation="tanh", loss=loss, output_activation=output, dtype="float64", seed=1)
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(7, 4)), rng.uniform(0, 1, size=(7, 3))
    if isinstance(loss, cr.Quantile):
        y = y[:, 0]
    check_training(mlp, X, y, y, tmp_path)


@needs_compiler
def test_it_learns_in_float32(tmp_path):
    mlp, X, y = small_net((4, 6, 3), hidden_activation="gelu", dtype="float32")
    check_training(mlp, X, y, y, tmp_path)


@needs_compiler
def test_far_out_numbers_stay_right(tmp_path):
    mlp = cr.MLP([1, 1], output_activation="softplus", dtype="float32", seed=0)
    mlp.parameters[:] = [1, 0]
    X = np.array([[-80.0], [-30], [0], [30], [1e30]])
    np.testing.assert_allclose(Compiled(mlp, tmp_path).predict(X), mlp.predict(X), rtol=1e-6)


@needs_compiler
def test_several_headers_live_in_one_program(tmp_path):
    """Whatever their names are: keywords of C, or the words that the templates of the code hold."""
    names = ["left", "right", "int", "REAL", "NAME"]
    for name in names:
        cr.MLP([2, 3, 1], loss="bce", seed=0).export_c(tmp_path / f"{name}.h", train=True)
    includes = [f'#include "{name}.h"' for name in [*names, "left"]]
    (tmp_path / "all.c").write_text("\n".join([*includes, "int main(void) { return 0; }\n"]))
    done = subprocess.run(
        [COMPILER, *STRICT, "all.c", "-lm"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_header_uses_math_alone(tmp_path):
    mlp, _, _ = small_net((4, 6, 3))
    mlp.export_c(tmp_path / "net.h", train=True)
    text = (tmp_path / "net.h").read_text()
    assert re.findall(r"#include (.*)", text) == ["<math.h>"]
    assert not re.search(r"malloc|calloc|printf|memcpy", text)


def test_the_footprint_is_told(tmp_path):
    mlp = cr.MLP([4, 8, 6, 3], seed=0)  # 115 parameters of 4 bytes
    footprint = mlp.export_c(tmp_path / "net.h")
    assert (footprint.flash, footprint.stack, footprint.state) == (460, 64, 0)
    assert str(footprint) == "flash: 460 bytes of parameters; RAM: 64 bytes of stack to predict"
    assert str(footprint) in (tmp_path / "net.h").read_text()
    assert "bytes of state to train" in str(mlp.export_c(tmp_path / "net.h", train=True))


@pytest.mark.parametrize("name", ["my-model.h", "2nd.h", "_net.h", "a b.h", "netz\u00e9.h", "x.y.h", ".h", "a;b.h"])
def test_names_that_are_no_c_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match="C identifier"):
        small_net()[0].export_c(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_what_c_cannot_do_is_refused(tmp_path):
    mlp = cr.MLP([2, 3, 1], dropout=0.5, seed=0)
    with pytest.raises(ValueError, match="dropout"):
        mlp.export_c(tmp_path / "net.h", train=True)
    mlp.weights[0][0, 0] = np.nan
    with pytest.raises(ValueError, match=r"layers\.0\.weight holds NaN"):
        mlp.export_c(tmp_path / "net.h")
    with pytest.raises(TypeError, match="train"):
        mlp.export_c(tmp_path / "net.h", train=1)
