#pragma once

#include <cstddef>
#include <type_traits>
#include <utility>

namespace chainrule::engine {

/// A reference to a callable: no allocation, no ownership.
template <class Signature>
class FunctionRef;
template <class... Arguments>
class FunctionRef<void(Arguments...)> {
 public:
  template <class F>
  FunctionRef(F&& f)
      : object_(const_cast<void*>(static_cast<const void*>(&f))), call_([](void* object, Arguments... arguments) {
          (*static_cast<std::remove_reference_t<F>*>(object))(arguments...);
        }) {}
  void operator()(Arguments... arguments) const { call_(object_, arguments...); }

 private:
  void* object_;
  void (*call_)(void*, Arguments...);
};

/// Threads worth using for so many floating-point operations: one for small work, where waking another takes longer.
int threads_for(double operations);

/// Calls unit(0) … unit(count - 1), on up to `threads` threads, and returns when all are done. Units are claimed one by
/// one; a thread that is late finds none left and nobody waits for it. Calls from several threads at once, and from
/// within a unit, run on the calling thread. The first exception that a unit throws is rethrown here.
///
/// Subnormal numbers count as zero in units; the caller's floating-point state is as it was on return.
void parallel(std::ptrdiff_t count, int threads, FunctionRef<void(std::ptrdiff_t)> unit);

/// Part i of `count` items cut into `parts` even parts: items begin … end - 1.
struct Range {
  std::ptrdiff_t begin, end;
  std::ptrdiff_t size() const { return end - begin; }
};
inline Range part(std::ptrdiff_t count, std::ptrdiff_t parts, std::ptrdiff_t i) {
  return {count * i / parts, count * (i + 1) / parts};
}

}  // namespace chainrule::engine
