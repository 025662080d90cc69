// Which instruction set is in use, and how the environment names another.

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <set>
#include <string>

#include "chainrule/threads.hpp"
#include "engine/isa.hpp"
#include "engine/kernels.hpp"
#include "process.hpp"

using namespace chainrule;

TEST_CASE("instruction sets: this machine runs at least one, each with kernels of its own") {
  const auto sets = engine::instruction_sets();
  CHECK_FALSE(sets.empty());
  std::set<std::string> names;
  std::set<const void*> tables;
  for (const engine::InstructionSet& set : sets) {
    CAPTURE(std::string(set.name));
    CHECK(set.supported());
    names.insert(set.name);
    tables.insert({set.float_kernels(), set.double_kernels()});
  }
  CHECK(names.size() == sets.size());
  CHECK(tables.size() == 2 * sets.size());
}

TEST_CASE("instruction sets: no entry of a table is missing") {
  const auto complete = [](const auto& kernels) {
    const auto all = [](const auto& list) {
      return std::all_of(std::begin(list), std::end(list), [](auto* entry) { return entry != nullptr; });
    };
    return kernels.pack && kernels.pack_transposed && kernels.multiply && kernels.multiply_large &&
           kernels.multiply_far && kernels.multiply_large_transposed && kernels.multiply_column &&
           all(kernels.activate) && all(kernels.times_derivative) && all(kernels.loss) && all(kernels.update) &&
           kernels.sum_of_squares && kernels.all_finite && kernels.math;
  };
  for (const engine::InstructionSet& set : engine::instruction_sets()) {
    CAPTURE(std::string(set.name));
    CHECK(complete(*set.float_kernels()));
    CHECK(complete(*set.double_kernels()));
  }
}

TEST_CASE("instruction sets: the kernels in use are those of the set in use") {
  const engine::InstructionSet& used = engine::instruction_set();
  CHECK(std::string(instruction_set()) == used.name);
  CHECK(&engine::kernels<float>() == used.float_kernels());
  CHECK(&engine::kernels<double>() == used.double_kernels());
  const char* forced = std::getenv("CHAINRULE_ISA");
  CHECK(std::string(used.name) == (forced && *forced ? forced : engine::instruction_sets().front().name));
}

#if CHAINRULE_HAS_FORK
TEST_CASE("instruction sets: CHAINRULE_ISA names one") {
  for (const engine::InstructionSet& set : engine::instruction_sets()) {
    const support::Output output = support::run_self("--instruction-set", {"CHAINRULE_ISA", set.name});
    CHECK(output.exit_code == 0);
    CHECK(output.text == std::string(set.name) + "\n");
  }
  const support::Output best = support::run_self("--instruction-set", {"CHAINRULE_ISA", ""});
  CHECK(best.text == std::string(engine::instruction_sets().front().name) + "\n");
}

TEST_CASE("instruction sets: one that is unknown is an error that names those there are") {
  const support::Output output = support::run_self("--instruction-set", {"CHAINRULE_ISA", "x86-64-v9"});
  CHECK(output.exit_code == 77);
  CHECK(output.text.find("CHAINRULE_ISA is 'x86-64-v9'") != std::string::npos);
  for (const engine::InstructionSet& set : engine::instruction_sets())
    CHECK(output.text.find(set.name) != std::string::npos);
}
#endif
