"""Parts of batches, and the limit of memory."""

import re
import tracemalloc

import numpy as np
import pytest
from communicators import Alone
from helpers import assert_close, same_bits
from nets import few_samples, smooth_data, smooth_net

import chainrule as cr
from chainrule import memory


class Chunked:
    """An array on the disk as of h5py or zarr."""

    chunks = (16, 1)

    def __init__(self, array):
        self._array = array
        self.shape, self.dtype = array.shape, array.dtype

    def __len__(self):
        return len(self._array)

    def __getitem__(self, rows):
        return self._array[rows]

    def __array__(self, dtype=None, copy=None):
        return self._array.astype(dtype or self.dtype)


class TestMicroBatches:
    @pytest.mark.parametrize("micro_batch", [1, 7, 32, 1000])
    @pytest.mark.parametrize("weighted", [True, False])
    def test_the_gradient_of_the_parts_is_that_of_the_batch(self, micro_batch, weighted):
        X, y = smooth_data(100)
        settings = {"epochs": 3, "batch_size": 32, "clip_norm": 0.3}
        settings["sample_weight"] = np.random.default_rng(0).uniform(size=100) if weighted else None
        parts, whole = smooth_net(), smooth_net()
        history = parts.fit(X, y, micro_batch=micro_batch, **settings)
        expected = whole.fit(X, y, **settings)
        assert_close(parts.parameters, whole.parameters, 1e-12)
        assert_close(history.loss, expected.loss, 1e-12)
        assert history.micro_batch == micro_batch

    def test_the_memory_of_a_fit_does_not_grow_with_a_large_batch(self, run_measured):
        """The activations and deltas of all rows would take 440 MB."""
        program = r"""
mlp = cr.MLP([8, *[256] * 10, 1], seed=0)
X, y = np.ones((20_000, 8), np.float32), np.ones(20_000, np.float32)
before = resident()
mlp.fit(X, y, epochs=1, batch_size=20_000)
print(mlp._model.tape_bytes(20_000) > 430e6, peak() - before < 40e6, peak(), before)
"""
        assert run_measured(program)[:2] == ["True"] * 2

    def test_a_large_batch_is_taken_in_parts_by_itself(self):
        X, y = smooth_data(6000)
        sizes = [X.shape[1], 150, 200, y.shape[1]]
        fitted, stepped, passed = (cr.MLP(sizes, dtype="float64", seed=0) for _ in range(3))
        assert fitted._model.rows_at_a_time(6000, sparse=False) <= 2000
        flow = cr.GradientFlow()
        history = fitted.fit(X, y, epochs=1, batch_size=6000, shuffle=False, optimizer=cr.SGD(lr=1.0), monitor=flow)
        assert stepped.step(X, y, cr.SGD(lr=1.0)) == history.loss[0]
        assert same_bits(stepped.parameters, fitted.parameters)
        passed.forward(X)
        assert passed.backward(y) == pytest.approx(history.loss[0], rel=1e-12)
        assert_close(fitted.parameters, passed.parameters - passed.gradient, 1e-12)
        layers = passed.gradient_flow().layers
        for recorded, layer in zip(flow.report().layers, layers, strict=True):
            assert recorded.activation_mean == pytest.approx(layer.activation_mean, rel=1e-12)
            assert recorded.delta_norm == pytest.approx(layer.delta_norm, rel=1e-12)
        assert flow.report().rows == 6000 and history.micro_batch is None

    def test_a_bad_sample_of_a_large_batch_is_named(self):
        X, y = smooth_data(6000)
        X, order = X.astype(np.float32), np.random.default_rng(0).permutation(6000)
        mlp = cr.MLP([X.shape[1], 300, 200, y.shape[1]], seed=0)
        assert mlp._model.rows_at_a_time(6000, sparse=False) < 2000
        for row in (0, 3500, 5999):
            bad = X.copy()
            bad[row] = 1e38
            before = mlp.parameters.copy()
            for expected, train in (
                (row, lambda bad=bad: mlp.step(bad, y, cr.SGD())),
                (row, lambda bad=bad: mlp.fit(bad, y, epochs=1, batch_size=6000, shuffle=False)),
                (row, lambda bad=bad: mlp.fit(bad, y, epochs=1, batch_size=6000)),
                (
                    np.argmax(order == row),
                    lambda bad=bad: mlp.fit(bad[order], y[order], epochs=1, batch_size=6000, micro_batch=5000),
                ),
            ):
                with pytest.raises(cr.NonFiniteError) as caught:
                    train()
                assert caught.value.where.row == expected
            assert same_bits(mlp.parameters, before)

    def test_dropout_is_that_of_the_batch(self):
        X, y = smooth_data(100)
        parts, whole = smooth_net(dropout=0.3), smooth_net(dropout=0.3)
        parts.fit(X, y, epochs=3, batch_size=50, micro_batch=7)
        whole.fit(X, y, epochs=3, batch_size=50)
        assert_close(parts.parameters, whole.parameters, 1e-12)


