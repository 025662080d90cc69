#include "chainrule/matrix.hpp"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <limits>
#include <new>
#include <stdexcept>
#include <utility>

#if defined(__unix__) || defined(__APPLE__)
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace chainrule {

namespace {

constexpr Index padding_bytes = 64;
constexpr std::size_t huge_page = std::size_t{2} << 20;

/// Large buffers start at a page of 2 MB, so that the system can map them by such pages: a walk down a column of a
/// matrix of small pages would look up one for each row.
std::align_val_t alignment(std::size_t bytes) { return std::align_val_t(bytes >= huge_page / 2 ? huge_page : 64); }

/// Where memory is overcommitted, an allocation that cannot be filled succeeds, and the process dies later.
bool fits_the_machine(std::size_t bytes) {
#if defined(_SC_PHYS_PAGES) && defined(_SC_PAGESIZE)
  const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
  if (pages > 0 && page > 0) return bytes / static_cast<std::size_t>(page) < static_cast<std::size_t>(pages);
#endif
  return bytes < static_cast<std::size_t>(std::numeric_limits<std::ptrdiff_t>::max());
}

/// Says how much was asked for.
class TooLarge : public std::bad_alloc {
 public:
  TooLarge(std::size_t count, std::size_t item) {
    std::snprintf(text_, sizeof text_, "%zu numbers of %zu bytes do not fit this machine's memory", count, item);
  }
  const char* what() const noexcept override { return text_; }

 private:
  char text_[100];
};

}  // namespace

Index checked_product(Index rows, Index columns) {
  Index result;
  if (__builtin_mul_overflow(rows, columns, &result) || rows < 0 || columns < 0)
    throw std::length_error(std::to_string(rows) + " × " + std::to_string(columns) + " numbers are too many to count");
  return result;
}

template <class T>
Buffer<T>::Buffer(Index size) : size_(size) {
  if (size == 0) return;
  const auto count = static_cast<std::size_t>(size);
  if (count > std::numeric_limits<std::size_t>::max() / (2 * sizeof(T)) || !fits_the_machine(count * sizeof(T)))
    throw TooLarge(count, sizeof(T));
  const std::size_t bytes = count * sizeof(T) + padding_bytes;
  data_ = static_cast<T*>(::operator new(bytes, alignment(bytes)));
#if defined(MADV_HUGEPAGE)
  if (bytes >= huge_page / 2) madvise(data_, bytes, MADV_HUGEPAGE);
#endif
  std::memset(static_cast<void*>(data_), 0, bytes);
}

template <class T>
Buffer<T>::Buffer(const Buffer& other) : Buffer(other.size_) {
  std::copy_n(other.data_, other.size_, data_);
}

template <class T>
Buffer<T>::Buffer(Buffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

template <class T>
Buffer<T>& Buffer<T>::operator=(Buffer other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

template <class T>
Buffer<T>::~Buffer() {
  if (data_) ::operator delete(data_, alignment(static_cast<std::size_t>(size_) * sizeof(T) + padding_bytes));
}

template class Buffer<float>;
template class Buffer<double>;

}  // namespace chainrule
