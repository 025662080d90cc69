#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <chainrule/batch.hpp>
#include <chainrule/loss.hpp>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

// The only place where a NumPy array becomes a matrix. Whatever comes is taken as it is where dtype, order and
// alignment allow, and copied otherwise; what cannot be meant is a TypeError or ValueError that names the argument.

namespace chainrule::bindings {

namespace py = pybind11;

/// A matrix, and the Python object that owns its memory.
template <class T>
struct MatrixIn {
  py::object owner;
  const T* data;
  Index rows, columns, stride;

  ConstMatrixView<T> view() const { return {data, rows, columns, Eigen::OuterStride<>(stride)}; }
};

/// Whether an array is taken as it is: rows of contiguous, aligned T, possibly apart from each other, that no call
/// writes to.
template <class T>
bool used_in_place(const py::array& a);

/// X: (n, columns), n ≥ 1, all finite.
template <class T>
MatrixIn<T> matrix(const py::object& given, const char* name, Index columns, const char* taker);

/// X as samples: a matrix, or a sparse matrix of SciPy's in CSR form.
template <class T>
struct InputsIn {
  MatrixIn<T> dense;
  std::optional<SparseRows<T>> sparse;
  py::object owner;  // of the sparse rows

  Index rows() const { return sparse ? sparse->rows : dense.rows; }
  Inputs<T> view() const {
    if (sparse) return *sparse;
    return dense.view();
  }
};
template <class T>
InputsIn<T> inputs(const py::object& given, const char* name, Index columns, const char* taker);

/// One number a parameter: (size,), all finite, side by side.
template <class T>
MatrixIn<T> vector(const py::object& given, const char* name, Index size);

/// The targets of `rows` samples, in the form and the domain that the loss asks for.
template <class T>
struct TargetsIn {
  MatrixIn<T> values;
  py::object owner;
  const std::int64_t* labels = nullptr;

  Targets<T> view() const {
    if (labels) return {labels, values.rows};
    return {values.view()};
  }
};
template <class T>
TargetsIn<T> targets(const py::object& given, const char* name, Index rows, const char* rows_name, Index outputs,
                     const Loss& loss);

/// Sample weights (rows,): finite, ≥ 0, and not all zero where these are `all` there are. None is none.
template <class T>
struct WeightsIn {
  py::object owner;
  const T* data = nullptr;
};
template <class T>
WeightsIn<T> weights(const py::object& given, const char* name, Index rows, const char* rows_name, bool all = true);

template <class T>
struct SamplesIn {
  InputsIn<T> X;
  TargetsIn<T> y;
  WeightsIn<T> weight;

  Samples<T> view() const { return {X.view(), y.view(), weight.data}; }
};

/// A view of memory that `owner` keeps alive.
template <class T>
py::array_t<T> vector_view(T* data, Index size, const py::handle& owner) {
  return py::array_t<T>({size}, {static_cast<Index>(sizeof(T))}, data, owner);
}
template <class T>
py::array_t<T> matrix_view(const MatrixView<T>& m, const py::handle& owner) {
  return py::array_t<T>({m.rows(), m.cols()},
                        {m.outerStride() * static_cast<Index>(sizeof(T)), static_cast<Index>(sizeof(T))}, m.data(),
                        owner);
}

/// Memory of the core's that arrays look into while it lives. An array with numbers in there is copied when it is given
/// back: the call would write over them while it reads them. Under the interpreter's lock.
class Shown {
 public:
  Shown(const void* begin, std::size_t bytes);
  ~Shown();
  Shown(const Shown&) = delete;

  /// Whether the array lies, in part, in any of these.
  static bool overlaps(const py::array& a);

 private:
  static std::vector<const Shown*>& all();
  const std::byte *begin_, *end_;
};

/// Keeps a shared object alive for as long as arrays look into these numbers of it.
template <class Shared, class T>
py::capsule keep_alive(const std::shared_ptr<Shared>& shared, const T* data, Index size) {
  struct Kept {
    std::shared_ptr<Shared> shared;
    Shown shown;
  };
  return py::capsule(new Kept{shared, {data, static_cast<std::size_t>(size) * sizeof(T)}},
                     [](void* p) { delete static_cast<Kept*>(p); });
}

}  // namespace chainrule::bindings
