"""Samples that are read block by block; parts of batches; the limit of memory."""

import re
import threading
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from helpers import assert_close, same_bits, state
from nets import smooth_data

import chainrule as cr
from chainrule import memory, stream


def network(dtype="float64", **settings):
    return cr.MLP([4, 16, 2], hidden_activation="tanh", dtype=dtype, seed=3, **settings)


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


class Alone:
    """A communicator of one process."""

    rank, size = 0, 1
    allreduce = bcast = barrier = staticmethod(lambda *array: None)


@pytest.fixture
def maps(tmp_path):
    """X and y as memory maps of files, and in memory."""

    def make(n, dtype="float64"):
        X, y = (array.astype(dtype) for array in smooth_data(n))
        for name, array in (("X", X), ("y", y)):
            np.save(tmp_path / f"{name}.npy", array)
        return *(np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in "Xy"), X, y

    return make


@pytest.mark.parametrize("most", [100, 2**63 - 1])
def test_a_batch_of_more_than_all_rows_is_one_of_all(most):
    X, y = smooth_data(50)
    mlp, twin = network(), network()
    assert mlp.fit([(X, y)], epochs=2, batch_size=most).loss == twin.fit([(X, y)], epochs=2, batch_size=50).loss
    assert same_bits(mlp.parameters, twin.parameters)


