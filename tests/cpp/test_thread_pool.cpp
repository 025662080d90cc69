// The thread pool: every unit once, errors to the caller, nesting, forking; and the number of threads.

#include <doctest/doctest.h>

#include <atomic>
#include <numeric>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "chainrule/threads.hpp"
#include "engine/thread_pool.hpp"
#include "process.hpp"
#include "support.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

using chainrule::engine::parallel;
using chainrule::engine::part;
using chainrule::engine::Range;
using chainrule::engine::threads_for;
using support::KeepThreads;

namespace {

/// How often each unit was called.
std::vector<int> calls(std::ptrdiff_t count, int threads) {
  std::vector<std::atomic<int>> counters(static_cast<std::size_t>(count));
  parallel(count, threads, [&](std::ptrdiff_t i) { ++counters[static_cast<std::size_t>(i)]; });
  return {counters.begin(), counters.end()};
}

std::vector<int> ones(std::ptrdiff_t count) { return std::vector<int>(static_cast<std::size_t>(count), 1); }

}  // namespace

TEST_CASE("thread pool: every unit is called once") {
  for (const int threads : {1, 2, 3, 8})
    for (const std::ptrdiff_t count : {0, 1, 2, 3, 7, 64, 1000}) {
      CAPTURE(threads);
      CAPTURE(count);
      for (int repeat = 0; repeat < 20; ++repeat) CHECK(calls(count, threads) == ones(count));
    }
}

TEST_CASE("thread pool: what units wrote is there when the call returns") {
  std::vector<std::ptrdiff_t> squares(500);
  for (int repeat = 0; repeat < 50; ++repeat) {
    std::fill(squares.begin(), squares.end(), -1);
    parallel(500, 4, [&](std::ptrdiff_t i) { squares[static_cast<std::size_t>(i)] = i * i + repeat; });
    bool right = true;
    for (std::ptrdiff_t i = 0; i < 500; ++i) right = right && squares[static_cast<std::size_t>(i)] == i * i + repeat;
    CHECK(right);
  }
}

TEST_CASE("thread pool: one thread is the caller, in order") {
  std::vector<std::ptrdiff_t> order;
  bool here = true;
  parallel(10, 1, [&, caller = std::this_thread::get_id()](std::ptrdiff_t i) {
    order.push_back(i);
    here = here && std::this_thread::get_id() == caller;
  });
  std::vector<std::ptrdiff_t> expected(10);
  std::iota(expected.begin(), expected.end(), 0);
  CHECK(order == expected);
  CHECK(here);
}

TEST_CASE("thread pool: an exception comes back to the caller, and the pool goes on") {
  for (const int threads : {1, 2, 8})
    for (const std::ptrdiff_t bad : {0, 5, 99}) {
      CAPTURE(threads);
      CAPTURE(bad);
      CHECK_THROWS_WITH_AS(parallel(100, threads,
                                    [&](std::ptrdiff_t i) {
                                      if (i == bad) throw std::runtime_error("unit " + std::to_string(i));
                                    }),
                           ("unit " + std::to_string(bad)).c_str(), std::runtime_error);
      CHECK(calls(100, threads) == ones(100));
    }
  CHECK_THROWS_AS(parallel(50, 4, [](std::ptrdiff_t) { throw std::domain_error("each"); }), std::domain_error);
  CHECK(calls(50, 4) == ones(50));
}

TEST_CASE("thread pool: calls from within a unit") {
  std::vector<std::atomic<int>> counters(8 * 30);
  std::atomic<int> elsewhere{0};
  parallel(8, 4, [&](std::ptrdiff_t i) {
    const auto outer = std::this_thread::get_id();
    parallel(30, 4, [&](std::ptrdiff_t j) {
      ++counters[static_cast<std::size_t>(30 * i + j)];
      if (std::this_thread::get_id() != outer) ++elsewhere;
    });
  });
  CHECK(std::vector<int>(counters.begin(), counters.end()) == ones(8 * 30));
  CHECK(elsewhere == 0);
}

TEST_CASE("thread pool: calls from several threads at once") {
  std::vector<char> right(5, 0);
  std::vector<std::thread> callers;
  for (std::size_t c = 0; c < right.size(); ++c)
    callers.emplace_back([&, c] {
      bool all = true;
      for (int repeat = 0; repeat < 50; ++repeat) all = all && calls(40, 3) == ones(40);
      right[c] = all;
    });
  for (std::thread& caller : callers) caller.join();
  CHECK(right == std::vector<char>(5, 1));
}

