// Files: what was saved comes back, to the bit; the hostile files that Python refuses are refused here too.

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <locale>
#include <stdexcept>
#include <string>

#include "chainrule/backprop.hpp"
#include "chainrule/init.hpp"
#include "chainrule/predict.hpp"
#include "chainrule/serialization.hpp"
#include "json.hpp"
#include "number.hpp"
#include "support.hpp"

using namespace chainrule;
using support::same_bits;

namespace {

const std::filesystem::path files = CHAINRULE_TEST_FILES;

/// A folder that is removed with all that is in it.
struct Folder {
  std::filesystem::path path = std::filesystem::temp_directory_path() / ("chainrule-" + std::to_string(std::rand()));
  Folder() { std::filesystem::create_directories(path); }
  ~Folder() { std::filesystem::remove_all(path); }
};

template <class T>
Network<T> rich() {
  Network<T> network(4, {{5, activation_named("elu", 0.7), 0.25}, {3, GELU{}}, {2, Softmax{}}});
  initialise(network, 7);
  return network;
}

std::string message(const std::string& text) {
  try {
    json::parse(text);
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE_TEMPLATE("a saved network comes back to the bit", T, float, double) {
  const Folder folder;
  const Network<T> network = rich<T>();
  const std::uint64_t seed = std::numeric_limits<std::uint64_t>::max();
  save<T>(network, CrossEntropy{}, folder.path / "net", seed, 12);
  const SavedNetwork<T> saved = load<T>(folder.path / "net");
  CHECK(saved.seed == seed);
  CHECK(saved.epochs_trained == 12);
  CHECK(std::string(name(saved.loss)) == "cross_entropy");
  REQUIRE(saved.network.depth() == 3);
  for (Index l = 1; l <= 3; ++l) {
    CHECK(saved.network.units(l) == network.units(l));
    CHECK(saved.network.activation(l) == network.activation(l));
    CHECK(saved.network.dropout(l) == network.dropout(l));
  }
  CHECK(same_bits(saved.network.parameters(), network.parameters()));
}

TEST_CASE("numbers in a file are not those of the program's locale") {
  struct Grouped : std::numpunct<char> {
    std::string do_grouping() const override { return "\3"; }
    char do_thousands_sep() const override { return '.'; }
    char do_decimal_point() const override { return ','; }
  };
  const Folder folder;
  Network<double> network(40, {{50, activation_named("elu", 0.75)}, {1, Identity{}}});
  initialise(network, 7);
  const std::locale before = std::locale::global(std::locale(std::locale::classic(), new Grouped));
  save<double>(network, Huber{{}, 1.5}, folder.path / "net");
  const SavedNetwork<double> saved = load<double>(folder.path / "net");
  std::locale::global(before);
  CHECK(same_bits(Vector<double>(saved.network.parameters()), Vector<double>(network.parameters())));
  CHECK(parameters(saved.loss) == std::vector<double>{1.5});
}

TEST_CASE("losses keep their parameters") {
  const Folder folder;
  const Network<double> network(1, {{2, Identity{}}});
  for (const Loss& loss : {loss_named("quantile", {0.1, 1.0 / 3}), loss_named("huber", {0.3})}) {
    save<double>(network, loss, folder.path / "net");
    CHECK(parameters(load<double>(folder.path / "net").loss) == parameters(loss));
  }
}

TEST_CASE("a file that Python wrote gives Python's outputs") {
  const SavedNetwork<float> saved = load<float>(files / "good.safetensors");
  CHECK(saved.seed == (std::uint64_t{1} << 63) + 1);
  CHECK(saved.epochs_trained == 2);
  float expected[2], actual[2];
  std::ifstream(files / "good.outputs", std::ios::binary).read(reinterpret_cast<char*>(expected), sizeof expected);
  const Matrix<float> X = Matrix<float>::Identity(2, 2);
  predict<float>(saved.network, X, actual);
  for (int i = 0; i < 2; ++i) CHECK(actual[i] == doctest::Approx(expected[i]).epsilon(1e-6));
}

TEST_CASE("hostile files are refused, each with its name") {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(files / "hostile")) {
    CAPTURE(entry.path().string());
    ++count;
    const std::string name = entry.path().filename().string();
    CHECK_THROWS_WITH_AS(load<float>(entry.path()), doctest::Contains(name.c_str()), std::invalid_argument);
  }
  CHECK(count > 50);
}

TEST_CASE("a tensor that is longer in the file than its shape is refused") {
  const Folder folder;
  const std::string path = (folder.path / "net.safetensors").string();
  const Network<double> network(1, {{1, Identity{}}});
  save<double>(network, MSE{}, path);
  std::ifstream written(path, std::ios::binary);
  std::string file((std::istreambuf_iterator<char>(written)), {});
  const auto put = [&file](const std::string& from, const std::string& to) {
    const std::size_t place = file.find(from);
    REQUIRE(place != std::string::npos);
    REQUIRE(from.size() == to.size());
    file.replace(place, from.size(), to);
  };
  put("[0,8]", "[0,9]");
  put("8,16]", "9,17]");
  std::ofstream(path, std::ios::binary) << file << '\0';
  CHECK_THROWS_AS(load<double>(path), std::invalid_argument);
}

TEST_CASE("every truncation is refused") {
  std::ifstream file(files / "good.safetensors", std::ios::binary);
  const std::string data((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  for (std::size_t length = 0; length < data.size(); ++length) {
    std::istringstream stream(data.substr(0, length));
    CHECK_THROWS_AS(load<float>(stream), std::invalid_argument);
  }
}

TEST_CASE("a failed save leaves the old file and nothing else") {
  const Folder folder;
  Network<double> network = rich<double>();
  save<double>(network, CrossEntropy{}, folder.path / "net");
  const Vector<double> before = std::as_const(network).parameters();
  network.parameters()[3] = std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS_AS(save<double>(network, CrossEntropy{}, folder.path / "net"), std::invalid_argument);
  CHECK(same_bits(load<double>(folder.path / "net").network.parameters(), before));
  network.parameters() = before;
  CHECK_THROWS_AS(save<double>(network, MSE{}, folder.path / "none" / "net"), std::filesystem::filesystem_error);
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path), {}) == 1);
}

TEST_CASE("files that are not there, folders, and numbers of the other type") {
  CHECK_THROWS_AS(load<float>(files / "nothing"), std::filesystem::filesystem_error);
  CHECK_THROWS_AS(load<float>(files), std::filesystem::filesystem_error);
  CHECK_THROWS_WITH_AS(load<double>(files / "good.safetensors"),
                       doctest::Contains("it holds float32; expected float64"), std::invalid_argument);
}

TEST_CASE("JSON: what is right is read, what is not is refused") {
  const json::Value value =
      json::parse(R"( {"a": [1, -2.5e-3, true, null], "b\u00e9\n": "\ud83d\ude00", "c": 18446744073709551615} )");
  CHECK(value.at("a").list()[1].number() == -2.5e-3);
  CHECK(value.at("a").list()[3].is_null());
  CHECK(value.at("b\xC3\xA9\n").string() == "\xF0\x9F\x98\x80");
  CHECK(value.at("c").integer(0, std::numeric_limits<std::uint64_t>::max()) ==
        std::numeric_limits<std::uint64_t>::max());
  CHECK_THROWS(value.at("c").integer(0, 5));
  CHECK_THROWS(value.at("a").integer(0, 5));
  CHECK_THROWS(value.at("d"));
  for (const char* wrong : {"",
                            "{",
                            "[1,]",
                            "[,1]",
                            "{\"a\":1,}",
                            "{\"a\" 1}",
                            "{a:1}",
                            "01",
                            "1.",
                            ".5",
                            "1e",
                            "-",
                            "+1",
                            "NaN",
                            "\"a",
                            "\"\\x\"",
                            "\"\\u12\"",
                            "\"\\ud83d\"",
                            "\"\\ud83d\\ue000\"",
                            "\"\\ude00\"",
                            "\"\n\"",
                            "nul",
                            "1 2",
                            "{\"a\":1,\"a\":1}",
                            "[[[[[[[[[[1]]]]]]]]]]"})
    CHECK_MESSAGE(message(wrong) != "", wrong);
  CHECK(json::parse(json::quoted("a\"\\\n\x01")).string() == "a\"\\\n\x01");
  CHECK(json::parse(text_of(0.1)).number() == 0.1);
  CHECK(json::parse(text_of(1.0 / 3)).number() == 1.0 / 3);
  std::string many = "[1";
  while (many.size() < 2 * json::most_values) many += ",1";
  CHECK(message(many + "]").find("more than 1000000 values") != std::string::npos);
}

TEST_CASE("serialization: what could not be loaded is not saved, and the file stays as it was") {
  const std::filesystem::path path = std::filesystem::temp_directory_path() / "chainrule_test_not_saved.safetensors";
  Network<double> network(2, {{1, Identity{}}});
  network.parameters() << 1, 2, 3;
  save<double>(network, MSE{}, path);
  const double infinity = std::numeric_limits<double>::infinity();
  for (const Loss& loss : {Loss(Huber{{}, infinity}), Loss(Huber{{}, 0}), Loss(Quantile{{}, {1.5}})})
    CHECK_THROWS_AS(save<double>(network, loss, path), std::invalid_argument);
  CHECK_THROWS_AS(save<double>(network, MSE{}, path, 0, -1), std::invalid_argument);
  CHECK_THROWS_AS(save<double>(Network<double>(2, {{1, Tanh{}}}), BCE{}, path), std::invalid_argument);
  CHECK(support::same_bits(Vector<double>(load<double>(path).network.parameters()),
                           Vector<double>(network.parameters())));
  std::filesystem::remove(path);
}
