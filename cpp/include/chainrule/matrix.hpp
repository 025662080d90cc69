#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace chainrule {

using Index = Eigen::Index;

/// Samples are rows: everything is row-major.
template <class T>
using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
template <class T>
using Vector = Eigen::Matrix<T, Eigen::Dynamic, 1>;

/// A matrix somewhere in memory; its rows may be further apart than they are long.
template <class T>
using MatrixView = Eigen::Map<Matrix<T>, Eigen::Unaligned, Eigen::OuterStride<>>;
template <class T>
using ConstMatrixView = Eigen::Map<const Matrix<T>, Eigen::Unaligned, Eigen::OuterStride<>>;
template <class T>
using VectorView = Eigen::Map<Vector<T>>;
template <class T>
using ConstVectorView = Eigen::Map<const Vector<T>>;

/// A matrix argument: any row-major Eigen expression with contiguous rows is taken as it is, others are copied.
template <class T>
using MatrixArgument = Eigen::Ref<const Matrix<T>, 0, Eigen::OuterStride<>>;

/// An Eigen expression that is memory, by rows or one column: never what Eigen would have to copy.
template <class Expression>
concept InMemory = (Expression::Flags & Eigen::DirectAccessBit) != 0 &&
                   (Expression::ColsAtCompileTime == 1 ||
                    ((Expression::Flags & Eigen::RowMajorBit) != 0 && int{Expression::InnerStrideAtCompileTime} == 1));
/// How far apart its rows are.
template <InMemory Expression>
Index row_stride(const Expression& m) {
  return Expression::ColsAtCompileTime == 1 ? m.innerStride() : m.outerStride();
}

/// Copies the numbers of a row; of a short one in less time than it takes to call memmove.
template <class T>
void copy_row(const T* from, Index columns, T* to) {
  if (columns > 8)
    std::copy_n(from, columns, to);
  else
    for (Index j = 0; j < columns; ++j) to[j] = from[j];
}

/// `rows` × `columns`, or std::length_error where the product does not fit an Index.
Index checked_product(Index rows, Index columns);

/// Zeroed memory, 64-byte aligned, that is never moved.
///
/// One register's worth of zeros follows the last element, so that a kernel may read a whole vector anywhere in it.
template <class T>
class Buffer {
 public:
  Buffer() = default;
  /// Throws std::bad_alloc where the machine does not have the memory.
  explicit Buffer(Index size);
  Buffer(const Buffer& other);
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer other) noexcept;
  ~Buffer();

  T* data() { return data_; }
  const T* data() const { return data_; }
  Index size() const { return size_; }

 private:
  T* data_ = nullptr;
  Index size_ = 0;
};

}  // namespace chainrule
