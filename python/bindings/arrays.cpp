#include "arrays.hpp"

#include <pybind11/stl.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>
#include <vector>

#include "engine/kernels.hpp"
#include "interpreter.hpp"
#include "number.hpp"

namespace chainrule::bindings {

namespace {

std::string shape_of(const py::array& a) {
  std::string text = "(";
  for (py::ssize_t i = 0; i < a.ndim(); ++i) text += (i ? ", " : "") + std::to_string(a.shape(i));
  return text + (a.ndim() == 1 ? ",)" : ")");
}

template <class T>
const py::dtype& dtype_of() {
  // Leaked: the interpreter may be gone when static objects are destroyed.
  static const auto* dtype = new py::dtype(py::dtype::of<T>());
  return *dtype;
}

/// numpy.ma's arrays: what lies under a mask is no sample.
void refuse_masked(const py::object& array, const char* name) {
  if (Py_TYPE(array.ptr()) == py::detail::npy_api::get().PyArray_Type_) return;
  if (py::module_::import("numpy").attr("ma").attr("is_masked")(array).cast<bool>())
    throw py::value_error(std::string(name) +
                          " is an array with masked values; expected none: filled() or without them");
}

/// numpy.asarray; what is not made of real numbers is a TypeError.
py::array real_array(const py::object& given, const char* name) {
  if (given.is_none()) throw py::type_error(std::string(name) + " is None; expected real numbers");
  py::array a;
  if (py::isinstance<py::array>(given)) {
    a = py::reinterpret_borrow<py::array>(given);
    refuse_masked(given, name);
  } else {
    try {
      a = py::module_::import("numpy").attr("asarray")(given).cast<py::array>();
    } catch (py::error_already_set& error) {
      if (!error.matches(PyExc_ValueError)) throw;
      throw py::value_error(std::string(name) + " is not rectangular: " + std::string(py::str(error.value())));
    }
  }
  const char kind = a.dtype().kind();
  if (kind != 'f' && kind != 'i' && kind != 'u' && kind != 'b')
    throw py::type_error(std::string(name) + " has dtype " + std::string(py::str(a.dtype())) +
                         "; expected real numbers (float, integer or bool)" +
                         (kind == 'O' ? ", which astype(float) makes of such objects" : ""));
  return a;
}

}  // namespace

Shown::Shown(const void* begin, std::size_t bytes)
    : begin_(static_cast<const std::byte*>(begin)), end_(begin_ + bytes) {
  all().push_back(this);
}

Shown::~Shown() { all().erase(std::find(all().begin(), all().end(), this)); }

std::vector<const Shown*>& Shown::all() {
  static auto* shown = new std::vector<const Shown*>;  // leaked: arrays may go after static objects
  return *shown;
}

bool Shown::overlaps(const py::array& a) {
  if (all().empty()) return false;
  const auto* begin = static_cast<const std::byte*>(a.data());
  const std::byte* end = begin + a.itemsize();
  for (py::ssize_t i = 0; i < a.ndim(); ++i) {
    if (a.shape(i) == 0) return false;
    (a.strides(i) < 0 ? begin : end) += (a.shape(i) - 1) * a.strides(i);
  }
  return std::any_of(all().begin(), all().end(),
                     [&](const Shown* shown) { return begin < shown->end_ && shown->begin_ < end; });
}

template <class T>
bool used_in_place(const py::array& a) {
  constexpr auto item = static_cast<py::ssize_t>(sizeof(T));
  if (!a.dtype().is(dtype_of<T>()) || reinterpret_cast<std::uintptr_t>(a.data()) % alignof(T) != 0) return false;
  if (Shown::overlaps(a)) return false;
  if (a.ndim() == 1) return a.strides(0) % item == 0 && a.strides(0) >= item;
  return a.ndim() == 2 && (a.strides(1) == item || a.shape(1) == 1) && a.strides(0) % item == 0 &&
         (a.strides(0) >= a.shape(1) * item);
}

namespace {

template <class T>
py::array copied(const py::array& a) {
  const py::module_ numpy = py::module_::import("numpy");
  // Too large for T is infinity, which is refused with its place; NumPy's warning would come on top.
  const py::object quiet = numpy.attr("errstate")(py::arg("over") = "ignore", py::arg("invalid") = "ignore");
  quiet.attr("__enter__")();
  py::object result;
  try {
    result = called(numpy.attr("array"), py::make_tuple(a),
                    py::dict(py::arg("dtype") = dtype_of<T>(), py::arg("order") = "C", py::arg("copy") = true,
                             py::arg("subok") = false));
  } catch (const py::error_already_set&) {
    quiet.attr("__exit__")(py::none(), py::none(), py::none());
    throw;
  }
  quiet.attr("__exit__")(py::none(), py::none(), py::none());
  return result.cast<py::array>();
}

/// `a` itself or a copy that can be used, 1-D as one column.
template <class T>
MatrixIn<T> in_place_or_copied(py::array a) {
  if (!used_in_place<T>(a)) a = copied<T>(a);
  constexpr auto item = static_cast<py::ssize_t>(sizeof(T));
  const Index columns = a.ndim() == 2 ? a.shape(1) : 1;
  // NumPy leaves the stride of a single row undefined.
  const Index stride = a.shape(0) > 1 ? a.strides(0) / item : columns;
  return {a, static_cast<const T*>(a.data()), a.shape(0), columns, stride};
}

/// A 1-D array whose numbers have nothing between them.
template <class T>
MatrixIn<T> side_by_side(const py::array& a) {
  const MatrixIn<T> m = in_place_or_copied<T>(a);
  return m.stride == 1 ? m : in_place_or_copied<T>(copied<T>(a));
}

constexpr const char* finite_numbers = "finite numbers";

template <class T>
[[noreturn]] void refuse_value(const char* name, T value, Index row, Index column, const std::string& expected) {
  throw py::value_error(std::string(name) + " holds " + text_of(value) + " at row " + std::to_string(row) +
                        ", column " + std::to_string(column) + "; expected " + expected);
}

template <class T, class Allowed>
void check_values(const MatrixIn<T>& m, const char* name, const Allowed& allowed, const std::string& expected) {
  for (Index r = 0; r < m.rows; ++r)
    for (Index c = 0; c < m.columns; ++c)
      if (const T value = m.data[r * m.stride + c]; !allowed(value)) refuse_value(name, value, r, c, expected);
}

template <class T>
void check_finite(const MatrixIn<T>& m, const char* name) {
  const bool packed = m.stride == m.columns;
  const Index runs = packed ? 1 : m.rows, length = packed ? m.rows * m.columns : m.columns;
  for (Index i = 0; i < runs; ++i)
    if (!engine::kernels<T>().all_finite(length, m.data + i * m.stride))
      check_values(m, name, [](T value) { return std::isfinite(value); }, finite_numbers);
}

void check_rows(Index got, Index rows, const char* name, const char* rows_name) {
  if (got != rows)
    throw py::value_error(std::string(name) + " has " + std::to_string(got) + " rows; " + rows_name + " has " +
                          std::to_string(rows));
}

template <class T>
bool whole(T value) {
  return std::floor(value) == value;
}

/// Class labels 0 … classes - 1, from integers or whole floats.
std::pair<py::object, const std::int64_t*> labels_from(const py::array& a, const char* name, Index classes) {
  if (a.dtype().kind() == 'f') {
    const MatrixIn<double> values = in_place_or_copied<double>(a);
    check_finite(values, name);
    check_values(values, name, whole<double>, "whole numbers, the labels of the classes");
  }
  const MatrixIn<std::int64_t> theirs = in_place_or_copied<std::int64_t>(a);
  // A copy of our own, for theirs may change once it has been looked through.
  py::array_t<std::int64_t> labels(theirs.rows);
  std::int64_t* const data = labels.mutable_data();
  for (Index i = 0; i < theirs.rows; ++i) {
    data[i] = theirs.data[i * theirs.stride];
    if (data[i] < 0 || data[i] >= classes)
      throw py::value_error(std::string(name) + " holds the label " +
                            std::string(py::str(a.attr("flat")[py::int_(i)])) + " at row " + std::to_string(i) +
                            "; expected labels from 0 to " + std::to_string(classes - 1));
  }
  return {labels, data};
}

void check_shape(Index rows, Index got, Index columns, const char* name, const char* taker) {
  if (got != columns)
    throw py::value_error(std::string(name) + " has " + std::to_string(got) + (got == 1 ? " column; " : " columns; ") +
                          taker + " " + std::to_string(columns));
  if (rows == 0) throw py::value_error(std::string(name) + " has no rows; expected at least one");
}

/// Where the numbers of a sparse matrix stand: a copy of our own, for theirs may change once it has been looked
/// through.
struct SparseStructure {
  std::vector<std::int64_t> starts;
  std::vector<std::int32_t> columns;
};
constexpr int contiguous = py::array::c_style | py::array::forcecast;

}  // namespace

template <class T>
MatrixIn<T> matrix(const py::object& given, const char* name, Index columns, const char* taker) {
  const py::array a = real_array(given, name);
  if (a.ndim() != 2)
    throw py::value_error(std::string(name) + " has shape " + shape_of(a) + "; expected two dimensions, (n, " +
                          std::to_string(columns) + ")" +
                          (a.ndim() == 1 ? ". Reshape it: " + std::string(name) + ".reshape(1, -1) for one row, " +
                                               name + ".reshape(-1, 1) for one column"
                                         : ""));
  check_shape(a.shape(0), a.shape(1), columns, name, taker);
  MatrixIn<T> m = in_place_or_copied<T>(a);
  check_finite(m, name);
  return m;
}

namespace {

/// A sparse matrix of SciPy's in CSR form, as it stands.
template <class T>
InputsIn<T> csr_rows(const py::object& csr, const char* name, Index columns, const char* taker) {
  const auto shape = csr.attr("shape").cast<std::vector<Index>>();
  if (shape.size() != 2)
    throw py::value_error(std::string(name) + " has shape (" + std::to_string(shape[0]) +
                          ",); expected two dimensions, (n, " + std::to_string(columns) + ")");
  const Index rows = shape[0];
  check_shape(rows, shape[1], columns, name, taker);
  if (columns > std::numeric_limits<std::int32_t>::max())
    throw py::value_error(std::string(name) + " has more columns than 32-bit indices can count");
  const py::array data = real_array(csr.attr("data"), name);
  const MatrixIn<T> values = side_by_side<T>(data);
  const py::array_t<std::int64_t, contiguous> starts(csr.attr("indptr")), indices(csr.attr("indices"));
  const auto own = std::make_shared<SparseStructure>();
  own->starts.assign(starts.data(), starts.data() + starts.size());
  own->columns.reserve(static_cast<std::size_t>(indices.size()));
  for (const std::int64_t* i = indices.data(); i < indices.data() + indices.size(); ++i)
    own->columns.push_back(static_cast<std::int32_t>(std::clamp<std::int64_t>(*i, -1, columns)));
  if (starts.size() != rows + 1) throw py::value_error(std::string(name) + " is no valid CSR matrix");
  const py::capsule owner(new std::shared_ptr<SparseStructure>(own),
                          [](void* p) { delete static_cast<std::shared_ptr<SparseStructure>*>(p); });
  const SparseRows<T> sparse{values.data, own->columns.data(), own->starts.data(), rows, columns};
  if (own->starts.back() > std::min<Index>(values.rows, indices.size()) || !is_valid(sparse))
    throw py::value_error(std::string(name) + " is no valid CSR matrix: its indices do not fit its shape");
  if (!engine::kernels<T>().all_finite(values.rows, values.data))
    for (Index r = 0; r < rows; ++r)
      for (std::int64_t k = sparse.starts[r]; k < sparse.starts[r + 1]; ++k)
        if (!std::isfinite(sparse.values[k]))
          refuse_value(name, sparse.values[k], r, sparse.columns[k], finite_numbers);
  return {{}, sparse, py::make_tuple(values.owner, owner)};
}

}  // namespace

template <class T>
InputsIn<T> inputs(const py::object& given, const char* name, Index columns, const char* taker) {
  // Arrays are told by their type: to look in vain for an attribute would be a fifth of a small network's call.
  if (py::isinstance<py::array>(given) || !py::hasattr(given, "tocsr"))
    return {matrix<T>(given, name, columns, taker), {}, {}};
  const py::object csr = given.attr("tocsr")();
  InputsIn<T> in = csr_rows<T>(csr, name, columns, taker);
  if (ascends(*in.sparse)) return in;
  // SciPy sorts by what the matrix says, which is known to be right by now; but not one that says it is sorted.
  const py::object copy = csr.attr("copy")();
  copy.attr("has_sorted_indices") = false;
  copy.attr("sort_indices")();
  return csr_rows<T>(copy, name, columns, taker);
}

template <class T>
MatrixIn<T> vector(const py::object& given, const char* name, Index size) {
  const py::array a = real_array(given, name);
  if (a.ndim() != 1 || a.shape(0) != size)
    throw py::value_error(std::string(name) + " has shape " + shape_of(a) + "; expected (" + std::to_string(size) +
                          ",), one number a parameter");
  const MatrixIn<T> m = side_by_side<T>(a);
  check_finite(m, name);
  return m;
}

template <class T>
TargetsIn<T> targets(const py::object& given, const char* name, Index rows, const char* rows_name, Index outputs,
                     const Loss& loss) {
  const py::array a = real_array(given, name);
  const bool one_column = a.ndim() == 1 || (a.ndim() == 2 && a.shape(1) == 1);
  const bool categorical = takes_labels(loss);
  const Index columns = outputs / outputs_per_target(loss);
  if (a.ndim() == 0 || a.ndim() > 2 || !(one_column && (categorical || columns == 1))) {
    if (a.ndim() != 2 || a.shape(1) != columns) {
      const std::string shape = columns == 1 ? "(n,) or (n, 1)" : "(n, " + std::to_string(columns) + ")";
      throw py::value_error(std::string(name) + " has shape " + shape_of(a) + "; expected " + shape +
                            (categorical ? ", or class labels (n,)" : ""));
    }
  }
  check_rows(a.shape(0), rows, name, rows_name);

  TargetsIn<T> result;
  if (categorical && one_column && (outputs > 1 || a.ndim() == 1)) {
    std::tie(result.owner, result.labels) = labels_from(a, name, outputs);
    result.values.rows = rows;
    return result;
  }
  result.values = in_place_or_copied<T>(a);
  check_finite(result.values, name);
  std::visit(
      [&](const auto& l) {
        check_values(
            result.values, name, [&](T y) { return l.takes(static_cast<double>(y)); },
            std::string(l.targets) + " (loss '" + l.name + "')");
      },
      loss);
  return result;
}

template <class T>
WeightsIn<T> weights(const py::object& given, const char* name, Index rows, const char* rows_name, bool all) {
  if (given.is_none()) return {};
  const py::array a = real_array(given, name);
  if (a.ndim() != 1) throw py::value_error(std::string(name) + " has shape " + shape_of(a) + "; expected (n,)");
  check_rows(a.shape(0), rows, name, rows_name);
  const MatrixIn<T> m = side_by_side<T>(a);
  check_finite(m, name);
  // In a step subnormal numbers count as zero.
  check_values(
      m, name, [](T w) { return w == 0 || w >= std::numeric_limits<T>::min(); },
      "weights that are 0 or positive normal numbers of the network's dtype");
  const double sum = std::accumulate(m.data, m.data + rows, 0.0);
  if (all && sum == 0)
    throw py::value_error(std::string(name) + " is zero throughout; expected at least one weight > 0");
  if (!std::isfinite(sum))
    throw py::value_error(std::string(name) + " sums up to " + text_of(sum) +
                          "; expected a sum that can be divided by");
  return {m.owner, m.data};
}

template MatrixIn<float> matrix(const py::object&, const char*, Index, const char*);
template MatrixIn<double> matrix(const py::object&, const char*, Index, const char*);
template InputsIn<float> inputs(const py::object&, const char*, Index, const char*);
template InputsIn<double> inputs(const py::object&, const char*, Index, const char*);
template MatrixIn<float> vector(const py::object&, const char*, Index);
template MatrixIn<double> vector(const py::object&, const char*, Index);
template TargetsIn<float> targets(const py::object&, const char*, Index, const char*, Index, const Loss&);
template TargetsIn<double> targets(const py::object&, const char*, Index, const char*, Index, const Loss&);
template bool used_in_place<float>(const py::array&);
template bool used_in_place<double>(const py::array&);
template WeightsIn<float> weights(const py::object&, const char*, Index, const char*, bool);
template WeightsIn<double> weights(const py::object&, const char*, Index, const char*, bool);

}  // namespace chainrule::bindings
