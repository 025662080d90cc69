"""Arrays in: any dtype, order, strides, byte order and alignment equals a contiguous copy, or is a typed error."""

import array
import ctypes

import numpy as np
import pytest
from cases import TASKS, make_problem
from helpers import assert_close, same_bits, state
from hypothesis import given
from hypothesis import strategies as st
from nets import library_net, small_net

import chainrule as cr

NUMBERS = ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
COLUMNS = 3


def swapped(dtype, big_endian):
    return np.dtype(dtype).newbyteorder(">" if big_endian else "<")


def numbers(rng, shape, dtype):
    """Small numbers that every dtype holds; fractions where the dtype has them."""
    kind = np.dtype(dtype).kind
    if kind == "b":
        return rng.integers(0, 2, size=shape).astype(dtype)
    if kind == "u":
        return rng.integers(0, 9, size=shape).astype(dtype)
    if kind == "i":
        return rng.integers(-9, 9, size=shape).astype(dtype)
    return rng.normal(size=shape).astype(dtype)


def unaligned(values):
    """The same values one byte past an aligned address."""
    buffer = np.zeros(values.nbytes + 1, np.uint8)
    out = np.ndarray(values.shape, values.dtype, buffer.data, offset=1, order="F" if values.flags.fnc else "C")
    out[...] = values
    return out


@st.composite
def layouts(draw, dtypes=NUMBERS, columns=COLUMNS, min_rows=1):
    """A two-dimensional array of some layout."""
    n = draw(st.integers(min_rows, 20))
    row_step, column_step = draw(st.sampled_from([1, 2, 3, -1, -2])), draw(st.sampled_from([1, 2, -1, -3]))
    dtype = swapped(draw(st.sampled_from(dtypes)), draw(st.booleans()))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    values = numbers(rng, (n * abs(row_step), columns * abs(column_step)), dtype)
    if draw(st.booleans()):
        values = np.asfortranarray(values)
    if draw(st.booleans()):
        values = unaligned(values)
    values = values[::row_step, ::column_step]
    if draw(st.booleans()):
        values = np.broadcast_to(values[:1], values.shape)
    if draw(st.booleans()):
        values = values.view()
        values.flags.writeable = False
    assert values.shape == (n, columns)
    return values


def plain(values, dtype):
    """The same numbers, contiguous, aligned, of the network's dtype."""
    return np.array(values.tolist(), dtype=np.float64).astype(dtype).reshape(values.shape)


@pytest.fixture(scope="module", params=["float32", "float64"])
def net(request):
    return cr.MLP([COLUMNS, 5, 2], hidden_activation="tanh", dtype=request.param, seed=0)


@given(X=layouts())
def test_predict_and_forward_take_any_layout(net, X):
    before = X.copy()
    expected = net.predict(plain(X, net.dtype))
    assert same_bits(net.predict(X), expected)
    assert_close(net.forward(X), expected, 1e-6 if net.dtype == np.float32 else 1e-14)
    assert same_bits(net.activations[0], plain(X, net.dtype))
    assert same_bits(X, before)


@given(data=st.data())
def test_training_takes_any_layout_of_targets_and_weights(net, data):
    n = data.draw(st.integers(2, 12))
    X = np.random.default_rng(0).normal(size=(n, COLUMNS))
    y = data.draw(layouts(columns=2, min_rows=n))[:n]
    weight = data.draw(layouts(dtypes=("u1", "f4", "f8"), columns=1, min_rows=n))[:n, 0]
    if weight.dtype.kind == "f":
        positive = np.zeros(len(weight) * 2, weight.dtype)[::2]
        positive[:] = np.abs(weight)
        weight = positive
    if len(y) < n or not np.any(weight):
        return
    before = y.copy(), weight.copy()
    net.forward(X)
    loss = net.backward(y, sample_weight=weight)
    gradient = net.gradient.copy()
    assert loss == net.backward(plain(y, net.dtype), sample_weight=plain(weight, net.dtype))
    assert same_bits(gradient, net.gradient)
    assert same_bits(y, before[0]) and same_bits(weight, before[1])


@given(X=layouts())
def test_pullback_takes_any_layout(net, X):
    grad_output = X[:, :2]
    net.forward(np.ones((len(X), COLUMNS)))
    assert same_bits(net.pullback(grad_output), net.pullback(plain(grad_output, net.dtype)))


