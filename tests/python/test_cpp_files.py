"""examples/cpp, built against the library that the package holds: files go there and come back with the same bits."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

import chainrule as cr


@pytest.fixture(scope="module")
def train(root, tmp_path_factory):
    """train(*arguments) runs the example."""
    found = subprocess.run(
        [sys.executable, "-m", "chainrule", "--cmake-dir"], capture_output=True, text=True, check=False
    )
    beside_python = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)])
    cmake, ninja = (shutil.which(tool, path=beside_python) for tool in ("cmake", "ninja"))
    if found.returncode or not cmake:
        pytest.skip("no CMake, or a package without the C++ library: examples/cpp is not built")
    build = tmp_path_factory.mktemp("cpp")
    configure = ["-S", str(root / "examples" / "cpp"), "-B", str(build), f"-Dchainrule_DIR={found.stdout.strip()}"]
    if ninja:
        configure += ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"]
    cmeel = subprocess.run([sys.executable, "-m", "cmeel", "cmake"], capture_output=True, text=True, check=False)
    if cmeel.returncode == 0:
        configure.append(f"-DCMAKE_PREFIX_PATH={cmeel.stdout.strip()}")
    for command in ([cmake, *configure, "-DCMAKE_BUILD_TYPE=Release"], [cmake, "--build", str(build)]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def run(*arguments):
        done = subprocess.run([build / "train", *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_files_go_to_cpp_and_back(train, tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(100, 3))
    samples, file, predictions = (tmp_path / name for name in ("samples.csv", "net.safetensors", "predictions.csv"))
    np.savetxt(samples, np.column_stack([X, np.sin(X[:, 0])]), delimiter=",", fmt="%.17g")

    losses = [float(word.rstrip(",")) for word in train(samples, file).split() if word[0].isdigit()]
    assert losses[-1] < 0.1 * losses[0]
    mlp = cr.MLP.load(file)
    assert mlp.layer_sizes == (3, 32, 1) and mlp.evaluate(X, np.sin(X[:, 0])) == pytest.approx(losses[-1], rel=0.1)
    train(samples, file, predictions)
    assert np.array_equal(np.loadtxt(predictions), mlp.predict(X).ravel())

    net = cr.MLP([3, 9, 2], hidden_activation=cr.ELU(1 / 3), loss=cr.Quantile([0.1, 1 / 3]), dtype="float64", seed=1)
    net.save(file)
    train(samples, file, predictions)
    assert np.array_equal(np.loadtxt(predictions, delimiter=","), net.predict(X))
    again = cr.MLP.load(file)
    assert repr(again) == repr(net) and again.seed == 1 and again.parameters.tobytes() == net.parameters.tobytes()
