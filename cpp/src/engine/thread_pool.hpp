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

/// Treats subnormals as zero while it lives: they would make a step many times slower. Setting this takes as long as a
/// hundred operations, and is left out within another's life.
class FlushSubnormals {
 public:
#if defined(__x86_64__)
  FlushSubnormals() : before_(_mm_getcsr()) {
    if ((before_ & flushing) != flushing) _mm_setcsr(before_ | flushing);
  }
  ~FlushSubnormals() {
    if ((before_ & flushing) != flushing) _mm_setcsr(before_);
  }
  FlushSubnormals(const FlushSubnormals&) = delete;
  FlushSubnormals& operator=(const FlushSubnormals&) = delete;

 private:
  static constexpr unsigned flushing = 0x8040;
  unsigned before_;
#elif defined(__aarch64__)
  FlushSubnormals() {
    asm volatile("mrs %0, fpcr" : "=r"(before_));
    asm volatile("msr fpcr, %0" ::"r"(before_ | (1ull << 24)));
  }
  ~FlushSubnormals() { asm volatile("msr fpcr, %0" ::"r"(before_)); }

 private:
  std::uint64_t before_;
#endif
};

/// Calls unit(0) … unit(count - 1), on up to `threads` threads, and returns when all are done. Units are claimed one by
/// one; a thread that is late finds none left and nobody waits for it. Calls from several threads at once, and from
/// within a unit, run on the calling thread. The first exception that a unit throws is rethrown here.
///
/// Subnormal numbers count as zero in units; the caller's floating-point state is as it was on return.
void parallel(std::ptrdiff_t count, int threads, UnitRef unit);

}  // namespace chainrule::engine
