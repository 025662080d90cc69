// Buffers and counts.

#include <doctest/doctest.h>

#include <algorithm>
#include <limits>
#include <new>
#include <stdexcept>
#include <utility>

#include "chainrule/matrix.hpp"

using chainrule::Buffer;
using chainrule::checked_product;
using chainrule::Index;

namespace {

template <class T>
bool all_equal(const Buffer<T>& buffer, T value) {
  return std::all_of(buffer.data(), buffer.data() + buffer.size(), [value](T x) { return x == value; });
}

}  // namespace

TEST_CASE_TEMPLATE("buffer: zeroed, aligned, and readable one register beyond its end", T, float, double) {
  for (const Index size : {1, 2, 15, 16, 17, 1000}) {
    const Buffer<T> buffer(size);
    CHECK(buffer.size() == size);
    CHECK(reinterpret_cast<std::uintptr_t>(buffer.data()) % 64 == 0);
    CHECK(all_equal(buffer, T(0)));
    CHECK(std::all_of(buffer.data() + size, buffer.data() + size + 64 / sizeof(T), [](T x) { return x == 0; }));
  }
}

TEST_CASE_TEMPLATE("buffer: empty", T, float, double) {
  const Buffer<T> none, zero(0), copy(zero);
  CHECK(none.data() == nullptr);
  CHECK(none.size() == 0);
  CHECK(zero.data() == nullptr);
  CHECK(copy.size() == 0);
}

TEST_CASE_TEMPLATE("buffer: copies are deep, moves keep the memory", T, float, double) {
  Buffer<T> one(20);
  std::fill_n(one.data(), 20, T(3));
  Buffer<T> copy(one);
  CHECK(copy.data() != one.data());
  CHECK(all_equal(copy, T(3)));
  copy.data()[0] = 4;
  CHECK(one.data()[0] == 3);

  const T* memory = one.data();
  Buffer<T> moved(std::move(one));
  CHECK(moved.data() == memory);
  CHECK(moved.size() == 20);

  Buffer<T> assigned(5);
  assigned = moved;
  CHECK(assigned.data() != memory);
  CHECK(assigned.size() == 20);
  CHECK(all_equal(assigned, T(3)));
  assigned = std::move(moved);
  CHECK(assigned.data() == memory);
}

TEST_CASE_TEMPLATE("buffer: more than the machine has", T, float, double) {
  CHECK_THROWS_AS(Buffer<T>{std::numeric_limits<Index>::max()}, std::bad_alloc);
  CHECK_THROWS_AS(Buffer<T>{Index{1} << 50}, std::bad_alloc);
  CHECK_THROWS_AS(Buffer<T>{-1}, std::bad_alloc);
}

TEST_CASE("checked product: exact, or std::length_error") {
  constexpr Index most = std::numeric_limits<Index>::max();
  CHECK(checked_product(0, most) == 0);
  CHECK(checked_product(3, 7) == 21);
  CHECK(checked_product(1, most) == most);
  CHECK(checked_product(Index{1} << 31, Index{1} << 31) == Index{1} << 62);
  CHECK_THROWS_AS(checked_product(2, most), std::length_error);
  CHECK_THROWS_AS(checked_product(Index{1} << 32, Index{1} << 31), std::length_error);
  CHECK_THROWS_AS(checked_product(-1, 5), std::length_error);
  CHECK_THROWS_AS(checked_product(5, -1), std::length_error);
  CHECK_THROWS_AS(checked_product(-2, -3), std::length_error);
}