@given(labels=layouts(dtypes=("u1", "i2", "i4", "u8", "i8"), columns=2))
def test_labels_of_any_layout(labels):
    labels = labels[:, 1]
    before = labels.copy()
    mlp = cr.MLP([COLUMNS, 10], loss="cross_entropy", dtype="float64", seed=0)
    X = np.random.default_rng(0).normal(size=(len(labels), COLUMNS))
    if labels.min() < 0:
        with pytest.raises(ValueError, match=r"^y holds the label -"):
            mlp.evaluate(X, labels)
    else:
        assert mlp.evaluate(X, labels) == mlp.evaluate(X, labels.tolist())
    assert same_bits(labels, before)


@pytest.mark.long
def test_ten_thousand_layouts(net):
    """The promise in full: 10,000 random layouts, each equal to a contiguous copy."""
    rng = np.random.default_rng(0)
    for _ in range(10_000):
        n, steps = rng.integers(1, 40), rng.choice([1, 2, 3, 5, -1, -2, -3], size=2)
        dtype = swapped(rng.choice(NUMBERS), bool(rng.integers(2)))
        values = numbers(rng, (n * abs(steps[0]), COLUMNS * abs(steps[1])), dtype)
        values = np.asfortranarray(values) if rng.integers(2) else values
        values = unaligned(values) if rng.integers(2) else values
        X = values[:: steps[0], :: steps[1]]
        assert same_bits(net.predict(X), net.predict(plain(X, net.dtype))), (X.dtype, X.strides)


ROWS = [[0.5, -1.0, 2.0], [1.5, 0.25, -3.0]]


class Wrapped:
    """Anything with __array__ is array-like."""

    def __array__(self, dtype=None, copy=None):
        return np.array(ROWS, dtype=dtype)


FORMS = {
    "list": ROWS,
    "tuple": tuple(map(tuple, ROWS)),
    "list of arrays": [np.array(row) for row in ROWS],
    "list of array.array": [array.array("d", row) for row in ROWS],
    "memoryview": memoryview(np.array(ROWS)),
    "memoryview of float32": memoryview(np.array(ROWS, np.float32)),
    "ctypes": ((ctypes.c_double * 3) * 2)(*[(ctypes.c_double * 3)(*row) for row in ROWS]),
    "__array__": Wrapped(),
    "subclass": np.array(ROWS).view(type("Subclass", (np.ndarray,), {})),
    "float16": np.array(ROWS, np.float16),
    "longdouble": np.array(ROWS, np.longdouble),
    "field of a record": np.rec.fromarrays([np.array(ROWS), np.zeros((2, 3))], names="a,b").a,
}


@pytest.mark.parametrize("form", FORMS)
def test_anything_array_like(net, form):
    expected = net.predict(np.array(ROWS))
    assert same_bits(net.predict(FORMS[form]), expected)
    assert type(net.predict(FORMS[form])) is np.ndarray


def test_masked_values_are_no_samples(net):
    masked = np.ma.masked_array(ROWS)
    assert same_bits(net.predict(masked), net.predict(np.array(ROWS)))
    masked[0, 1] = np.ma.masked
    targets = np.ma.masked_array(net.predict(ROWS))
    targets[1] = np.ma.masked
    before = net.parameters.copy()
    with pytest.raises(ValueError, match="X is an array with masked values"):
        net.predict(masked)
    with pytest.raises(ValueError, match="y is an array with masked values"):
        net.fit(ROWS, targets, epochs=1)
    with pytest.raises(ValueError, match=r"mlps\[0\]: X is an array with masked values"):
        cr.fit_many([net], masked, targets, epochs=1)
    with pytest.raises(ValueError, match="sample_weight is an array with masked values"):
        net.evaluate(ROWS, net.predict(ROWS), np.ma.masked_array([1.0, 2.0], mask=[True, False]))
    assert same_bits(net.parameters, before)


def test_integers_in_nested_lists(net):
    assert same_bits(net.predict([[1, 2, 3]]), net.predict(np.array([[1.0, 2.0, 3.0]])))


@pytest.mark.parametrize(
    "X",
    [
        np.zeros((0, COLUMNS)),
        np.zeros((0, COLUMNS), np.float32),
        np.zeros((4, 0)),
        np.zeros((0, 0)),
        [],
        [[]],
        np.zeros((4, COLUMNS))[4:],
    ],
    ids=["no rows", "no rows, float32", "no columns", "nothing", "[]", "[[]]", "empty slice"],
)
def test_dimensions_of_size_zero(net, X):
    for use in (net.predict, net.forward):
        with pytest.raises(ValueError, match=r"X"):
            use(X)