class TestMemoryLimit:
    @pytest.mark.parametrize(
        ("text", "number"),
        [
            ("2GB", 2e9),
            ("512MiB", 2**29),
            ("1TiB", 2**40),
            ("3t", 3e12),
            (".5GB", 5e8),
            ("3 tb", 3 * 10**12),
            (" 1.5 kb ", 1500),
            ("7", 7),
            (12, 12),
        ],
    )
    def test_units(self, text, number):
        assert memory.as_bytes(text) == number

    @pytest.mark.parametrize("given", ["2 gigs", "", "-1GB", "GB", 0, -5, "1" * 400])
    def test_bad_limits(self, given):
        with pytest.raises(ValueError, match="memory_limit"):
            smooth_net().fit(*smooth_data(), epochs=1, memory_limit=given)

    def test_a_loose_limit_changes_nothing(self):
        X, y = smooth_data()
        limited, free = smooth_net(), smooth_net()
        assert limited.fit(X, y, epochs=2, memory_limit="100GB") == free.fit(X, y, epochs=2)
        assert same_bits(limited.parameters, free.parameters)

    @pytest.mark.parametrize(
        "change",
        [
            {"X": [[1, 2], [3]]},
            {"y": [[1, 2], [3]]},
            {"validation": (np.ones((2, 4)), 5)},
            {"validation": (np.ones((2, 4)), None)},
            {"validation": (np.ones((2, 4)), [[1, 2], [3]])},
        ],
    )
    def test_what_cannot_be_is_refused_as_without_a_limit(self, change):
        X, y = smooth_data()
        arguments = {"X": X, "y": y, "epochs": 1, **change}
        with pytest.raises((TypeError, ValueError)) as without:
            smooth_net().fit(**arguments)
        with pytest.raises(type(without.value), match=f"^{re.escape(str(without.value))}$"):
            smooth_net().fit(**arguments, memory_limit="100GB")

    def test_an_impossible_limit_is_an_error_before_training(self):
        mlp = smooth_net()
        before = mlp.parameters.copy()
        with pytest.raises(ValueError, match="memory_limit is 1,000,000 bytes; this fit needs at least"):
            mlp.fit(*smooth_data(), epochs=1, memory_limit="1MB")
        assert same_bits(mlp.parameters, before)

    @pytest.fixture
    def least(self, monkeypatch):
        """How many bytes a fit needs at least, beside those of the process."""
        monkeypatch.setattr("chainrule.memory.resident", lambda: 0)

        def of(*samples, **arguments):
            with pytest.raises(ValueError, match="this fit needs at least") as refused:
                smooth_net().fit(*(samples or smooth_data()), epochs=1, memory_limit=1, **arguments)
            return int(str(refused.value).split()[-1].replace(",", ""))

        return of

    @pytest.mark.parametrize("arguments", [{"micro_batch": 1}, {"batch_size": 1}], ids=str)
    def test_a_byte_less_than_needed_is_refused(self, least, arguments):
        """A micro-batch stores the gradient, a whole batch does not."""
        X, y = smooth_data()
        needed = least(**arguments)
        assert smooth_net().fit(X, y, epochs=1, memory_limit=needed, **arguments).epochs == 1
        with pytest.raises(ValueError, match=f"needs at least {needed:,}"):
            smooth_net().fit(X, y, epochs=1, memory_limit=needed - 1, **arguments)

    def test_a_checkpoint_counts(self, least, tmp_path):
        """A byte of each parameter and copies of what it holds beside these; what was read, and is kept or mapped."""
        n, size = smooth_net().n_parameters, smooth_net().parameters.nbytes
        for arguments, kept in (({}, 2), ({"optimizer": "sgd", "patience": 3}, 1)):
            writing = {"checkpoint": tmp_path / "fit", **arguments}
            assert least(**writing) - least(**arguments) == kept * size + n
            assert least(resume=True, **writing) - least(**writing) == (kept + 3) * size

    def test_sparse_samples_count_by_what_they_store(self):
        sparse = pytest.importorskip("scipy.sparse", reason="SciPy is not installed: no sparse matrices")
        X = sparse.csr_array(([1.0, 2.0], ([3, 40], [5, 6])), shape=(50, 10**12))
        assert memory.bytes_beside(X, cr.MLP([1, 1])) == 2 * (8 + 12) + 50 * 8

    def test_copies_of_the_core_count(self):
        """Of arrays in any layout, as the core copies them."""
        mlp, wide = cr.MLP([200, 1], dtype="float64", seed=0), np.ones((500, 400))
        mlp.forward(wide[:, :200])
        shifted = np.frombuffer(bytes(500 * 200 * 8 + 1), np.float64, offset=1).reshape(500, 200)
        arrays = {
            "whole": np.ones((500, 200)),
            "every other row": wide[::2, :200],
            "backwards": wide[::-1, :200],
            "every other column": wide[:, ::2],
            "columns backwards": wide[:, 199::-1],
            "by columns": np.ones((500, 200), order="F"),
            "one row repeated": np.broadcast_to(wide[0, :200], (500, 200)),
            "unaligned": shifted,
            "single precision": np.ones((500, 200), np.float32),
            "other byte order": np.ones((500, 200), ">f8"),
            "a tape's": mlp.activations[0],
        }
        copied = {}
        for name, X in arrays.items():
            y = np.ones(len(X))
            tracemalloc.start()
            mlp.evaluate(X, y)
            copied[name] = tracemalloc.get_traced_memory()[1] > X.size * 8
            tracemalloc.stop()
        assert {name for name, is_copied in copied.items() if is_copied} == set(arrays) - {"whole", "every other row"}
        for name, X in arrays.items():
            assert memory.bytes_beside(X, mlp) == X.size * 8 * copied[name], name

    def test_sparse_validation_samples_never_become_a_matrix(self):
        core = cr.MLP([10**6, 2, 1], init=cr.Normal(1.0))._model
        assert core.predict_bytes(100, sparse=True) < 10**6 < core.predict_bytes(100, sparse=False)

    @pytest.mark.parametrize("dtype", ["int8", "float32", "float64"])
    def test_class_labels_count_by_the_copies_in_64_bits(self, dtype):
        mlp = cr.MLP([1, 2], loss="cross_entropy", dtype="float64", seed=0)
        X, y = np.ones((10**5, 1)), np.ones(10**5, dtype)
        tracemalloc.start()
        mlp.evaluate(X, y)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert 8 * 10**5 < peak < memory.bytes_beside(y, mlp) + 10**5

    def test_what_is_loaded_whole_with_comm_counts(self, maps, least):
        """A memory map by its pages, any other array on the disk by itself, and the core's copies of both."""
        X_map, y_map, X, y = maps(5000)
        in_memory = least(X, y, comm=Alone)
        assert least(X_map, y_map, comm=Alone) - in_memory == X.nbytes + y.nbytes
        assert least(Chunked(X), y, comm=Alone) - in_memory == X.nbytes
        assert least(Chunked(X.astype(np.float32)), y, comm=Alone) - in_memory == X.nbytes // 2 + X.nbytes

    def test_an_array_that_looks_into_a_memory_map_counts_as_one(self, maps):
        X_map, y_map, X, y = maps(5000)
        for one, other in ((X_map, X), (y_map, y)):
            assert memory.bytes_beside(np.asarray(one), smooth_net()) == memory.bytes_beside(one, smooth_net())
            assert memory.bytes_beside(one, smooth_net()) - memory.bytes_beside(other, smooth_net()) == other.nbytes
        assert memory.bytes_beside(np.asarray(X_map)[::2], smooth_net()) >= X.nbytes - X[0].nbytes

    def test_what_the_validation_samples_go_through_counts(self, run_measured):
        """A network 50,000 units wide, of which some rows at a time take a few megabytes."""
        program = r"""
mlp = cr.MLP([10, 50_000, 1], seed=0)
X, y = np.ones((2000, 10), np.float32), np.ones((2000, 1), np.float32)
limit = resident() + 80_000_000
history = mlp.fit(X, y, epochs=1, batch_size=500, memory_limit=limit, validation=(X, y))
print(history.micro_batch < 500, peak() <= limit, peak(), limit)
"""
        assert run_measured(program)[:2] == ["True"] * 2

    def test_a_batch_of_more_rows_than_a_memory_map_has(self, maps):
        X_map, y_map, X, y = maps(20)
        mapped, loaded = smooth_net(), smooth_net()
        mapped.fit(X_map, y_map, epochs=2, batch_size=10**9, memory_limit="10GB")
        loaded.fit(X, y, epochs=2, batch_size=10**9)
        assert same_bits(mapped.parameters, loaded.parameters)

    def test_the_peak_stays_below(self, run_measured):
        """A batch whose activations take 500 MB is trained within 40 MB more than the process had."""
        program = r"""
mlp = cr.MLP([8, *[256] * 14, 1], seed=0)
X, y = np.ones((16384, 8), np.float32), np.ones(16384, np.float32)
limit = resident() + 40_000_000
history = mlp.fit(X, y, epochs=1, batch_size=16384, memory_limit=limit)
print(mlp._model.tape_bytes(16384) > 500e6, 1 <= history.micro_batch < 1024, peak() <= limit, peak(), limit)
"""
        assert run_measured(program)[:3] == ["True"] * 3

    def test_the_peak_stays_below_with_wide_targets_on_the_disk(self, run_measured, tmp_path):
        """Targets of 160 MB are read within 60 MB more than the process had."""
        for name, columns in (("X", 2), ("y", 2000)):
            np.save(tmp_path / f"{name}.npy", np.ones((20000, columns), np.float32))
        program = r"""
X, y = (np.load(f"{name}.npy", mmap_mode="r") for name in "Xy")
limit = resident() + 60_000_000
cr.MLP([2, 2000], seed=0).fit(X, y, epochs=1, memory_limit=limit)
print(peak() <= limit, peak(), limit)
"""
        assert run_measured(program)[:1] == ["True"]

    @pytest.mark.parametrize("validated", [False, True])
    def test_what_a_memory_map_is_said_to_need_is_enough(self, validated, tmp_path, run_measured):
        """However much less was given: blocks become as small as they can before a fit is refused."""
        np.save(tmp_path / "X.npy", np.ones((100_000, 100), np.float32))
        program = f"""
mlp = cr.MLP([100, 50, 1], seed=0)
X, y = np.load("X.npy", mmap_mode="r"), np.ones(100_000, np.float32)
validation = (X, y) if {validated} else None
for limit in (resident(), resident() + 2_000_000):
    try:
        mlp.fit(X, y, epochs=1, memory_limit=limit, validation=validation)
    except ValueError as error:
        least = int(re.search("at least ([0-9,]+)", str(error))[1].replace(",", ""))
limit = least + 2_000_000  # what the process has differs a little from call to call
mlp.fit(X, y, epochs=1, memory_limit=limit, validation=validation)
print(peak() <= limit, least < resident() + (70e6 if {validated} else 30e6), peak(), limit)
"""
        assert run_measured(program)[:2] == ["True"] * 2


def test_memory_with_comm_counts_the_gradient_and_its_sum(monkeypatch):
    X, y = few_samples()
    monkeypatch.setattr(memory, "resident", lambda: 0)

    def needed(**more):
        with pytest.raises(ValueError, match="needs at least") as caught:
            mlp.fit(X, y, epochs=1, batch_size=1, memory_limit=1, optimizer="sgd", **more)
        return int(str(caught.value).rpartition(" ")[2].replace(",", ""))

    mlp = cr.MLP([3, 1000, 1], seed=0)
    assert needed(comm=Alone()) - needed() == 2 * mlp.parameters.nbytes


def test_a_given_micro_batch_is_what_counts_under_a_limit(monkeypatch):
    X, _ = few_samples()
    monkeypatch.setattr(memory, "resident", lambda: 0)
    mlp, many = cr.MLP([3, 1000, 1], seed=0), np.tile(X, (64, 1))
    h = mlp.fit(many, many[:, 0], epochs=1, batch_size=4096, micro_batch=8, memory_limit=memory.OVERHEAD + 4 * 2**20)
    assert h.micro_batch == 8
