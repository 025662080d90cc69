#pragma once

#include <filesystem>

namespace chainrule::engine {

/// Processors that the quotas of this process's control groups amount to, rounded up; 0 without one. `groups` is the
/// file that names the groups, `mount` where their folders are.
int cpu_quota(const std::filesystem::path& groups = "/proc/self/cgroup",
              const std::filesystem::path& mount = "/sys/fs/cgroup");

}  // namespace chainrule::engine