class TestMemoryMaps:
    @pytest.mark.parametrize("shuffle", [True, False])
    @pytest.mark.parametrize(("file_dtype", "dtype"), [("float64", "float64"), ("float64", "float32")])
    def test_a_single_block_is_a_fit_in_memory(self, maps, shuffle, file_dtype, dtype):
        X_map, y_map, X, y = maps(70, file_dtype)
        mapped, loaded = network(dtype), network(dtype)
        settings = {"epochs": 3, "batch_size": 16, "shuffle": shuffle, "schedule": "one_cycle"}
        history = mapped.fit(X_map, y_map, sample_weight=np.arange(70), **settings)
        assert history == loaded.fit(X, y, sample_weight=np.arange(70), **settings)
        assert same_bits(mapped.parameters, loaded.parameters)

    def test_blocks_in_order_are_a_fit_in_memory(self, maps, monkeypatch):
        """Blocks hold whole batches, so that cutting changes nothing."""
        monkeypatch.setattr(stream, "BLOCK_BYTES", 1000)
        monkeypatch.setattr("chainrule.fit.BLOCK_BYTES", 1000)
        X_map, y_map, X, y = maps(203)
        mapped, loaded = network(), network()
        mapped.fit(X_map, y_map, epochs=2, batch_size=10, shuffle=False)
        loaded.fit(X, y, epochs=2, batch_size=10, shuffle=False)
        assert same_bits(mapped.parameters, loaded.parameters)

    def test_shuffled_blocks_hold_every_sample_once_and_mixed(self):
        X = np.arange(5000.0)[:, None]
        arrays = stream.ArrayStream((X, X, None), X.dtype, 8, True, 2 * 8 * 1000)
        epochs = []
        for epoch in range(2):
            blocks = [block[0].ravel() for block in arrays.epoch(epoch)]
            assert [len(block) for block in blocks] == [1000] * 5
            assert all(np.ptp(block) > 3000 for block in blocks)
            epochs.append(np.concatenate(blocks))
            assert same_bits(np.sort(epochs[-1]), X.ravel())
        assert not same_bits(*epochs)

    def test_targets_and_weights_count_in_a_block(self):
        """A row takes what it takes in the file or in the network's dtype, whichever is more."""
        X, y, weight = np.zeros((1000, 3)), np.zeros((1000, 97), np.int8), np.zeros(1000, np.float32)
        arrays = stream.ArrayStream((X, y, weight), np.dtype("float32"), 10, True, 100 * (3 * 8 + 97 * 4 + 4))
        assert arrays.block_rows == 100
        assert [len(block[1]) for block in arrays.epoch(0)] == [100] * 10
        assert arrays.most_bytes() == 4 * 100 * (3 * 8 + 97 * 4 + 4)

    def test_columns_that_are_skipped_are_on_the_same_pages(self, tmp_path):
        both = np.lib.format.open_memmap(tmp_path / "both.npy", "w+", "float64", (100, 50))
        arrays = stream.ArrayStream((both[:, :3], both[:, -1], None), both.dtype, 1, False, 20 * 2 * 50 * 8)
        assert arrays.block_rows == 20

    def test_pages_that_cannot_be_given_back_count(self, maps, tmp_path):
        X_map, y_map, _, _ = maps(200)
        changed = np.load(tmp_path / "X.npy", mmap_mode="c")
        most = [
            stream.ArrayStream((X, y_map, None), X.dtype, 10, False, 10 * 6 * 8).most_bytes() for X in (X_map, changed)
        ]
        assert most == [4 * 10 * 6 * 8, 4 * 10 * 6 * 8 + X_map.nbytes]

    def test_fits_of_one_epoch_are_one_of_three(self, maps, monkeypatch):
        monkeypatch.setattr("chainrule.fit.BLOCK_BYTES", 1000)
        X_map, y_map, _, _ = maps(203)
        once, thrice = network(), network()
        optimizers = [cr.Adam(), cr.Adam()]
        once.fit(X_map, y_map, epochs=3, batch_size=10, optimizer=optimizers[0])
        for _ in range(3):
            thrice.fit(X_map, y_map, epochs=1, batch_size=10, optimizer=optimizers[1])
        assert same_bits(once.parameters, thrice.parameters)

    @pytest.mark.parametrize("shuffle", [True, False])
    @pytest.mark.parametrize(("value", "error"), [(np.nan, ValueError), (1e200, cr.NonFiniteError)])
    def test_errors_name_the_row_of_the_arrays(self, maps, monkeypatch, shuffle, value, error):
        monkeypatch.setattr("chainrule.fit.BLOCK_BYTES", 1000)
        X_map, _, _, y = maps(203)
        y[150, 1] = value
        mlp = network()
        mlp.fit(X_map[:150], y[:150], epochs=1)  # for another order
        with pytest.raises(error, match=r"y holds nan at row 150, column 1|loss is inf at sample 150"):
            mlp.fit(X_map, y, epochs=1, batch_size=10, shuffle=shuffle)
        if error is cr.NonFiniteError:
            history = mlp.fit(X_map, y, epochs=2, batch_size=10, shuffle=shuffle, on_nonfinite="ignore")
            assert history.non_finite.row == 150

    @pytest.mark.filterwarnings("error")
    def test_a_number_that_overflows_is_told_like_one_in_memory(self, tmp_path):
        X = np.lib.format.open_memmap(tmp_path / "X.npy", "w+", "float64", (20, 4))
        X[7, 2] = 1e300
        with pytest.raises(ValueError, match="X holds inf at row 7, column 2"):
            network("float32").fit(X, np.zeros((20, 2)), epochs=1)

    def test_a_block_whose_weights_are_all_zero(self, maps, monkeypatch):
        monkeypatch.setattr("chainrule.fit.BLOCK_BYTES", 1000)
        X_map, y_map, X, y = maps(203)
        weight = np.where(np.arange(203) < 120, 0.0, 1.0)
        arguments = {"epochs": 2, "batch_size": 10, "shuffle": False, "sample_weight": weight}
        on_disk, in_memory = network(), network()
        on_disk.fit(X_map, y_map, **arguments)
        in_memory.fit(X, y, **arguments)
        assert same_bits(on_disk.parameters, in_memory.parameters)
        blocks = [(X[:10], y[:10], np.zeros(10)), (X[10:20], y[10:20], np.ones(10))]
        network().fit(blocks, epochs=1)
        with pytest.raises(ValueError, match="X gave no samples with a weight in epoch 1"):
            network().fit(blocks[:1], epochs=1)

    def test_an_error_of_a_callback_stays_as_it_is(self, maps, monkeypatch):
        monkeypatch.setattr("chainrule.fit.BLOCK_BYTES", 1000)
        X_map, y_map, X, _ = maps(203)
        X[150] = np.nan
        mlp = network()
        with pytest.raises(ValueError, match="X holds nan at row 150"):
            mlp.fit(X_map, y_map, epochs=1, batch_size=10, callbacks=[lambda report: mlp.predict(X)])

    @pytest.mark.parametrize(
        "change",
        [
            {"y": [[1], [1, 2]]},
            {"y": "a"},
            {"y": 3.0},
            {"y": np.zeros((20, 2)).astype(object)},
            {"sample_weight": 2.0},
            {"sample_weight": [[1], [1, 2]]},
            {"sample_weight": ["a"] * 20},
            {"sample_weight": np.zeros(20)},
        ],
    )
    def test_what_cannot_be_is_refused_as_in_memory(self, maps, change):
        X_map, y_map, X, y = maps(20)
        mlp, optimizer = network(), cr.Adam()
        before = state(mlp, optimizer)
        with pytest.raises((TypeError, ValueError)) as in_memory:
            mlp.fit(X, epochs=1, optimizer=optimizer, **{"y": y, **change})
        with pytest.raises(type(in_memory.value), match=f"^{re.escape(str(in_memory.value))}$"):
            mlp.fit(X_map, epochs=1, optimizer=optimizer, **{"y": y_map, **change})
        assert state(mlp, optimizer) == before

    def test_a_memory_map_without_rows(self, tmp_path):
        number = np.memmap(tmp_path / "X", dtype="float64", mode="w+", shape=())
        with pytest.raises(ValueError, match=r"X has shape \(\); expected two dimensions"):
            network().fit(number, np.zeros((1, 2)), epochs=1)

    def test_rows_that_do_not_fit(self, maps):
        X_map, y_map, _, _ = maps(20)
        with pytest.raises(ValueError, match="y has 19 rows; X has 20"):
            network().fit(X_map, y_map[:19], epochs=1)


