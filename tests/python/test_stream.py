"""Samples that are read block by block, off the disk or from a source."""

import re
import threading
import time

import numpy as np
import pytest
from helpers import same_bits, state
from nets import smooth_data, smooth_net

import chainrule as cr
from chainrule import stream


@pytest.mark.parametrize("most", [100, 2**63 - 1])
def test_a_batch_of_more_than_all_rows_is_one_of_all(most):
    X, y = smooth_data(50)
    mlp, twin = smooth_net(), smooth_net()
    assert mlp.fit([(X, y)], epochs=2, batch_size=most).loss == twin.fit([(X, y)], epochs=2, batch_size=50).loss
    assert same_bits(mlp.parameters, twin.parameters)


class TestMemoryMaps:
    @pytest.mark.parametrize("shuffle", [True, False])
    @pytest.mark.parametrize(("file_dtype", "dtype"), [("float64", "float64"), ("float64", "float32")])
    def test_a_single_block_is_a_fit_in_memory(self, maps, shuffle, file_dtype, dtype):
        X_map, y_map, X, y = maps(70, file_dtype)
        mapped, loaded = smooth_net(dtype), smooth_net(dtype)
        settings = {"epochs": 3, "batch_size": 16, "shuffle": shuffle, "schedule": "one_cycle"}
        history = mapped.fit(X_map, y_map, sample_weight=np.arange(70), **settings)
        assert history == loaded.fit(X, y, sample_weight=np.arange(70), **settings)
        assert same_bits(mapped.parameters, loaded.parameters)

    def test_blocks_in_order_are_a_fit_in_memory(self, maps, monkeypatch):
        """Blocks hold whole batches, so that cutting changes nothing."""
        monkeypatch.setattr(stream, "BLOCK_BYTES", 1000)
        X_map, y_map, X, y = maps(203)
        mapped, loaded = smooth_net(), smooth_net()
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

    def test_an_array_that_is_no_matrix_is_described_by_its_own_shape(self, maps):
        X, y, _, _ = maps(203)
        with pytest.raises(ValueError, match=r"^X has shape \(203,\); expected two dimensions, \(n, 4\)$"):
            smooth_net().fit(X[:, 0], y, epochs=1)

    def test_fits_of_one_epoch_are_one_of_three(self, maps, monkeypatch):
        monkeypatch.setattr(stream, "BLOCK_BYTES", 1000)
        X_map, y_map, _, _ = maps(203)
        once, thrice = smooth_net(), smooth_net()
        optimizers = [cr.Adam(), cr.Adam()]
        once.fit(X_map, y_map, epochs=3, batch_size=10, optimizer=optimizers[0])
        for _ in range(3):
            thrice.fit(X_map, y_map, epochs=1, batch_size=10, optimizer=optimizers[1])
        assert same_bits(once.parameters, thrice.parameters)

    @pytest.mark.parametrize("shuffle", [True, False])
    @pytest.mark.parametrize(("value", "error"), [(np.nan, ValueError), (1e200, cr.NonFiniteError)])
    def test_errors_name_the_row_of_the_arrays(self, maps, monkeypatch, shuffle, value, error):
        monkeypatch.setattr(stream, "BLOCK_BYTES", 1000)
        X_map, _, _, y = maps(203)
        y[150, 1] = value
        mlp = smooth_net()
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
            smooth_net("float32").fit(X, np.zeros((20, 2)), epochs=1)

    def test_a_block_whose_weights_are_all_zero(self, maps, monkeypatch):
        monkeypatch.setattr(stream, "BLOCK_BYTES", 1000)
        X_map, y_map, X, y = maps(203)
        weight = np.where(np.arange(203) < 120, 0.0, 1.0)
        arguments = {"epochs": 2, "batch_size": 10, "shuffle": False, "sample_weight": weight}
        on_disk, in_memory = smooth_net(), smooth_net()
        on_disk.fit(X_map, y_map, **arguments)
        in_memory.fit(X, y, **arguments)
        assert same_bits(on_disk.parameters, in_memory.parameters)
        blocks = [(X[:10], y[:10], np.zeros(10)), (X[10:20], y[10:20], np.ones(10))]
        smooth_net().fit(blocks, epochs=1)
        with pytest.raises(ValueError, match="X gave no samples with a weight in epoch 1"):
            smooth_net().fit(blocks[:1], epochs=1)

    def test_an_error_of_a_callback_stays_as_it_is(self, maps, monkeypatch):
        monkeypatch.setattr(stream, "BLOCK_BYTES", 1000)
        X_map, y_map, X, _ = maps(203)
        X[150] = np.nan
        mlp = smooth_net()
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
        mlp, optimizer = smooth_net(), cr.Adam()
        before = state(mlp, optimizer)
        with pytest.raises((TypeError, ValueError)) as in_memory:
            mlp.fit(X, epochs=1, optimizer=optimizer, **{"y": y, **change})
        with pytest.raises(type(in_memory.value), match=f"^{re.escape(str(in_memory.value))}$"):
            mlp.fit(X_map, epochs=1, optimizer=optimizer, **{"y": y_map, **change})
        assert state(mlp, optimizer) == before

    def test_a_memory_map_without_rows(self, tmp_path):
        number = np.memmap(tmp_path / "X", dtype="float64", mode="w+", shape=())
        with pytest.raises(ValueError, match=r"X has shape \(\); expected two dimensions"):
            smooth_net().fit(number, np.zeros((1, 2)), epochs=1)

    def test_rows_that_do_not_fit(self, maps):
        X_map, y_map, _, _ = maps(20)
        with pytest.raises(ValueError, match="y has 19 rows; X has 20"):
            smooth_net().fit(X_map, y_map[:19], epochs=1)


