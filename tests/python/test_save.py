"""save and load: everything comes back; a damaged file is an error, never a network."""

import errno
import os
import pathlib
import stat

import numpy as np
import pytest
from helpers import same_bits
from test_pickle_copy import rich_net

import chainrule as cr


@pytest.mark.parametrize("kind", [str, pathlib.Path])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_round_trip(tmp_path, dtype, kind):
    mlp, X, y = rich_net(dtype)
    path = kind(tmp_path / "net.model")
    mlp.save(path)
    twin = cr.MLP.load(path)
    for name in ("layer_sizes", "dtype", "hidden_activations", "output_activation", "seed"):
        assert getattr(twin, name) == getattr(mlp, name), name
    assert repr(twin) == repr(mlp)
    assert same_bits(twin.parameters, mlp.parameters)
    assert same_bits(twin.predict(X), mlp.predict(X))
    assert twin.evaluate(X, y) == mlp.evaluate(X, y)
    assert twin.fit(X, y, epochs=2, batch_size=7).loss == mlp.fit(X, y, epochs=2, batch_size=7).loss
    assert same_bits(twin.parameters, mlp.parameters)


def test_saving_twice_replaces_the_file_and_leaves_no_other(tmp_path):
    mlp, X, y = rich_net()
    path = tmp_path / "net.model"
    mlp.save(path)
    mlp.fit(X, y, epochs=1)
    mlp.save(path)
    assert same_bits(cr.MLP.load(path).parameters, mlp.parameters)
    assert [entry.name for entry in tmp_path.iterdir()] == ["net.model"]


def test_a_folder_whose_entries_cannot_be_written_on_request(tmp_path, monkeypatch):
    """As on some network file systems."""
    fsync = os.fsync

    def of_files_alone(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", of_files_alone)
    mlp, _, _ = rich_net()
    mlp.save(tmp_path / "net.model")
    assert same_bits(cr.MLP.load(tmp_path / "net.model").parameters, mlp.parameters)


def test_a_path_of_bytes(tmp_path):
    (tmp_path / "net.model").touch()
    with os.scandir(os.fsencode(tmp_path)) as entries:
        rich_net()[0].save(next(entries))
    assert cr.MLP.load(tmp_path / "net.model").n_parameters == rich_net()[0].n_parameters


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        cr.MLP.load(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError):
        rich_net()[0].save(tmp_path / "no folder" / "net.model")


@pytest.mark.parametrize("write", ["save", "to_onnx", "export_c", "checkpoint"])
def test_a_place_where_no_file_can_be(tmp_path, write):
    """It is said before anything is done, and with the path."""
    pytest.importorskip("onnx", reason="onnx is not installed: no files of it")
    mlp, X, y = rich_net()
    before = mlp.parameters.copy()

    def to(path):
        if write == "checkpoint":
            mlp.fit(X, y, epochs=1, checkpoint=path)
        else:
            getattr(mlp, write)(path)

    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError, match=r"is a folder.*/folder'"):
        to(tmp_path / "folder")
    with pytest.raises(FileNotFoundError, match=r"/nothing/net'"):
        to(tmp_path / "nothing" / "net")
    for given in (3, b"net"):
        with pytest.raises(TypeError, match=r"(path|checkpoint) is .*expected a str or path-like"):
            to(given)
    with pytest.raises(ValueError, match="is empty; expected"):
        to("")
    assert [entry.name for entry in tmp_path.rglob("*")] == ["folder"]
    assert same_bits(mlp.parameters, before)


def test_a_place_where_no_file_is():
    with pytest.raises(TypeError, match="path is 3"):
        cr.MLP.load(3)
    with pytest.raises(ValueError, match="path is empty"):
        cr.MLP.load("")


def test_every_truncation_is_an_error(tmp_path):
    path = tmp_path / "net.model"
    rich_net()[0].save(path)
    data = path.read_bytes()
    for length in [*range(0, len(data), max(1, len(data) // 97)), len(data) - 1]:
        path.write_bytes(data[:length])
        with pytest.raises(ValueError):
            cr.MLP.load(path)


@pytest.mark.parametrize(
    "content", [b"", b"not a model", b"\x00" * 1000, b"\xff" * 1000], ids=["empty", "text", "0", "1"]
)
def test_another_file_is_an_error(tmp_path, content):
    path = tmp_path / "net.model"
    path.write_bytes(content)
    with pytest.raises(ValueError):
        cr.MLP.load(path)


def test_damage_never_crashes(tmp_path):
    """Bytes flipped at random: a ValueError, or a network whose numbers are usable."""
    path = tmp_path / "net.model"
    rich_net()[0].save(path)
    data = np.frombuffer(path.read_bytes(), np.uint8)
    rng = np.random.default_rng(0)
    outcomes = set()
    for _ in range(200):
        damaged = data.copy()
        damaged[rng.integers(len(data), size=3)] = rng.integers(0, 256, size=3)
        path.write_bytes(damaged.tobytes())
        try:
            mlp = cr.MLP.load(path)
        except (ValueError, MemoryError):
            outcomes.add("refused")
        else:
            outcomes.add("loaded")
            assert mlp.parameters.size == mlp.n_parameters
    assert outcomes <= {"refused", "loaded"} and "refused" in outcomes


FILES = pathlib.Path(__file__).resolve().parents[1] / "files"
HOSTILE = sorted((FILES / "hostile").iterdir())


def test_a_file_of_this_version_stays_readable():
    mlp = cr.MLP.load(FILES / "good.safetensors")
    assert repr(mlp) == (
        "MLP(2-3-1, hidden_activation=ELU(alpha=0.5), output_activation='sigmoid', loss='bce', dropout=0.25, "
        "dtype=float32, 13 parameters)"
    )
    assert mlp.seed == 2**63 + 1 and mlp._model.epochs_trained == 2
    expected = np.fromfile(FILES / "good.outputs", np.float32)
    np.testing.assert_allclose(mlp.predict(np.eye(2)).ravel(), expected, rtol=1e-6)


@pytest.mark.parametrize("path", HOSTILE, ids=lambda path: path.stem)
def test_hostile_files_are_refused(path):
    with pytest.raises(ValueError, match=path.name):
        cr.MLP.load(path)


def test_numbers_that_are_none_are_not_saved(tmp_path):
    mlp, _, _ = rich_net()
    mlp.biases[0][0] = np.inf
    with pytest.raises(ValueError, match=r"layers\.0\.bias holds NaN or infinity"):
        mlp.save(tmp_path / "net.model")
    assert list(tmp_path.iterdir()) == []


def test_load_of_a_folder(tmp_path):
    pytest.importorskip("safetensors")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        cr.MLP.load(tmp_path)