class TestIterables:
    def test_a_list_of_blocks(self):
        X, y = smooth_data(64)
        weight = np.linspace(0, 1, 64)
        blocks = [(X[i : i + 16], y[i : i + 16], weight[i : i + 16]) for i in range(0, 64, 16)]
        streamed, loaded = network(), network()
        streamed.fit(blocks, epochs=3, batch_size=16, shuffle=False)
        loaded.fit(X, y, epochs=3, batch_size=16, shuffle=False, sample_weight=weight)
        assert same_bits(streamed.parameters, loaded.parameters)

    def test_the_next_block_is_read_by_another_thread(self):
        X, y = smooth_data(8)
        readers = set()

        class Source:
            def __iter__(self):
                for _ in range(3):
                    readers.add(threading.get_ident())
                    yield X, y

        assert network().fit(Source(), epochs=2).epochs == 2
        assert threading.get_ident() not in readers
        assert len(readers) == 1

    def test_arrays_that_are_filled_again_and_again(self):
        X, y = smooth_data(64)
        X_block, y_block = np.empty((8, 4)), np.empty((8, 2))

        class Source:
            def __iter__(self):
                for i in range(0, 64, 8):
                    X_block[:], y_block[:] = X[i : i + 8], y[i : i + 8]
                    yield X_block, y_block

        streamed, listed = network(), network()
        streamed.fit(Source(), epochs=3, batch_size=1)
        listed.fit([(X[i : i + 8], y[i : i + 8]) for i in range(0, 64, 8)], epochs=3, batch_size=1)
        assert same_bits(streamed.parameters, listed.parameters)

    def test_masked_blocks_are_refused(self):
        X, y = smooth_data(8)
        with pytest.raises(ValueError, match="X is an array with masked values"):
            network().fit(iter([(np.ma.masked_greater(X, 0), y)]), epochs=1)

    def test_what_has_a_length_and_indices(self):
        X, y = smooth_data(32)

        class Source:
            def __len__(self):
                return 4

            def __getitem__(self, i):
                return X[8 * i : 8 * i + 8], y[8 * i : 8 * i + 8]

        indexed, listed = network(), network()
        indexed.fit(Source(), epochs=3)
        listed.fit([Source()[i] for i in range(4)], epochs=3)
        assert same_bits(indexed.parameters, listed.parameters)

    def test_nothing_is_read_any_more_once_the_fit_has_ended(self):
        X, y = smooth_data(8)
        y[0] = 1e300  # whose square is infinite
        reading = threading.Event()

        def source():
            yield X, y
            reading.set()
            time.sleep(0.1)
            reading.clear()
            yield X, y

        blocks = source()
        network().fit(blocks, epochs=1, on_nonfinite="stop")
        assert not reading.is_set()
        blocks.close()  # a ValueError in the midst of its work

    def test_one_that_is_used_up(self):
        X, y = smooth_data(8)
        mlp = network()
        with pytest.raises(ValueError, match="X gave no samples with a weight in epoch 2"):
            mlp.fit(iter([(X, y)]), epochs=2)
        assert mlp.fit(iter([(X, y)]), epochs=1).epochs == 1

    def test_a_generator_is_refused_before_anything_is_trained(self):
        X, y = smooth_data(8)
        mlp = network()
        before = mlp.parameters.copy()
        with pytest.raises(ValueError, match="X is a generator, which gives its blocks once, and epochs is 2"):
            mlp.fit((block for block in [(X, y)]), epochs=2)
        assert same_bits(mlp.parameters, before)
        assert mlp.fit((block for block in [(X, y)]), epochs=1).epochs == 1

    def test_the_batch_of_a_bad_number_is_that_of_the_epoch(self):
        X, y = smooth_data(64)
        y[37] = 1e300
        blocks = [(X[:32], y[:32]), (X[32:], y[32:])]
        for samples in [(blocks,), (X, y)]:
            history = network(dtype="float64").fit(
                *samples, epochs=1, batch_size=8, shuffle=False, on_nonfinite="ignore"
            )
            assert (history.non_finite.batch, history.non_finite.step, history.non_finite.row) == (5, 5, 37)

    def test_blocks_come_from_predict_or_a_copy_but_nothing_that_waits_for_the_fit(self):
        X, y = smooth_data(32)
        mlp = network()

        class Moved:
            def __init__(self, gradient):
                self.gradient = gradient

            def __iter__(self):
                for i in range(0, 32, 8):
                    yield X[i : i + 8] + 0.1 * np.sign(self.gradient(X[i : i + 8], 0)), y[i : i + 8]

        assert mlp.fit(Moved(mlp.copy().input_gradient), epochs=2).epochs == 2
        assert mlp.fit(Moved(lambda X, _: mlp.predict(X)[:, :1]), epochs=2).epochs == 2
        with pytest.raises(RuntimeError, match="this network is in training, and its samples are read ahead"):
            mlp.fit(Moved(mlp.input_gradient), epochs=2)
        assert mlp.input_gradient(X, 0).shape == X.shape

    @pytest.mark.parametrize(
        ("blocks", "error", "message"),
        [
            ([3], TypeError, "X gave 3"),
            ([(np.ones((2, 3)), np.ones((2, 2)))], ValueError, "X has 3 columns"),
            ([(np.full((2, 4), np.nan), np.ones((2, 2)))], ValueError, "X holds nan"),
            (3, TypeError, "X is 3 .*expected an iterable"),
        ],
        ids=str,
    )
    def test_bad_blocks(self, blocks, error, message):
        with pytest.raises(error, match=message):
            network().fit(blocks, epochs=1)

    def test_an_error_of_the_source_comes_out(self):
        def source():
            yield smooth_data(8)
            raise OSError("the disk is gone")

        with pytest.raises(OSError, match="the disk is gone"):
            network().fit(source(), epochs=1)

    def test_a_source_that_blocks_does_not_keep_the_program_from_ending(self, run_python):
        program = r"""
import os, signal, threading
import numpy as np, chainrule as cr

def blocks():
    yield np.zeros((9, 4)), np.zeros((9, 2))
    threading.Timer(0.1, os.kill, [os.getpid(), signal.SIGINT]).start()
    threading.Event().wait()

try:
    cr.MLP([4, 16, 2]).fit(blocks(), epochs=1)
except KeyboardInterrupt:
    print("interrupted")
"""
        assert run_python("-c", program, timeout=20).stdout == "interrupted\n"

    def test_what_does_not_go_with_an_iterable(self):
        blocks = [smooth_data(8)]
        with pytest.raises(ValueError, match=r"schedule is .* needs the number of steps"):
            network().fit(blocks, epochs=1, schedule="one_cycle")
        with pytest.raises(ValueError, match="sample_weight is given beside an iterable"):
            network().fit(blocks, epochs=1, sample_weight=np.ones(8))


