"""to_onnx and from_onnx: what onnxruntime computes, and what other exporters write."""

import numpy as np
import pytest
from helpers import assert_close, same_bits
from nets import small_net

import chainrule as cr

onnx = pytest.importorskip("onnx", reason="onnx is not installed: the way to it and back is not checked")

HIDDEN = ["identity", "sigmoid", "tanh", "relu", cr.LeakyReLU(0.2), cr.ELU(0.7), "selu", "gelu", "silu", "softplus"]


def name_of(activation):
    return getattr(activation, "name", activation)


def run(path, X, output=None):
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: its outputs are not checked")
    options = runtime.SessionOptions()
    if X.dtype == np.float64:  # some releases fuse SiLU into a kernel that they have in float32 alone
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(output and [output], {session.get_inputs()[0].name: X})[0]


@pytest.mark.parametrize("activation", [*HIDDEN, "exp", "softmax"], ids=name_of)
def test_onnxruntime_computes_the_same(tmp_path, activation):
    hidden = "tanh" if activation in ("exp", "softmax") else activation
    mlp, X, _ = small_net((4, 20, 20, 3), hidden_activation=hidden, output_activation=activation, dtype="float32")
    mlp.to_onnx(tmp_path / "net.onnx")
    onnx.checker.check_model(tmp_path / "net.onnx", full_check=True)
    for rows in (1, 7):
        there = run(tmp_path / "net.onnx", X[:rows].astype("float32"))
        assert there.shape == (rows, 3) and there.dtype == np.float32
        assert_close(there, mlp.predict(X[:rows]), 1e-6)


@pytest.mark.parametrize("activation", ["identity", "sigmoid", "tanh", "relu", "silu"])
def test_float64_stays_float64(tmp_path, activation):
    mlp, X, _ = small_net((4, 5, 3), hidden_activation=activation)
    mlp.to_onnx(tmp_path / "net.onnx")
    there = run(tmp_path / "net.onnx", X)
    assert there.dtype == np.float64
    assert_close(there, mlp.predict(X), 1e-14)


@pytest.mark.parametrize("activation", [*HIDDEN, "exp", "softmax"], ids=name_of)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_there_and_back(tmp_path, activation, dtype):
    hidden = "tanh" if activation in ("exp", "softmax") else activation
    mlp, X, _ = small_net((4, 5, 3), hidden_activation=hidden, output_activation=activation, dtype=dtype)
    mlp.to_onnx(tmp_path / "net.onnx")
    twin = cr.MLP.from_onnx(tmp_path / "net.onnx", loss="mse")
    assert same_bits(twin.parameters, mlp.parameters) and repr(twin) == repr(mlp)
    assert twin.hidden_activations == mlp.hidden_activations
    assert_close(twin.predict(X), mlp.predict(X), 1e-15 if dtype == "float64" else 1e-7)
    assert cr.MLP.from_onnx(tmp_path / "net.onnx").loss.name == {"exp": "poisson", "softmax": "cross_entropy"}.get(
        activation, "bce" if activation == "sigmoid" else "mse"
    )


