#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace chainrule::json {

// As much of JSON as a file's header needs: strict, without recursion deeper than `max_depth`, with as many values as
// fit into some memory, and without numbers that lose digits: they stay text until somebody asks. All errors are
// std::invalid_argument.

inline constexpr int max_depth = 8;
inline constexpr std::size_t most_values = 1'000'000;

class Value;
using List = std::vector<Value>;
using Members = std::vector<std::pair<std::string, Value>>;

struct Number {
  std::string text;
};

class Value {
 public:
  using Any = std::variant<std::nullptr_t, bool, Number, std::string, List, Members>;
  explicit Value(Any any) : any_(std::move(any)) {}

  bool is_null() const { return std::holds_alternative<std::nullptr_t>(any_); }
  /// Whole and within both bounds.
  std::uint64_t integer(std::uint64_t minimum, std::uint64_t maximum) const;
  double number() const;
  const std::string& string() const;
  const List& list() const;
  const Members& members() const;
  /// The member of that name, or nullptr.
  const Value* find(std::string_view name) const;
  /// The member of that name; an error without.
  const Value& at(std::string_view name) const;

 private:
  Any any_;
};

/// Parses all of the text; spaces may follow. No name may be there twice in an object.
Value parse(std::string_view text);

/// A string as JSON writes it, in quotes.
std::string quoted(std::string_view text);

}  // namespace chainrule::json