class TestMicroBatches:
    @pytest.mark.parametrize("micro_batch", [1, 7, 32, 1000])
    @pytest.mark.parametrize("weighted", [True, False])
    def test_the_gradient_of_the_parts_is_that_of_the_batch(self, micro_batch, weighted):
        X, y = smooth_data(100)
        settings = {"epochs": 3, "batch_size": 32, "clip_norm": 0.3}
        settings["sample_weight"] = np.random.default_rng(0).uniform(size=100) if weighted else None
        parts, whole = network(), network()
        history = parts.fit(X, y, micro_batch=micro_batch, **settings)
        expected = whole.fit(X, y, **settings)
        assert_close(parts.parameters, whole.parameters, 1e-12)
        assert_close(history.loss, expected.loss, 1e-12)
        assert history.micro_batch == micro_batch

    def test_the_memory_of_a_fit_does_not_grow_with_a_large_batch(self, run_python):
        """The activations and deltas of all rows would take 440 MB."""
        program = r"""
import re
import numpy as np, chainrule as cr
from chainrule import memory
cr.set_num_threads(1)
mlp = cr.MLP([8, *[256] * 10, 1], seed=0)
X, y = np.ones((20_000, 8), np.float32), np.ones(20_000, np.float32)
before = memory.resident()
mlp.fit(X, y, epochs=1, batch_size=20_000)
peak = int(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1]) * 1024
print(mlp._model.tape_bytes(20_000) > 430e6, peak - before < 40e6, peak, before)
"""
        if not Path("/proc/self/status").exists():
            pytest.skip("there is no /proc: the peak of memory is not checked")
        assert run_python("-c", program).stdout.startswith("True True")

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
        parts, whole = network(dropout=0.3), network(dropout=0.3)
        parts.fit(X, y, epochs=3, batch_size=50, micro_batch=7)
        whole.fit(X, y, epochs=3, batch_size=50)
        assert_close(parts.parameters, whole.parameters, 1e-12)