@pytest.mark.parametrize("exporter", [13, 17, 20, "dynamo"])
@pytest.mark.filterwarnings("ignore")
def test_what_pytorch_writes(tmp_path, exporter):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: what it exports is not read")
    nn = torch.nn
    torch.manual_seed(0)
    parts = [nn.Sigmoid(), nn.Tanh(), nn.ReLU(), nn.LeakyReLU(0.2), nn.ELU(0.7), nn.SELU(), nn.GELU(), nn.SiLU()]
    hidden = [part for activation in [*parts, nn.Softplus(), nn.Dropout()] for part in (nn.Linear(4, 4), activation)]
    module = nn.Sequential(*hidden, nn.Linear(4, 3), nn.Softmax(dim=1)).eval()
    X = torch.randn(5, 4)
    if exporter == "dynamo":
        pytest.importorskip("onnxscript", reason="onnxscript is not installed: PyTorch's new exporter is not checked")
        settings = {"dynamo": True, "external_data": False, "verbose": False}
    else:
        settings = {"dynamo": False, "opset_version": exporter}
    torch.onnx.export(module, (X,), str(tmp_path / "net.onnx"), **settings)
    mlp = cr.MLP.from_onnx(tmp_path / "net.onnx")
    assert [activation.name for activation in mlp.hidden_activations] == [
        "sigmoid", "tanh", "relu", "leaky_relu", "elu", "selu", "gelu", "silu", "softplus", "identity"
    ]  # fmt: skip
    assert_close(mlp.predict(X.numpy()), module(X).detach().numpy(), 1e-6)


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("zipmap", [True, False])
@pytest.mark.parametrize("target", ["binary", "classes", "strings", "labels", "number"])
@pytest.mark.filterwarnings("ignore")
def test_what_skl2onnx_writes(tmp_path, activation, zipmap, target):
    skl2onnx = pytest.importorskip("skl2onnx", reason="skl2onnx is not installed: what it exports is not read")
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3)).astype("float32")
    y = {
        "binary": rng.integers(2, size=60),
        "classes": rng.integers(3, size=60),
        "strings": np.array(["a", "b", "c"])[rng.integers(3, size=60)],
        "labels": rng.integers(2, size=(60, 3)),
        "number": X[:, 0],
    }[target]
    kind = MLPRegressor if target == "number" else MLPClassifier
    estimator = kind(hidden_layer_sizes=(5, 4), activation=activation, max_iter=5, random_state=0).fit(X, y)
    options = {} if kind is MLPRegressor else {id(estimator): {"zipmap": zipmap}}
    (tmp_path / "net.onnx").write_bytes(skl2onnx.to_onnx(estimator, X[:1], options=options).SerializeToString())
    mlp = cr.MLP.from_onnx(tmp_path / "net.onnx")
    expected = estimator.predict(X).reshape(60, -1) if kind is MLPRegressor else estimator.predict_proba(X)
    assert_close(mlp.predict(X), expected[:, -mlp.layer_sizes[-1] :], 1e-5)


def graph(*nodes, opset=20, **constants):
    """A model of these nodes on the constants; W, b and c are there anyway."""
    values = {"W": np.eye(3), "b": np.ones(3), "c": np.array(2.0), **constants}
    tensors = [onnx.numpy_helper.from_array(np.asarray(v, "float32"), k) for k, v in values.items()]
    info = [onnx.helper.make_tensor_value_info(name, 1, ["n", 3]) for name in ("X", "out")]
    made = [onnx.helper.make_node(operator, inputs, [out], **kw) for operator, inputs, out, kw in nodes]
    model = onnx.helper.make_model(
        onnx.helper.make_graph(made, "g", info[:1], info[1:], tensors),
        opset_imports=[onnx.helper.make_opsetid("", opset)],
        ir_version=9,
    )
    return model


def gemm(a, z, **settings):
    return ("Gemm", [a, "W", "b"], z, settings)


