#pragma once

namespace chainrule {

/// Threads that a call may use, at most. At first: OMP_NUM_THREADS, or the processors that the process may run on (its
/// affinity and the quota of its control group).
int num_threads();
/// std::invalid_argument for n < 1.
void set_num_threads(int n);

/// The instruction set in use, such as "x86-64-v4".
const char* instruction_set();

}  // namespace chainrule
