#pragma once

// Child processes, where the system has them.

#if defined(__linux__)
#define CHAINRULE_HAS_FORK 1

#include <sys/wait.h>
#include <unistd.h>

#include <climits>
#include <cstdlib>
#include <string>
#include <utility>

namespace support {

/// The exit code of a forked child that calls `body`; 128 + the signal that ended it. A child that hangs gets SIGALRM.
template <class Body>
int exit_code_of_child(const Body& body) {
  const pid_t child = fork();
  if (child < 0) return -1;
  if (child == 0) {
    alarm(60);
    _exit(body());
  }
  int status = 0;
  if (waitpid(child, &status, 0) != child) return -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

struct Output {
  int exit_code;
  std::string text;
};

/// Starts this program anew with one argument and one variable in its environment; an empty one is unset.
inline Output run_self(const char* argument, const std::pair<const char*, const char*>& variable) {
  char path[PATH_MAX] = {};
  if (readlink("/proc/self/exe", path, sizeof path - 1) < 0) return {-1, "no path"};
  int ends[2];
  if (pipe(ends) != 0) return {-1, "no pipe"};
  const pid_t child = fork();
  if (child < 0) return {-1, "no child"};
  if (child == 0) {
    if (*variable.second)
      setenv(variable.first, variable.second, 1);
    else
      unsetenv(variable.first);
    alarm(60);
    dup2(ends[1], STDOUT_FILENO);
    close(ends[0]);
    close(ends[1]);
    execl(path, path, argument, static_cast<char*>(nullptr));
    _exit(127);
  }
  close(ends[1]);
  std::string text;
  char part[256];
  for (ssize_t count; (count = read(ends[0], part, sizeof part)) > 0;)
    text.append(part, static_cast<std::size_t>(count));
  close(ends[0]);
  int status = 0;
  if (waitpid(child, &status, 0) != child) return {-1, "no status"};
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), text};
}

}  // namespace support
#else
#define CHAINRULE_HAS_FORK 0
#endif
