// How many processors the control groups leave to this process.

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "engine/cpu_quota.hpp"

using chainrule::engine::cpu_quota;

namespace {

/// A folder that is gone with it.
struct Mount {
  std::filesystem::path folder = std::filesystem::temp_directory_path() / "chainrule_test_cpu_quota";
  Mount() { std::filesystem::remove_all(folder); }
  ~Mount() { std::filesystem::remove_all(folder); }

  void write(const std::string& file, const std::string& text) const {
    std::filesystem::create_directories((folder / file).parent_path());
    std::ofstream(folder / file) << text << "\n";
  }
  int quota(const std::string& groups) const {
    write("groups", groups);
    return cpu_quota(folder / "groups", folder);
  }
};

}  // namespace

TEST_CASE("cpu quota: of the group itself and of those around it, the least, rounded up") {
  const Mount mount;
  const std::string groups = "0::/job/step";
  CHECK(mount.quota(groups) == 0);
  mount.write("job/step/cpu.max", "max 100000");
  CHECK(mount.quota(groups) == 0);
  mount.write("job/cpu.max", "350000 100000");
  CHECK(mount.quota(groups) == 4);
  mount.write("job/step/cpu.max", "20000 100000");
  CHECK(mount.quota(groups) == 1);
  CHECK(mount.quota("0::/job") == 4);
  CHECK(mount.quota("0::/elsewhere") == 0);
}

TEST_CASE("cpu quota: a container's own root, where the path is its host's") {
  const Mount mount;
  mount.write("cpu.max", "200000 100000");
  CHECK(mount.quota("0::/") == 2);
  CHECK(mount.quota("0::/docker/0123") == 2);
}

TEST_CASE("cpu quota: groups of version 1, of the controller cpu alone") {
  const Mount mount;
  mount.write("cpu/job/cpu.cfs_period_us", "100000");
  mount.write("cpu/job/cpu.cfs_quota_us", "-1");
  const std::string groups = "5:memory:/other\n4:cpu,cpuacct:/job\n3:cpuset:/job";
  CHECK(mount.quota(groups) == 0);
  mount.write("cpu/job/cpu.cfs_quota_us", "250000");
  CHECK(mount.quota(groups) == 3);
  CHECK(mount.quota("4:cpuset:/job") == 0);
}

TEST_CASE("cpu quota: without control groups, or with lines that say nothing") {
  const Mount mount;
  CHECK(cpu_quota(mount.folder / "nothing", mount.folder) == 0);
  CHECK(mount.quota("") == 0);
  CHECK(mount.quota("0") == 0);
  CHECK(mount.quota("0:cpu") == 0);
}
