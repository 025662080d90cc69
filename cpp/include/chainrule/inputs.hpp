#pragma once

#include <algorithm>
#include <cstdint>
#include <stdexcept>

#include "chainrule/matrix.hpp"

namespace chainrule {

/// A sparse matrix by rows (CSR); memory of the caller's. Row i holds values[k] in column columns[k] for
/// k = starts[i] … starts[i + 1] - 1, columns ascending; values in the same place add up.
template <class T>
struct SparseRows {
  const T* values;
  const std::int32_t* columns;
  const std::int64_t* starts;  // (rows + 1,)
  Index rows, cols;
};

/// Whether memory can be read by what starts and columns say.
template <class T>
bool is_valid(const SparseRows<T>& X) {
  bool right = X.starts[0] >= 0;
  for (Index i = 0; right && i < X.rows; ++i) right = X.starts[i] <= X.starts[i + 1];
  for (std::int64_t k = X.starts[0]; right && k < X.starts[X.rows]; ++k)
    right = X.columns[k] >= 0 && X.columns[k] < X.cols;
  return right;
}

/// Whether the columns of each row of a valid matrix ascend.
template <class T>
bool ascends(const SparseRows<T>& X) {
  for (Index i = 0; i < X.rows; ++i)
    if (!std::is_sorted(X.columns + X.starts[i], X.columns + X.starts[i + 1])) return false;
  return true;
}

/// N samples as rows, of a matrix or sparse; memory of the caller's.
template <class T>
class Inputs {
 public:
  template <InMemory Expression>
  Inputs(const Eigen::MatrixBase<Expression>& X)  // (N, d_0)
      : rows_(X.rows()), cols_(X.cols()), values_(X.derived().data()), stride_(row_stride(X.derived())) {}
  template <class Plain>
  Inputs(Eigen::PlainObjectBase<Plain>&&) = delete;  // would not outlive the call
  Inputs(const T* data, Index rows, Index cols, Eigen::OuterStride<> stride)
      : Inputs(ConstMatrixView<T>(data, rows, cols, stride)) {}
  /// std::invalid_argument for rows that are not valid.
  Inputs(const SparseRows<T>& X)
      : rows_(X.rows),
        cols_(X.cols),
        values_(X.values),
        columns_(X.columns),
        starts_(X.starts),
        mostly_zeros_(zeros_pay * static_cast<double>(X.starts[X.rows] - X.starts[0]) <
                      static_cast<double>(X.rows) * static_cast<double>(X.cols)) {
    if (!is_valid(X)) throw std::invalid_argument("X is no valid CSR matrix: its indices do not fit its shape");
    if (!ascends(X)) throw std::invalid_argument("X is no sorted CSR matrix: the columns of a row do not ascend");
  }

  Index rows() const { return rows_; }
  Index cols() const { return cols_; }

  /// Those from sample `first` on.
  Inputs from(Index first) const {
    Inputs rest = *this;
    rest.rows_ -= first;
    if (starts_)
      rest.starts_ += first;
    else
      rest.values_ += first * stride_;
    return rest;
  }

  /// Those from sample `first` to before sample `last`.
  Inputs part(Index first, Index last) const {
    Inputs some = from(first);
    some.rows_ = last - first;
    return some;
  }

  /// Sparse, and so much so that products skip the zeros.
  bool mostly_zeros() const { return mostly_zeros_; }
  /// What is stored of sample i of sparse rows.
  struct Stored {
    Index count;
    const std::int32_t* columns;
    const T* values;
  };
  Stored stored(Index i) const {
    return {static_cast<Index>(starts_[i + 1] - starts_[i]), columns_ + starts_[i], values_ + starts_[i]};
  }

  /// Writes sample i, with all its zeros.
  void load(Index i, T* to) const {
    if (!starts_) {
      copy_row(values_ + i * stride_, cols_, to);
      return;
    }
    std::fill_n(to, cols_, T(0));
    for (std::int64_t k = starts_[i]; k < starts_[i + 1]; ++k) to[columns_[k]] += values_[k];
  }

 private:
  static constexpr double zeros_pay = 4;  // numbers for each stored one from which on

  Index rows_, cols_;
  const T* values_;
  Index stride_ = 0;                       // of a matrix
  const std::int32_t* columns_ = nullptr;  // of sparse rows
  const std::int64_t* starts_ = nullptr;
  bool mostly_zeros_ = false;
};

}  // namespace chainrule
