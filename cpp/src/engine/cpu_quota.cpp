#include "cpu_quota.hpp"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <sstream>
#include <string>

namespace chainrule::engine {

namespace {

constexpr double no_limit = std::numeric_limits<double>::infinity();

/// Seconds of processors a second that one group may use.
double quota_of(const std::filesystem::path& folder) {
  double limit = 0, period = 0;
  std::ifstream both(folder / "cpu.max");  // version 2: "200000 100000", or "max 100000"
  if (!(both >> limit >> period)) {
    std::ifstream(folder / "cpu.cfs_quota_us") >> limit;
    std::ifstream(folder / "cpu.cfs_period_us") >> period;
  }
  return limit > 0 && period > 0 ? limit / period : no_limit;
}

bool names_cpu(const std::string& controllers) {
  std::istringstream names(controllers);
  for (std::string name; std::getline(names, name, ',');)
    if (name == "cpu") return true;
  return false;
}

}  // namespace

int cpu_quota(const std::filesystem::path& groups, const std::filesystem::path& mount) {
  double least = no_limit;
  std::ifstream lines(groups);
  // "number:controllers:/path", of version 2 without controllers.
  for (std::string line; std::getline(lines, line);) {
    std::istringstream fields(line);
    std::string number, controllers, path;
    std::getline(fields, number, ':');
    std::getline(fields, controllers, ':');
    if (!std::getline(fields, path)) continue;
    if (!controllers.empty() && !names_cpu(controllers)) continue;
    const std::filesystem::path root = controllers.empty() ? mount : mount / "cpu";
    // A limit of a group holds for those inside. In a container the path may be one that only its host has.
    for (std::filesystem::path group = path;; group = group.parent_path()) {
      least = std::min(least, quota_of(root / group.relative_path()));
      if (group == group.parent_path()) break;
    }
  }
  return least < no_limit ? std::max(1, static_cast<int>(std::min(std::ceil(least), 1e6))) : 0;
}

}  // namespace chainrule::engine