class TestIterables:
    def test_a_list_of_blocks(self):
        X, y = smooth_data(64)
        weight = np.linspace(0, 1, 64)
        blocks = [(X[i : i + 16], y[i : i + 16], weight[i : i + 16]) for i in range(0, 64, 16)]
        streamed, loaded = smooth_net(), smooth_net()
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

        assert smooth_net().fit(Source(), epochs=2).epochs == 2
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

        streamed, listed = smooth_net(), smooth_net()
        streamed.fit(Source(), epochs=3, batch_size=1)
        listed.fit([(X[i : i + 8], y[i : i + 8]) for i in range(0, 64, 8)], epochs=3, batch_size=1)
        assert same_bits(streamed.parameters, listed.parameters)

    def test_masked_blocks_are_refused(self):
        X, y = smooth_data(8)
        with pytest.raises(ValueError, match="X is an array with masked values"):
            smooth_net().fit(iter([(np.ma.masked_greater(X, 0), y)]), epochs=1)

    def test_what_has_a_length_and_indices(self):
        X, y = smooth_data(32)

        class Source:
            def __len__(self):
                return 4

            def __getitem__(self, i):
                return X[8 * i : 8 * i + 8], y[8 * i : 8 * i + 8]

        indexed, listed = smooth_net(), smooth_net()
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
        smooth_net().fit(blocks, epochs=1, on_nonfinite="stop")
        assert not reading.is_set()
        blocks.close()  # a ValueError in the midst of its work

    def test_one_that_is_used_up(self):
        class Once:
            def __init__(self):
                self.blocks = iter([smooth_data(8)])

            def __iter__(self):
                return self.blocks

        with pytest.raises(ValueError, match="X gave no samples with a weight in epoch 2"):
            smooth_net().fit(Once(), epochs=2)
        assert smooth_net().fit(Once(), epochs=1).epochs == 1

    @pytest.mark.parametrize(
        "once", [iter, lambda blocks: (block for block in blocks), lambda blocks: map(tuple, blocks)]
    )
    def test_an_iterator_is_refused_before_anything_is_trained(self, once):
        blocks = [smooth_data(8)]
        mlp = smooth_net()
        before = mlp.parameters.copy()
        with pytest.raises(ValueError, match=r"^X is .*, which gives its blocks once, and epochs is 2; expected"):
            mlp.fit(once(blocks), epochs=2)
        assert same_bits(mlp.parameters, before)
        assert mlp.fit(once(blocks), epochs=1).epochs == 1

    @pytest.mark.parametrize(
        "arguments",
        [{"schedule": "one_cycle"}, {"X": [(np.ones((3, 1)), np.ones((3, 2)))]}, {"X": [3]}, {"X": []}],
        ids=["schedule", "columns", "items", "none"],
    )
    def test_an_error_before_the_first_step_leaves_the_last_pass(self, arguments):
        X, y = smooth_data(8)
        mlp = smooth_net()
        mlp.forward(X)
        mlp.backward(y)
        before = mlp.gradient.copy()
        with pytest.raises((ValueError, TypeError)):
            mlp.fit(**{"X": [(X, y)], "epochs": 1, **arguments})
        assert same_bits(mlp.gradient, before)
        assert len(mlp.activations) == 3

    def test_the_batch_of_a_bad_number_is_that_of_the_epoch(self):
        X, y = smooth_data(64)
        y[37] = 1e300
        blocks = [(X[:32], y[:32]), (X[32:], y[32:])]
        for samples in [(blocks,), (X, y)]:
            history = smooth_net(dtype="float64").fit(
                *samples, epochs=1, batch_size=8, shuffle=False, on_nonfinite="ignore"
            )
            assert (history.non_finite.batch, history.non_finite.step, history.non_finite.row) == (5, 5, 37)

    def test_blocks_come_from_predict_or_a_copy_but_nothing_that_waits_for_the_fit(self):
        X, y = smooth_data(32)
        mlp = smooth_net()

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
        with pytest.raises(RuntimeError, match="this network is in training, and its samples are read ahead"):
            mlp.fit(Moved(lambda X, _: cr.fit_many([mlp], X, X[:, :2], epochs=1)), epochs=2)
        assert mlp.input_gradient(X, 0).shape == X.shape

    @pytest.mark.parametrize(
        ("blocks", "error", "message"),
        [
            ([3], TypeError, r"X gave 3 .*as block 1; expected a tuple"),
            ([(np.ones((2, 4)), np.ones((2, 2)), np.ones(2), 1)], TypeError, r"X gave .*; expected a tuple"),
            ([(np.ones((2, 3)), np.ones((2, 2)))], ValueError, "X has 3 columns"),
            ([(np.full((2, 4), np.nan), np.ones((2, 2)))], ValueError, "X holds nan"),
            (3, TypeError, "X is 3 .*expected an iterable"),
        ],
        ids=str,
    )
    def test_bad_blocks(self, blocks, error, message):
        with pytest.raises(error, match=message):
            smooth_net().fit(blocks, epochs=1)

    def test_an_error_of_a_block_names_the_block(self):
        good, bad = smooth_data(8), smooth_data(8)
        bad[0][5, 2] = np.nan
        with pytest.raises(ValueError, match=r"^block 3 of the epoch: X holds nan at row 5, column 2; expected finite"):
            smooth_net().fit(iter([good, good, bad]), epochs=1)
        with pytest.raises(TypeError, match=r"^block 2 of the epoch: y is None; expected real numbers"):
            smooth_net().fit([good, (good[0], None)], epochs=1)

    def test_an_error_of_the_source_names_no_block(self):
        def source():
            yield smooth_data(8)
            smooth_net().predict(np.full((1, 4), np.nan))

        with pytest.raises(ValueError, match=r"^X holds nan at row 0, column 0"):
            smooth_net().fit(source(), epochs=1)

    def test_an_error_of_the_source_comes_out(self):
        def source():
            yield smooth_data(8)
            raise OSError("the disk is gone")

        with pytest.raises(OSError, match="the disk is gone"):
            smooth_net().fit(source(), epochs=1)

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
            smooth_net().fit(blocks, epochs=1, schedule="one_cycle")
        with pytest.raises(ValueError, match="sample_weight is given beside an iterable"):
            smooth_net().fit(blocks, epochs=1, sample_weight=np.ones(8))