REFUSED = {
    "conv": (graph(("Conv", ["X", "W"], "out", {})), "is Conv; known are"),
    "log softmax": (graph(gemm("X", "z"), ("LogSoftmax", ["z"], "out", {})), "is LogSoftmax; known are"),
    "skip": (
        graph(gemm("X", "z"), gemm("z", "y"), ("Add", ["z", "y"], "out", {})),
        "is no activation of this library",
    ),
    "scaled": (graph(gemm("X", "z"), ("Mul", ["z", "c"], "out", {})), "is no activation of this library"),
    "no bias": (graph(("MatMul", ["X", "W"], "out", {})), "has no bias"),
    "left": (graph(("MatMul", ["W", "X"], "out", {})), "constant weight on the right"),
    "alpha": (graph(gemm("X", "out", alpha=2.0)), "expected alpha 1"),
    "transposed": (graph(gemm("X", "out", transA=1)), "transA 0"),
    "tanh gelu": (graph(gemm("X", "z"), ("Gelu", ["z"], "out", {"approximate": "tanh"})), "has no counterpart"),
    "softmax axis": (graph(gemm("X", "z"), ("Softmax", ["z"], "out", {"axis": 0})), "has no counterpart"),
    "no layer": (graph(("Identity", ["X"], "out", {})), "no linear layer"),
    "first relu": (graph(("Relu", ["X"], "a", {}), gemm("a", "out")), "before the first linear layer"),
    "rounded": (
        graph(gemm("X", "z"), ("Cast", ["z"], "i", {"to": 7}), ("Cast", ["i"], "out", {"to": 1})),
        "Cast to type",
    ),
    "hidden softmax": (graph(gemm("X", "z"), ("Softmax", ["z"], "a", {}), gemm("a", "out")), "softmax"),
    "NaN": (graph(gemm("X", "out"), b=[0, np.nan, 0]), "holds NaN"),
    "widths": (graph(gemm("X", "out"), b=np.ones(2)), r"its bias is \(2,\)"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_anything_else_is_refused_by_name(tmp_path, case):
    model, message = REFUSED[case]
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match=message) as caught:
        cr.MLP.from_onnx(tmp_path / "net.onnx")
    assert "net.onnx" in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"loss": "mze"}, ValueError, r"^loss: unknown name 'mze'; did you mean 'mse'"),
        ({"loss": 3}, TypeError, r"^loss is 3 \(int\)"),
        ({"seed": -1}, ValueError, r"^seed is -1 \(int\)"),
        ({"seed": "1"}, TypeError, r"^seed is '1' \(str\)"),
    ],
    ids=str,
)
def test_bad_arguments_are_not_the_files_fault(tmp_path, arguments, error, message):
    small_net()[0].to_onnx(tmp_path / "net.onnx")
    with pytest.raises(error, match=message):
        cr.MLP.from_onnx(tmp_path / "net.onnx", **arguments)


def test_too_little_memory_is_not_the_files_fault(tmp_path, monkeypatch):
    def allocate(*_):
        raise MemoryError

    small_net()[0].to_onnx(tmp_path / "net.onnx")
    monkeypatch.setattr("chainrule.onnx.network", allocate)
    with pytest.raises(MemoryError):
        cr.MLP.from_onnx(tmp_path / "net.onnx")


def test_data_in_other_files_is_not_followed(tmp_path):
    mlp, _, _ = small_net((4, 40, 3))
    mlp.to_onnx(tmp_path / "whole.onnx")
    model = onnx.load(tmp_path / "whole.onnx")
    onnx.save(model, tmp_path / "net.onnx", save_as_external_data=True, location="data", size_threshold=0)
    with pytest.raises(ValueError, match="lies in another file, which is not followed"):
        cr.MLP.from_onnx(tmp_path / "net.onnx")


def test_a_constant_in_another_file_is_not_followed(tmp_path):
    model = graph(gemm("X", "z"), ("Constant", [], "k", {"value": onnx.numpy_helper.from_array(np.float32([1]))}))
    tensor = model.graph.node[1].attribute[0].t
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/hostname")
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match="lies in another file"):
        cr.MLP.from_onnx(tmp_path / "net.onnx")


def test_a_shape_that_its_data_does_not_fill_allocates_nothing(tmp_path):
    model = graph(gemm("X", "out"))
    model.graph.initializer[0].dims[:] = [1 << 40, 3]
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match=r"net\.onnx"):
        cr.MLP.from_onnx(tmp_path / "net.onnx")


def test_damage_never_crashes(tmp_path):
    path = tmp_path / "net.onnx"
    small_net((3, 4, 2))[0].to_onnx(path)
    data = np.frombuffer(path.read_bytes(), np.uint8)
    rng = np.random.default_rng(0)
    refused = 0
    for i in range(150):
        damaged = data.copy()
        damaged[rng.integers(len(data), size=3)] = rng.integers(0, 256, size=3)
        path.write_bytes(damaged.tobytes()[: None if i % 3 else int(rng.integers(len(data)))])
        try:
            mlp = cr.MLP.from_onnx(path)
        except ValueError:
            refused += 1
        else:
            assert np.isfinite(mlp.parameters).all()
    assert refused > 50


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        cr.MLP.from_onnx(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError):
        small_net()[0].to_onnx(tmp_path / "no folder" / "net.onnx")
