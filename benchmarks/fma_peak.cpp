// Prints the single-precision fused multiply-add rate, in GFLOP/s, of as many threads as the first argument says.
#include <algorithm>
#include <array>
#include <barrier>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <utility>
#include <vector>

namespace {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif
using Vector = float __attribute__((vector_size(kVectorBytes)));
constexpr double kLanes = kVectorBytes / sizeof(float);

// Enough independent sums to hide the latency of two units (2 units × 4–5 cycles), few enough for 16 registers.
constexpr int kSums = 12;
constexpr int kRepeats = 300'000;
constexpr int kBlocks = 100;

using Sums = std::array<Vector, kSums>;

// The sums are written out by index: a loop over them would leave them in memory.
template <std::size_t... I>
void multiply_add(Sums& sums, Vector factor, Vector term, std::index_sequence<I...>) {
  Sums s = sums;
  for (int i = 0; i < kRepeats; ++i) {
    ((s[I] = s[I] * factor + term), ...);
  }
  sums = s;
}

// The median rate over blocks of about a millisecond: a block in which the thread was interrupted does not count.
double gigaflops(std::barrier<>& start) {
  using Clock = std::chrono::steady_clock;
  Sums sums{};
  const Vector factor = Vector{} + 0.999F;
  const Vector term = Vector{} + 0.001F;
  multiply_add(sums, factor, term, std::make_index_sequence<kSums>{});
  start.arrive_and_wait();
  std::vector<double> rates;
  for (int block = 0; block < kBlocks; ++block) {
    const auto before = Clock::now();
    multiply_add(sums, factor, term, std::make_index_sequence<kSums>{});
    const std::chrono::duration<double> elapsed = Clock::now() - before;
    rates.push_back(2.0 * kLanes * kSums * kRepeats / elapsed.count() * 1e-9);
  }
  float total = 0;
  for (const Vector& sum : sums) total += sum[0];
  volatile float used = total;
  static_cast<void>(used);
  std::nth_element(rates.begin(), rates.begin() + kBlocks / 2, rates.end());
  return rates[kBlocks / 2];
}

}  // namespace

int main(int argc, char** argv) {
  const int n_threads = argc > 1 ? std::atoi(argv[1]) : 1;
  if (n_threads < 1) return EXIT_FAILURE;
  std::barrier start(n_threads);
  std::vector<double> rates(n_threads);
  std::vector<std::thread> threads;
  for (double& rate : rates) threads.emplace_back([&start, &rate] { rate = gigaflops(start); });
  double total = 0;
  for (int i = 0; i < n_threads; ++i) {
    threads[i].join();
    total += rates[i];
  }
  std::printf("%.2f\n", total);
}