BAD_DTYPES = {
    "complex": np.ones((2, COLUMNS), complex),
    "complex64": np.ones((2, COLUMNS), np.complex64),
    "object": np.ones((2, COLUMNS), object),
    "objects": [[object()] * COLUMNS] * 2,
    "None": None,
    "string": np.full((2, COLUMNS), "1.0"),
    "bytes": np.full((2, COLUMNS), b"1.0"),
    "nested strings": [["1", "2", "3"]],
    "text": "abc",
    "datetime": np.zeros((2, COLUMNS), "M8[s]"),
    "timedelta": np.zeros((2, COLUMNS), "m8[s]"),
    "record": np.zeros((2, COLUMNS), [("a", "f8")]),
    "void": np.zeros((2, COLUMNS), "V8"),
    "dict": {"a": 1},
}


def test_what_makes_numbers_of_objects(net):
    X = np.ones((2, COLUMNS), object)
    with pytest.raises(TypeError, match=r"X has dtype object; .*astype\(float\)"):
        net.predict(X)
    assert net.predict(X.astype(float)).shape[0] == 2
    with pytest.raises(TypeError, match=r"^X is None; expected real numbers$"):
        net.predict(None)


@pytest.mark.parametrize("case", BAD_DTYPES)
def test_dtypes_that_are_no_numbers(case):
    mlp, X, y = small_net((COLUMNS, 4, 3))
    mlp.forward(X)
    mlp.backward(y)
    before = state(mlp)
    wrong = BAD_DTYPES[case]
    uses = {
        "X": [
            mlp.predict,
            mlp.forward,
            lambda wrong: mlp.evaluate(wrong, y),
            lambda wrong: mlp.fit(wrong, y, epochs=1),
        ],
        "y": [mlp.backward, lambda wrong: mlp.evaluate(X, wrong), lambda wrong: mlp.fit(X, wrong, epochs=1)],
        "grad_output": [mlp.pullback],
    }
    for argument, calls in uses.items():
        for call in calls:
            with pytest.raises(TypeError, match=rf"\b{argument}\b"):
                call(wrong)
            assert state(mlp) == before


def test_ragged_lists(net):
    with pytest.raises((ValueError, TypeError), match=r"X"):
        net.predict([[1.0, 2.0, 3.0], [1.0, 2.0]])


@pytest.mark.parametrize(
    ("X", "words"),
    [
        (np.zeros(COLUMNS), "(?is)X.*reshape"),
        (3.0, "X"),
        (np.zeros((2, COLUMNS, 1)), "X"),
        (np.zeros((1, 1, 2, COLUMNS)), "X"),
    ],
    ids=["1-D", "0-D", "3-D", "4-D"],
)
def test_wrong_number_of_dimensions(net, X, words):
    for use in (net.predict, net.forward):
        with pytest.raises(ValueError, match=words):
            use(X)


def test_a_net_of_one_input_makes_no_exception_for_one_dimension():
    mlp = cr.MLP([1, 2], seed=0)
    with pytest.raises(ValueError, match=r"(?is)X.*reshape"):
        mlp.predict(np.zeros(5))


def test_numbers_too_large_for_the_network_s_dtype():
    mlp = cr.MLP([2, 1], dtype="float32", seed=0)
    with pytest.raises(ValueError, match=r"X"):
        mlp.predict(np.array([[1.0, 1e300]]))


def test_an_error_of_array_conversion_comes_through(net):
    class Broken:
        def __array__(self, dtype=None, copy=None):
            raise ZeroDivisionError("on purpose")

    with pytest.raises(ZeroDivisionError, match=r"on purpose"):
        net.predict(Broken())


def test_inputs_are_never_written():
    mlp, X, y = small_net(hidden_activation="relu")
    weight = np.linspace(1, 2, 7)
    arrays = [X, y, weight]
    before = [a.copy() for a in arrays]
    for a in arrays:
        a.flags.writeable = False
    optimizer = cr.Adam()
    mlp.predict(X)
    mlp.forward(X)
    mlp.backward(y, sample_weight=weight, lr=0.1)
    mlp.pullback(y)
    mlp.evaluate(X, y, sample_weight=weight)
    mlp.step(X, y, optimizer, sample_weight=weight)
    mlp.fit(X, y, epochs=3, batch_size=2, sample_weight=weight, validation=(X, y, weight), optimizer=optimizer)
    mlp.check_gradients(X, y, sample_weight=weight)
    assert all(same_bits(a, b) for a, b in zip(arrays, before, strict=True))


