#include "thread_pool.hpp"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <limits>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <vector>

#include "chainrule/threads.hpp"
#include "cpu_quota.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#endif
#if defined(__linux__)
#include <sched.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

namespace chainrule::engine {

namespace {

inline void pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

/// The processor that runs this thread; -1 where the system does not tell.
int processor() {
#if defined(__linux__)
  return sched_getcpu();
#else
  return -1;
#endif
}

/// Workers that wait for a job. Its units are dealt out evenly, to each thread a run of its own: so a thread mostly
/// gets what it got in the last step and has in its cache, and takes from others only when it has no more. What is left
/// of a run is one number, (generation, units left): a unit is claimed by taking one off, which fails once the
/// generation is over, so that a late worker can never touch another job.
class Pool {
 public:
  /// False if it is busy with somebody else's job.
  bool run(std::uint32_t count, int threads, UnitRef unit) {
    if (busy_.exchange(true, std::memory_order_acquire)) return false;
    try {
      while (static_cast<int>(workers_.size()) < threads - 1)
        workers_.emplace_back([this, number = static_cast<int>(workers_.size()) + 1] { work(number); });
    } catch (const std::exception&) {
      // The system gives no more threads: the job is done by those there are.
    }
    unit_ = &unit;
    threads_.store(threads, std::memory_order_relaxed);
    caller_processor_.store(processor(), std::memory_order_relaxed);
    done_.store(0, std::memory_order_relaxed);
    const std::uint32_t generation = generation_.load(std::memory_order_relaxed) + 1;
    const int runs = std::min(threads, most_runs);
    runs_.store(runs, std::memory_order_relaxed);
    for (int i = 0; i < runs; ++i) {
      const Range range = part(count, runs, i);
      run_[i].end = static_cast<std::uint32_t>(range.end);
      run_[i].left.store(std::uint64_t{generation} << 32 | static_cast<std::uint64_t>(range.size()));
    }
    generation_.store(generation);
    if (sleepers_.load() > 0) {
      std::lock_guard lock(mutex_);
      wake_.notify_all();
    }
    take_part(0, generation);
    for (int spin = 0; done_.load(std::memory_order_acquire) < count; ++spin) {
      // Whoever has the last unit may have lost its processor, perhaps to this thread.
      if (spin < spins_)
        pause();
      else
        std::this_thread::yield();
    }
    std::exception_ptr error = std::exchange(error_, nullptr);
    busy_.store(false, std::memory_order_release);
    if (error) std::rethrow_exception(error);
    return true;
  }

 private:
  struct alignas(64) Run {
    std::atomic<std::uint64_t> left{0};
    std::uint32_t end = 0;
  };

  void take_part(int number, std::uint32_t generation) {
    std::uint32_t taken = 0;
    const int runs = runs_.load(std::memory_order_relaxed);
    for (int i = 0; i < runs; ++i) {
      Run& run = run_[(number + i) % runs];
      std::uint64_t left = run.left.load();
      while (left >> 32 == generation && (left & 0xffffffff) > 0) {
        if (!run.left.compare_exchange_weak(left, left - 1)) continue;
        try {
          (*unit_)(run.end - (left & 0xffffffff));
        } catch (...) {
          std::lock_guard lock(mutex_);
          if (!error_) error_ = std::current_exception();
        }
        ++taken;
        left = run.left.load();
      }
    }
    if (taken > 0) done_.fetch_add(taken, std::memory_order_release);
  }

  bool shares_processor() const {
    const int here = processor();
    return here >= 0 && here == caller_processor_.load(std::memory_order_relaxed);
  }

  void work(int number) {
    const FlushSubnormals flush;
    std::uint32_t seen = 0;
    for (;;) {
      std::uint32_t generation = generation_.load();
      for (int spin = 0; generation == seen && spin < spins_; ++spin) {
        // On the caller's processor it would wait for what it keeps the caller from; woken, it may get another.
        if (spin % 64 == 0 && shares_processor()) break;
        pause();
        generation = generation_.load(std::memory_order_relaxed);
      }
      if (generation == seen) {
        std::unique_lock lock(mutex_);
        ++sleepers_;
        wake_.wait(lock, [&] { return generation_.load() != seen; });
        --sleepers_;
        generation = generation_.load();
      }
      seen = generation;
      if (number < threads_.load(std::memory_order_relaxed)) take_part(number, generation);
    }
  }

  // About 100 µs: longer than Python takes between two steps, shorter than anybody notices.
  static constexpr int spins_ = 2500;

  std::vector<std::thread> workers_;
  std::atomic<bool> busy_{false};
  static constexpr int most_runs = 64;
  Run run_[most_runs];
  alignas(64) std::atomic<std::uint32_t> generation_{0};
  std::atomic<int> runs_{0}, threads_{0}, caller_processor_{-2};
  UnitRef* unit_ = nullptr;
  alignas(64) std::atomic<std::uint32_t> done_{0};
  std::atomic<int> sleepers_{0};
  std::exception_ptr error_;
  std::mutex mutex_;
  std::condition_variable wake_;
};

std::atomic<Pool*> the_pool{nullptr};

/// Made at the first use, and anew in a forked child, which has none of its parent's threads. It is never destroyed:
/// threads may still be at work when static objects go.
Pool& pool() {
  if (Pool* existing = the_pool.load(std::memory_order_acquire)) return *existing;
#if defined(__unix__) || defined(__APPLE__)
  static const int registered = pthread_atfork(nullptr, nullptr, [] { the_pool.store(nullptr); });
  (void)registered;
#endif
  auto* fresh = new Pool;
  Pool* expected = nullptr;
  if (the_pool.compare_exchange_strong(expected, fresh)) return *fresh;
  delete fresh;
  return *expected;
}

int affinity() {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0) return CPU_COUNT(&set);
#endif
  const unsigned n = std::thread::hardware_concurrency();
  return n > 0 ? static_cast<int>(n) : 1;
}

int initial_threads() {
  if (const char* text = std::getenv("OMP_NUM_THREADS")) {
    const long n = std::strtol(text, nullptr, 10);
    if (n > 0 && n <= std::numeric_limits<int>::max()) return static_cast<int>(n);
  }
  const int cores = affinity(), limit = cpu_quota();
  return limit > 0 && limit < cores ? limit : cores;
}

std::atomic<int>& thread_limit() {
  static std::atomic<int> limit{initial_threads()};
  return limit;
}

// Below this many operations a thread has less to do than it takes to tell it so.
constexpr double operations_per_thread = 4e5;

}  // namespace

int threads_for(double operations) {
  const int limit = thread_limit().load(std::memory_order_relaxed);
  if (limit == 1 || operations < 2 * operations_per_thread) return 1;
  const double worth = operations / operations_per_thread;
  return worth < limit ? static_cast<int>(worth) : limit;
}

void parallel(std::ptrdiff_t count, int threads, UnitRef unit) {
  if (count <= 0) return;
  const FlushSubnormals flush;
  const int useful = count < threads ? static_cast<int>(count) : threads;
  if (useful > 1 && pool().run(static_cast<std::uint32_t>(count), useful, unit)) return;
  for (std::ptrdiff_t i = 0; i < count; ++i) unit(i);
}

}  // namespace chainrule::engine

namespace chainrule {

int num_threads() { return engine::thread_limit().load(); }

void set_num_threads(int n) {
  if (n < 1) throw std::invalid_argument("n is " + std::to_string(n) + "; a number of threads is at least 1");
  engine::thread_limit().store(n);
}

}  // namespace chainrule
