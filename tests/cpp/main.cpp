#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>
#include <exception>
#include <stdexcept>
#include <string>

#include "chainrule/threads.hpp"

// With --instruction-set or --threads it prints the one in use, for tests that start it in another environment.
// Otherwise it runs the tests; it leaves with 77 where this machine lacks the instruction set that CHAINRULE_ISA names.
int main(int argc, char** argv) {
  const std::string command = argc > 1 ? argv[1] : "";
  try {
    const char* isa = chainrule::instruction_set();
    if (command == "--instruction-set") return std::puts(isa) < 0;
    if (command == "--threads") return std::printf("%d\n", chainrule::num_threads()) < 0;
  } catch (const std::runtime_error& error) {
    std::puts(error.what());
    return 77;
  }
  return doctest::Context(argc, argv).run();
}