class TestMemoryLimit:
    @pytest.mark.parametrize(
        ("text", "number"), [("2GB", 2e9), ("512MiB", 2**29), (" 1.5 kb ", 1500), ("7", 7), (12, 12)]
    )
    def test_units(self, text, number):
        assert memory.as_bytes(text) == number

    @pytest.mark.parametrize("given", ["2 gigs", "", "-1GB", "GB", 0, -5, "1" * 400])
    def test_bad_limits(self, given):
        with pytest.raises(ValueError, match="memory_limit"):
            network().fit(*smooth_data(), epochs=1, memory_limit=given)

    def test_a_loose_limit_changes_nothing(self):
        X, y = smooth_data()
        limited, free = network(), network()
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
            network().fit(**arguments)
        with pytest.raises(type(without.value), match=f"^{re.escape(str(without.value))}$"):
            network().fit(**arguments, memory_limit="100GB")

    def test_an_impossible_limit_is_an_error_before_training(self):
        mlp = network()
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
                network().fit(*(samples or smooth_data()), epochs=1, memory_limit=1, **arguments)
            return int(str(refused.value).split()[-1].replace(",", ""))

        return of

    @pytest.mark.parametrize("arguments", [{"micro_batch": 1}, {"batch_size": 1}], ids=str)
    def test_a_byte_less_than_needed_is_refused(self, least, arguments):
        """A micro-batch stores the gradient, a whole batch does not."""
        X, y = smooth_data()
        needed = least(**arguments)
        assert network().fit(X, y, epochs=1, memory_limit=needed, **arguments).epochs == 1
        with pytest.raises(ValueError, match=f"needs at least {needed:,}"):
            network().fit(X, y, epochs=1, memory_limit=needed - 1, **arguments)

    def test_a_checkpoint_counts(self, least, tmp_path):
        """A byte of each parameter and copies of what it holds beside these; what was read, and is kept or mapped."""
        n, size = network().n_parameters, network().parameters.nbytes
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
            assert memory.bytes_beside(np.asarray(one), network()) == memory.bytes_beside(one, network())
            assert memory.bytes_beside(one, network()) - memory.bytes_beside(other, network()) == other.nbytes
        assert memory.bytes_beside(np.asarray(X_map)[::2], network()) >= X.nbytes - X[0].nbytes

    def test_what_the_validation_samples_go_through_counts(self, run_python):
        """A network 50,000 units wide, of which some rows at a time take a few megabytes."""
        program = r"""
import re
import numpy as np, chainrule as cr
from chainrule import memory
mlp = cr.MLP([10, 50_000, 1], seed=0)
X, y = np.ones((2000, 10), np.float32), np.ones((2000, 1), np.float32)
limit = memory.resident() + 80_000_000
history = mlp.fit(X, y, epochs=1, batch_size=500, memory_limit=limit, validation=(X, y))
peak = int(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1]) * 1024
print(history.micro_batch < 500, peak <= limit, peak, limit)
"""
        if not Path("/proc/self/status").exists():
            pytest.skip("there is no /proc: the peak of memory is not checked")
        assert run_python("-c", program).stdout.startswith("True True")

    def test_a_batch_of_more_rows_than_a_memory_map_has(self, maps):
        X_map, y_map, X, y = maps(20)
        mapped, loaded = network(), network()
        mapped.fit(X_map, y_map, epochs=2, batch_size=10**9, memory_limit="10GB")
        loaded.fit(X, y, epochs=2, batch_size=10**9)
        assert same_bits(mapped.parameters, loaded.parameters)

    def test_the_peak_stays_below(self, run_python):
        """A batch whose activations take 500 MB is trained within 40 MB more than the process had."""
        program = r"""
import re
import numpy as np, chainrule as cr
from chainrule import memory
cr.set_num_threads(1)
mlp = cr.MLP([8, *[256] * 14, 1], seed=0)
X, y = np.ones((16384, 8), np.float32), np.ones(16384, np.float32)
limit = memory.resident() + 40_000_000
history = mlp.fit(X, y, epochs=1, batch_size=16384, memory_limit=limit)
peak = int(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1]) * 1024  # ru_maxrss counts the parent
print(mlp._model.tape_bytes(16384) > 500e6, 1 <= history.micro_batch < 1024, peak <= limit, peak, limit)
"""
        if not Path("/proc/self/status").exists():
            pytest.skip("there is no /proc: the peak of memory is not checked")
        assert run_python("-c", program).stdout.startswith("True True True")

    def test_the_peak_stays_below_with_wide_targets_on_the_disk(self, run_python, tmp_path):
        """Targets of 160 MB are read within 60 MB more than the process had."""
        for name, columns in (("X", 2), ("y", 2000)):
            np.save(tmp_path / f"{name}.npy", np.ones((20000, columns), np.float32))
        program = r"""
import re
import numpy as np, chainrule as cr
from chainrule import memory
cr.set_num_threads(1)
X, y = (np.load(f"{name}.npy", mmap_mode="r") for name in "Xy")
limit = memory.resident() + 60_000_000
cr.MLP([2, 2000], seed=0).fit(X, y, epochs=1, memory_limit=limit)
peak = int(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1]) * 1024
print(peak <= limit, peak, limit)
"""
        if not Path("/proc/self/status").exists():
            pytest.skip("there is no /proc: the peak of memory is not checked")
        assert run_python("-c", program).stdout.startswith("True")