#if CHAINRULE_HAS_FORK
namespace {

void fork_and_run(int times) {
  CHECK(calls(100, 4) == ones(100));
  for (int i = 0; i < times; ++i) {
    CAPTURE(i);
    // The first child finds a pool that has run, the next ones what the one before left behind.
    REQUIRE(support::exit_code_of_child([] { return calls(100, 4) == ones(100) && calls(7, 2) == ones(7) ? 0 : 1; }) ==
            0);
    CHECK(calls(100, 4) == ones(100));
  }
}

}  // namespace

TEST_CASE("thread pool: a forked child has a pool of its own") { fork_and_run(20); }

TEST_CASE("thread pool: a child's child") {
  CHECK(calls(100, 4) == ones(100));
  const int code = support::exit_code_of_child([] {
    if (calls(100, 4) != ones(100)) return 1;
    return support::exit_code_of_child([] { return calls(100, 4) == ones(100) ? 0 : 2; });
  });
  CHECK(code == 0);
}

TEST_SUITE_BEGIN("long");

TEST_CASE("thread pool: 200 forked children" * doctest::skip(true)) { fork_and_run(200); }

TEST_SUITE_END();

TEST_CASE("threads: OMP_NUM_THREADS is the number at first") {
  for (const char* n : {"1", "3", "17"}) {
    const support::Output output = support::run_self("--threads", {"OMP_NUM_THREADS", n});
    CHECK(output.exit_code == 0);
    CHECK(output.text == std::string(n) + "\n");
  }
  const std::string processors = support::run_self("--threads", {"OMP_NUM_THREADS", ""}).text;
  for (const char* nonsense : {"0", "-2", "many"})
    CHECK(support::run_self("--threads", {"OMP_NUM_THREADS", nonsense}).text == processors);
  CHECK(std::stoi(processors) >= 1);
}
#endif

#if defined(__x86_64__)
TEST_CASE("thread pool: the caller's floating-point state is the same after a call") {
  const unsigned before = _mm_getcsr();
  // Rounding towards zero with subnormals as they are; and flushed, with the usual rounding.
  for (const unsigned state : {before, (before & ~0xffc0u) | 0x7f80u, before | 0x8040u}) {
    CAPTURE(state);
    for (const int threads : {1, 4}) {
      _mm_setcsr(state);
      parallel(20, threads, [](std::ptrdiff_t) {});
      const unsigned after = _mm_getcsr();
      bool thrown = false;
      try {
        parallel(20, threads, [](std::ptrdiff_t) { throw 1; });
      } catch (int) {
        thrown = true;
      }
      const unsigned after_throw = _mm_getcsr();
      _mm_setcsr(before);
      CHECK(after == state);
      CHECK(after_throw == state);
      CHECK(thrown);
    }
  }
}

TEST_CASE("thread pool: subnormal numbers are zero in units") {
  for (const int threads : {1, 4}) {
    std::vector<float> halves(64, -1.0f);
    volatile float smallest = std::numeric_limits<float>::min();
    parallel(64, threads, [&](std::ptrdiff_t i) { halves[static_cast<std::size_t>(i)] = smallest * 0.5f; });
    CHECK(halves == std::vector<float>(64, 0.0f));
    CHECK(smallest * 0.5f > 0);
  }
}
#endif

TEST_CASE("threads: the number can be set") {
  const KeepThreads keep;
  for (const int n : {1, 2, 5}) {
    chainrule::set_num_threads(n);
    CHECK(chainrule::num_threads() == n);
  }
  CHECK_THROWS_AS(chainrule::set_num_threads(0), std::invalid_argument);
  CHECK_THROWS_AS(chainrule::set_num_threads(-1), std::invalid_argument);
  CHECK(chainrule::num_threads() == 5);
}

TEST_CASE("threads: small work stays on one, and more work never takes fewer") {
  const KeepThreads keep;
  for (const int limit : {1, 2, 8}) {
    CAPTURE(limit);
    chainrule::set_num_threads(limit);
    CHECK(threads_for(0) == 1);
    CHECK(threads_for(1000) == 1);
    CHECK(threads_for(1e12) == limit);
    int last = 1;
    bool grows = true;
    for (double operations = 1; operations < 1e9; operations *= 1.3) {
      grows = grows && threads_for(operations) >= last && threads_for(operations) <= limit;
      last = threads_for(operations);
    }
    CHECK(grows);
  }
}

TEST_CASE("threads: parts cover all items, evenly and in order") {
  for (std::ptrdiff_t count = 0; count < 40; ++count)
    for (std::ptrdiff_t parts = 1; parts < 12; ++parts) {
      CAPTURE(count);
      CAPTURE(parts);
      std::ptrdiff_t end = 0;
      bool even = true;
      for (std::ptrdiff_t i = 0; i < parts; ++i) {
        const Range range = part(count, parts, i);
        even = even && range.begin == end && range.size() >= count / parts && range.size() <= count / parts + 1;
        end = range.end;
      }
      CHECK(even);
      CHECK(end == count);
    }
}