def test_outputs_do_not_share_memory_with_inputs_or_caches():
    """An identity layer must not hand its input through, nor forward its cache."""
    mlp = cr.MLP([2, 2], dtype="float64", seed=0)
    X = np.ones((3, 2))
    out = mlp.forward(X)
    assert not np.shares_memory(out, X) and not any(np.shares_memory(out, a) for a in mlp.activations)
    cached = mlp.activations[-1].copy()
    out[:] = 7
    X[:] = 9
    assert same_bits(mlp.activations[-1], cached) and np.all(mlp.activations[0] == 1)
    grad_output = np.ones((3, 2))
    assert not np.shares_memory(mlp.pullback(grad_output), grad_output)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("given_dtype", ["float32", "float64", "int64", ">f8"])
def test_outputs_have_the_network_s_dtype(dtype, given_dtype):
    mlp = cr.MLP([2, 3, 1], dtype=dtype, seed=0)
    X = np.ones((4, 2), given_dtype)
    outputs = [mlp.predict(X), mlp.forward(X), mlp.pullback(np.ones((4, 1), given_dtype))]
    assert all(out.dtype == dtype and out.flags.c_contiguous and out.flags.writeable for out in outputs)
    assert [out.shape for out in outputs] == [(4, 1), (4, 1), (4, 2)]


sizes = st.lists(st.integers(1, 40), min_size=2, max_size=5)


@given(sizes=sizes, n=st.integers(1, 70), seed=st.integers(0, 2**32))
def test_any_shape_equals_the_reference(sizes, n, seed):
    problem = make_problem(TASKS[0], "gelu", tuple(sizes), n, weighted=True, seed=seed)
    net, mlp = problem.net, library_net(problem.net)
    assert_close(mlp.forward(problem.X), net.forward(problem.X), 1e-12)
    assert_close(mlp.backward(problem.y, problem.sample_weight), net.backward(problem.Y, problem.sample_weight), 1e-12)
    assert_close(mlp.gradient, net.gradient, 1e-12)


@pytest.mark.parametrize("bad", [-5, 10, 1000, 100_000, 2_000_000_000])
def test_a_sparse_matrix_that_is_neither_sorted_nor_right(bad):
    """Its structure is looked at before SciPy sorts it."""
    sparse = pytest.importorskip("scipy.sparse", reason="SciPy is not installed: no sparse matrices")
    X = sparse.csr_matrix((np.arange(9.0), [2, 0, 1] * 3, [0, 3, 6, 9]), shape=(3, 3))
    X.indptr[1] = bad
    with pytest.raises(ValueError, match="X is no valid CSR matrix: its indices do not fit its shape"):
        cr.MLP([3, 4, 2], seed=0).predict(X)


def test_a_number_of_a_sparse_matrix_that_is_not_finite_is_told_by_its_row_and_column():
    sparse = pytest.importorskip("scipy.sparse", reason="SciPy is not installed: no sparse matrices")
    X = np.zeros((9, 5))
    X[[1, 3, 7], [2, 0, 4]] = 1.0, 2.0, np.inf
    for to in (sparse.csr_matrix, sparse.csc_matrix, sparse.coo_array):
        with pytest.raises(ValueError, match=r"^X holds inf at row 7, column 4; expected finite numbers$"):
            cr.MLP([5, 2], seed=0).predict(to(X))


@pytest.mark.parametrize("claims", [None, True])
def test_a_sparse_matrix_that_is_not_sorted_is_left_so(claims):
    sparse = pytest.importorskip("scipy.sparse", reason="SciPy is not installed: no sparse matrices")
    X = sparse.csr_matrix((np.arange(9.0), [2, 0, 1] * 3, [0, 3, 6, 9]), shape=(3, 3))
    if claims:
        X.has_sorted_indices = True
    mlp = cr.MLP([3, 4, 2], seed=0)
    assert same_bits(mlp.predict(X), mlp.predict(X.toarray()))
    assert X.indices.tolist() == [2, 0, 1] * 3


def test_weights_whose_sum_cannot_divide():
    mlp, X, y = small_net()
    with pytest.raises(ValueError, match=r"^sample_weight sums up to inf; expected a sum that can be divided by$"):
        mlp.evaluate(X, y, np.full(7, 1e308))


@pytest.mark.parametrize(("dtype", "weight"), [("float32", 1e-40), ("float64", 1e-310)])
def test_weights_that_count_as_zero_in_a_step(dtype, weight):
    mlp, X, y = small_net(dtype=dtype)
    before = state(mlp)
    with pytest.raises(ValueError, match=r"^sample_weight holds .* at row 0, .*; expected .* positive normal numbers"):
        mlp.fit(X, y, epochs=1, sample_weight=np.full(7, weight))
    assert state(mlp) == before
