#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "range.hpp"

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace chainrule::engine {

/// A reference to what is called with the number of a unit: no allocation, no ownership.
class UnitRef {
 public:
  template <class F>
    requires(!std::is_same_v<std::remove_cvref_t<F>, UnitRef>)
  UnitRef(F&& f)
      : object_(const_cast<void*>(static_cast<const void*>(&f))),
        call_([](void* object, std::ptrdiff_t i) { (*static_cast<std::remove_reference_t<F>*>(object))(i); }) {}
  void operator()(std::ptrdiff_t i) const { call_(object_, i); }

 private:
  void* object_;
  void (*call_)(void*, std::ptrdiff_t);
};

/// Threads worth using for so many floating-point operations: one for small work, where waking another takes longer.
int threads_for(double operations);

/// Treats subnormals as zero while it lives, or, within another's life, as the numbers that they are. They would make a
/// step many times slower. To set this takes as long as a hundred operations, and is left out where nothing changes.
template <bool flush>
class Subnormals {
 public:
  Subnormals() {
    if (wanted_ != before_) set(wanted_);
  }
  ~Subnormals() {
    if (wanted_ != before_) set(before_);
  }
  Subnormals(const Subnormals&) = delete;
  Subnormals& operator=(const Subnormals&) = delete;

 private:
#if defined(__x86_64__)
  using State = unsigned;
  static constexpr State flushing = 0x8040;
  static State get() { return _mm_getcsr(); }
  static void set(State state) { _mm_setcsr(state); }
#elif defined(__aarch64__)
  using State = std::uint64_t;
  static constexpr State flushing = State{1} << 24;
  static State get() {
    State state;
    asm volatile("mrs %0, fpcr" : "=r"(state));
    return state;
  }
  static void set(State state) { asm volatile("msr fpcr, %0" ::"r"(state)); }
#else
  using State = unsigned;
  static constexpr State flushing = 0;
  static State get() { return 0; }
  static void set(State) {}
#endif
  const State before_ = get(), wanted_ = flush ? before_ | flushing : before_ & ~flushing;
};
using FlushSubnormals = Subnormals<true>;
using KeepSubnormals = Subnormals<false>;

/// Calls unit(0) … unit(count - 1), on up to `threads` threads, and returns when all are done. Units are claimed one by
/// one; a thread that is late finds none left and nobody waits for it. Calls from several threads at once, and from
/// within a unit, run on the calling thread. The first exception that a unit throws is rethrown here.
///
/// Subnormal numbers count as zero in units; the caller's floating-point state is as it was on return.
void parallel(std::ptrdiff_t count, int threads, UnitRef unit);

}  // namespace chainrule::engine
