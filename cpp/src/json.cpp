#include "json.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <locale>
#include <sstream>
#include <stdexcept>
#include <unordered_set>

namespace chainrule::json {

namespace {

[[noreturn]] void fail(const std::string& what) { throw std::invalid_argument("its header is no JSON: " + what); }

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Value document() {
    Value value = this->value(0);
    skip_space();
    if (at_ != text_.size()) fail("something follows its end");
    return value;
  }

 private:
  void skip_space() {
    while (at_ < text_.size() && std::string_view(" \t\n\r").find(text_[at_]) != std::string_view::npos) ++at_;
  }
  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  bool take(std::string_view expected) {
    if (text_.substr(at_, expected.size()) != expected) return false;
    at_ += expected.size();
    return true;
  }
  void require(char expected) {
    if (peek() != expected) fail(std::string("'") + expected + "' is missing at byte " + std::to_string(at_));
    ++at_;
  }

  Value value(int depth) {
    if (depth > max_depth) fail("it is nested too deeply");
    if (++values_ > most_values) fail("it has more than " + std::to_string(most_values) + " values");
    skip_space();
    const char first = peek();
    if (first == '{') return Value(object(depth));
    if (first == '[') return Value(array(depth));
    if (first == '"') return Value(string());
    if (take("null")) return Value(nullptr);
    if (take("true")) return Value(true);
    if (take("false")) return Value(false);
    return Value(number());
  }

  Members object(int depth) {
    require('{');
    Members members;
    std::unordered_set<std::string> names;
    skip_space();
    while (peek() != '}') {
      if (!members.empty()) require(',');
      skip_space();
      std::string name = string();
      if (!names.insert(name).second) fail("'" + name + "' is there twice");
      skip_space();
      require(':');
      members.emplace_back(std::move(name), value(depth + 1));
      skip_space();
    }
    require('}');
    return members;
  }

  List array(int depth) {
    require('[');
    List list;
    skip_space();
    while (peek() != ']') {
      if (!list.empty()) require(',');
      list.push_back(value(depth + 1));
      skip_space();
    }
    require(']');
    return list;
  }

  std::string string() {
    require('"');
    std::string result;
    while (peek() != '"') {
      if (at_ >= text_.size()) fail("a string does not end");
      const char c = text_[at_++];
      if (static_cast<unsigned char>(c) < 0x20) fail("a string holds a control character");
      if (c == '\\')
        escaped(result);
      else
        result += c;
    }
    require('"');
    return result;
  }

  void escaped(std::string& to) {
    static constexpr std::string_view names = "\"\\/bfnrt", meanings = "\"\\/\b\f\n\r\t";
    const char c = peek();
    ++at_;
    if (const std::size_t i = names.find(c); i != std::string_view::npos) {
      to += meanings[i];
    } else if (c == 'u') {
      std::uint32_t code = hexadecimal();
      if (code >= 0xD800 && code < 0xDC00 && take("\\u")) {
        const std::uint32_t low = hexadecimal();
        if (low < 0xDC00 || low >= 0xE000) fail("half of a surrogate pair is missing");
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
      } else if (code >= 0xD800 && code < 0xE000) {
        fail("half of a surrogate pair is missing");
      }
      append_utf8(code, to);
    } else {
      fail("a string holds an unknown escape");
    }
  }

  std::uint32_t hexadecimal() {
    const std::string_view digits = text_.substr(at_, 4);
    std::uint32_t code = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), code, 16);
    if (digits.size() != 4 || error != std::errc() || end != digits.data() + 4) fail("an escape lacks digits");
    at_ += 4;
    return code;
  }

  static void append_utf8(std::uint32_t code, std::string& to) {
    const auto tail = [&](int shift) { to += static_cast<char>(0x80 | (code >> shift & 0x3F)); };
    if (code < 0x80) {
      to += static_cast<char>(code);
    } else if (code < 0x800) {
      to += static_cast<char>(0xC0 | code >> 6);
      tail(0);
    } else if (code < 0x10000) {
      to += static_cast<char>(0xE0 | code >> 12);
      tail(6);
      tail(0);
    } else {
      to += static_cast<char>(0xF0 | code >> 18);
      tail(12);
      tail(6);
      tail(0);
    }
  }

  Number number() {
    const std::size_t first = at_;
    if (peek() == '-') ++at_;
    if (peek() == '0')
      ++at_;
    else
      digits();
    if (peek() == '.') {
      ++at_;
      digits();
    }
    if (peek() == 'e' || peek() == 'E') {
      ++at_;
      if (peek() == '+' || peek() == '-') ++at_;
      digits();
    }
    return {std::string(text_.substr(first, at_ - first))};
  }

  void digits() {
    const std::size_t first = at_;
    while (peek() >= '0' && peek() <= '9') ++at_;
    if (at_ == first) fail("a value is missing at byte " + std::to_string(at_));
  }

  std::string_view text_;
  std::size_t at_ = 0;
  std::size_t values_ = 0;
};

template <class T>
const T& as(const Value::Any& any, const char* what) {
  const T* value = std::get_if<T>(&any);
  if (!value) throw std::invalid_argument(std::string("its header has something else than ") + what);
  return *value;
}

}  // namespace

std::uint64_t Value::integer(std::uint64_t minimum, std::uint64_t maximum) const {
  const std::string& text = as<Number>(any_, "an integer").text;
  std::uint64_t result = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), result);
  if (error != std::errc() || end != text.data() + text.size() || result < minimum || result > maximum)
    throw std::invalid_argument("its header has " + text.substr(0, 40) + "; expected an integer from " +
                                std::to_string(minimum) + " to " + std::to_string(maximum));
  return result;
}

double Value::number() const {
  const std::string& text = as<Number>(any_, "a number").text;
  std::istringstream stream(text);
  stream.imbue(std::locale::classic());
  double result = 0;
  stream >> result;
  if (stream.fail() || !std::isfinite(result))
    throw std::invalid_argument("its header has " + text.substr(0, 40) + "; expected a finite number");
  return result;
}

const std::string& Value::string() const { return as<std::string>(any_, "a string"); }
const List& Value::list() const { return as<List>(any_, "a list"); }
const Members& Value::members() const { return as<Members>(any_, "an object"); }

const Value* Value::find(std::string_view name) const {
  const Members& all = members();
  const auto found = std::find_if(all.begin(), all.end(), [&](const auto& member) { return member.first == name; });
  return found == all.end() ? nullptr : &found->second;
}

const Value& Value::at(std::string_view name) const {
  const Value* value = find(name);
  if (!value) throw std::invalid_argument("its header has no '" + std::string(name) + "'");
  return *value;
}

Value parse(std::string_view text) { return Parser(text).document(); }

std::string quoted(std::string_view text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    if (static_cast<unsigned char>(c) >= 0x20) {
      result += c;
    } else {
      char code[8];
      std::snprintf(code, sizeof code, "\\u%04x", static_cast<unsigned>(c));
      result += code;
    }
  }
  return result + '"';
}

}  // namespace chainrule::json
