#include "chainrule/serialization.hpp"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <map>
#include <random>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "json.hpp"
#include "number.hpp"
#include "parameter_name.hpp"

#ifndef _WIN32
#include <fcntl.h>
#include <unistd.h>
#endif

namespace chainrule {

namespace {

static_assert(std::endian::native == std::endian::little, "safetensors is little-endian");

constexpr const char* metadata_key = "chainrule";
constexpr const char* fit_key = "chainrule.fit";
constexpr std::uint64_t format_version = 1;
constexpr std::uint64_t largest_header = 100'000'000;  // as the safetensors package has it
constexpr std::uint64_t largest_index = std::numeric_limits<Index>::max();

template <class T>
constexpr const char* dtype = sizeof(T) == 4 ? "float32" : "float64";
template <class T>
constexpr const char* tensor_dtype = sizeof(T) == 4 ? "F32" : "F64";

struct Tensor {
  std::string name, dtype;
  std::vector<std::uint64_t> shape;
  std::uint64_t begin, end;  // in bytes behind the header
};

std::uint64_t item_size(const std::string& dtype) {
  static const std::map<std::string, std::uint64_t> sizes{
      {"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"I16", 2}, {"U16", 2}, {"F16", 2},
      {"BF16", 2}, {"I32", 4}, {"U32", 4}, {"F32", 4},     {"F64", 8},     {"I64", 8}, {"U64", 8}};
  const auto found = sizes.find(dtype);
  if (found == sizes.end()) throw std::invalid_argument("it holds the unknown dtype '" + dtype.substr(0, 40) + "'");
  return found->second;
}

Tensor tensor_of(const std::string& name, const json::Value& entry) {
  Tensor tensor{name, entry.at("dtype").string(), {}, 0, 0};
  std::uint64_t bytes = item_size(tensor.dtype);
  for (const json::Value& length : entry.at("shape").list()) {
    tensor.shape.push_back(length.integer(0, largest_index));
    if (__builtin_mul_overflow(bytes, tensor.shape.back(), &bytes))
      throw std::invalid_argument(name + " has a shape that no memory holds");
  }
  const json::List& offsets = entry.at("data_offsets").list();
  if (offsets.size() != 2) throw std::invalid_argument(name + " has no begin and end");
  tensor.begin = offsets[0].integer(0, largest_index);
  tensor.end = offsets[1].integer(tensor.begin, largest_index);
  if (tensor.end - tensor.begin != bytes)
    throw std::invalid_argument(name + " has " + std::to_string(tensor.end - tensor.begin) +
                                " bytes; its shape takes " + std::to_string(bytes));
  return tensor;
}

/// The tensors in the order of the file: one begins where the one before it ends, and the last ends with the file.
std::vector<Tensor> tensors_of(const json::Value& header, std::uint64_t data_size) {
  std::vector<Tensor> tensors;
  for (const auto& [name, entry] : header.members())
    if (name != "__metadata__") tensors.push_back(tensor_of(name, entry));
  std::sort(tensors.begin(), tensors.end(),
            [](const Tensor& a, const Tensor& b) { return std::pair(a.begin, a.end) < std::pair(b.begin, b.end); });
  std::uint64_t end = 0;
  for (const Tensor& tensor : tensors) {
    if (tensor.begin != end) throw std::invalid_argument(tensor.name + " overlaps another tensor or leaves a gap");
    end = tensor.end;
  }
  if (end != data_size)
    throw std::invalid_argument("its tensors take " + std::to_string(end) + " bytes; it has " +
                                std::to_string(data_size));
  return tensors;
}

Activation activation_of(const json::Value& entry) {
  const json::List& pair = entry.list();
  if (pair.size() != 2) throw std::invalid_argument("its header has an activation without a parameter or null");
  return pair[1].is_null() ? activation_named(pair[0].string()) : activation_named(pair[0].string(), pair[1].number());
}

Loss loss_of(const json::Value& entry) {
  const json::List& pair = entry.list();
  if (pair.size() != 2) throw std::invalid_argument("its header has a loss without parameters");
  std::vector<double> parameters;
  for (const json::Value& parameter : pair[1].list()) parameters.push_back(parameter.number());
  return loss_named(pair[0].string(), parameters);
}

/// What the metadata say of a network.
struct Description {
  Index inputs;
  std::vector<Layer> layers;
  Loss loss;
  std::uint64_t seed;
  Index epochs_trained;
  std::string dtype;
};

Description description_of(const json::Value& metadata) {
  const json::Value* text = metadata.find(metadata_key);
  if (!text) throw std::invalid_argument("it has no 'chainrule' in its header; expected a file that save wrote");
  const json::Value header = json::parse(text->string());
  header.at("format").integer(format_version, format_version);
  const json::List& sizes = header.at("layer_sizes").list();
  const json::List& hidden = header.at("hidden_activation").list();
  const json::List& dropout = header.at("dropout").list();
  if (sizes.size() < 2 || hidden.size() != sizes.size() - 2 || dropout.size() != hidden.size())
    throw std::invalid_argument("its header has " + std::to_string(sizes.size()) + " layer_sizes, " +
                                std::to_string(hidden.size()) + " hidden activations and " +
                                std::to_string(dropout.size()) + " dropouts, which do not go together");
  const auto units = [&](std::size_t l) { return static_cast<Index>(sizes[l].integer(1, largest_index)); };
  Description description{units(0),
                          {},
                          loss_of(header.at("loss")),
                          header.at("seed").integer(0, std::numeric_limits<std::uint64_t>::max()),
                          static_cast<Index>(header.at("epochs_trained").integer(0, largest_index)),
                          header.at("dtype").string()};
  for (std::size_t l = 1; l < sizes.size(); ++l) {
    const bool last = l == sizes.size() - 1;
    description.layers.push_back({units(l), activation_of(last ? header.at("output_activation") : hidden[l - 1]),
                                  last ? 0 : dropout[l - 1].number()});
  }
  check_output(description.loss, description.layers.back().activation, description.layers.back().units);
  return description;
}

/// Checks that the file has the network's tensors and no others, but for a checkpoint's; returns them in θ's order.
template <class T>
std::vector<Tensor> parameters_of(const Description& description, const std::vector<Tensor>& tensors, bool checkpoint) {
  std::map<std::string, const Tensor*> by_name;
  for (const Tensor& tensor : tensors) by_name[tensor.name] = &tensor;
  std::vector<Tensor> result;
  const auto take = [&](const std::string& name, const std::vector<std::uint64_t>& shape) {
    const auto found = by_name.find(name);
    if (found == by_name.end()) throw std::invalid_argument("it lacks " + name + ", which its header asks for");
    const Tensor& tensor = *found->second;
    if (tensor.dtype != tensor_dtype<T>)
      throw std::invalid_argument(name + " holds " + tensor.dtype + "; expected " + tensor_dtype<T>);
    if (tensor.shape != shape) throw std::invalid_argument(name + " has another shape than its header asks for");
    result.push_back(tensor);
    by_name.erase(found);
  };
  auto d_in = static_cast<std::uint64_t>(description.inputs);
  for (std::size_t l = 0; l < description.layers.size(); ++l) {
    const auto d_out = static_cast<std::uint64_t>(description.layers[l].units);
    take(weight_name(static_cast<Index>(l) + 1), {d_in, d_out});
    take(bias_name(static_cast<Index>(l) + 1), {d_out});
    d_in = d_out;
  }
  for (const auto& [name, tensor] : by_name)
    if (!checkpoint || name.rfind("fit.", 0) != 0)
      throw std::invalid_argument("it has " + name.substr(0, 80) + ", which its header does not ask for");
  return result;
}

template <class T>
void check_finite(const std::string& name, const T* values, std::uint64_t count) {
  if (!std::all_of(values, values + count, [](T value) { return std::isfinite(value); }))
    throw std::invalid_argument(name + " holds NaN or infinity");
}

std::string described(const Activation& activation) {
  const std::string value = parameter_name(activation) ? text_of(parameter(activation)) : "null";
  return "[" + json::quoted(name(activation)) + ", " + value + "]";
}

template <class Range, class Text>
std::string listed(const Range& range, const Text& text) {
  std::string result;
  for (const auto& entry : range) result += (result.empty() ? "" : ", ") + text(entry);
  return "[" + result + "]";
}

template <class T>
std::string header_of(const Network<T>& network, const Loss& loss, std::uint64_t seed, Index epochs_trained) {
  std::vector<Index> sizes{network.inputs()};
  for (const Layer& layer : network.layers()) sizes.push_back(layer.units);
  const std::vector<Layer> hidden(network.layers().begin(), network.layers().end() - 1);
  const std::string description =
      "{\"format\": " + std::to_string(format_version) +
      ", \"layer_sizes\": " + listed(sizes, [](Index units) { return std::to_string(units); }) +
      ", \"hidden_activation\": " + listed(hidden, [](const Layer& layer) { return described(layer.activation); }) +
      ", \"output_activation\": " + described(network.layers().back().activation) + ", \"loss\": [" +
      json::quoted(name(loss)) + ", " + listed(parameters(loss), text_of<double>) +
      "], \"init\": null, \"dtype\": " + json::quoted(dtype<T>) + ", \"seed\": " + std::to_string(seed) +
      ", \"dropout\": " + listed(hidden, [](const Layer& layer) { return text_of(layer.dropout); }) +
      ", \"epochs_trained\": " + std::to_string(epochs_trained) + "}";
  std::ostringstream header;
  header.imbue(std::locale::classic());
  header << "{\"__metadata__\":{" << json::quoted(metadata_key) << ":" << json::quoted(description) << "}";
  const auto tensor = [&](const std::string& name, const std::string& shape, Index begin, Index end) {
    header << ",\"" << name << "\":{\"dtype\":\"" << tensor_dtype<T> << "\",\"shape\":[" << shape
           << "],\"data_offsets\":[" << begin * static_cast<Index>(sizeof(T)) << ","
           << end * static_cast<Index>(sizeof(T)) << "]}";
  };
  for (Index l = 1; l <= network.depth(); ++l) {
    const std::string d_out = std::to_string(network.units(l));
    const Index bias = network.bias_offset(l);
    tensor(weight_name(l), std::to_string(network.units(l - 1)) + "," + d_out, network.offset(l), bias);
    tensor(bias_name(l), d_out, bias, bias + network.units(l));
  }
  header << "}";
  std::string text = header.str();
  text.resize((text.size() + 7) / 8 * 8, ' ');  // so that the numbers are aligned
  return text;
}

[[noreturn]] void fail(const char* what, const std::filesystem::path& path, int error) {
  throw std::filesystem::filesystem_error(what, path, std::error_code(error, std::generic_category()));
}

#ifdef _WIN32
void write_and_flush(const std::filesystem::path& path, const std::string& head, const char* data, std::size_t size) {
  std::ofstream file(path, std::ios::binary);
  file.write(head.data(), static_cast<std::streamsize>(head.size()));
  file.write(data, static_cast<std::streamsize>(size));
  if (!file.flush()) fail("cannot write", path, EIO);
}
void flush_folder(const std::filesystem::path&) {}
#else
struct Descriptor {
  int value;
  ~Descriptor() { close(value); }
};

void write_and_flush(const std::filesystem::path& path, const std::string& head, const char* data, std::size_t size) {
  const Descriptor file{open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666)};
  if (file.value < 0) fail("cannot create", path, errno);
  const auto put = [&](const char* from, std::size_t left) {
    while (left > 0) {
      const ssize_t written = write(file.value, from, left);
      if (written < 0 && errno != EINTR) fail("cannot write", path, errno);
      if (written <= 0) continue;
      from += written;
      left -= static_cast<std::size_t>(written);
    }
  };
  put(head.data(), head.size());
  put(data, size);
  if (fsync(file.value) != 0) fail("cannot write", path, errno);
}

void flush_folder(const std::filesystem::path& folder) {
  const Descriptor opened{open(folder.c_str(), O_RDONLY | O_CLOEXEC)};
  if (opened.value >= 0) fsync(opened.value);
}
#endif

/// Replaces the file, so that at any time, and after a crash, it is the old one or the new one.
void write_atomically(const std::filesystem::path& given, const std::string& head, const char* data, std::size_t size) {
  const std::filesystem::path path = std::filesystem::weakly_canonical(given);
  const std::filesystem::path temporary =
      path.parent_path() / ("." + path.filename().string() + "." + std::to_string(std::random_device()()) + ".tmp");
  try {
    write_and_flush(temporary, head, data, size);
    std::filesystem::rename(temporary, path);
  } catch (...) {
    std::error_code ignored;
    std::filesystem::remove(temporary, ignored);
    throw;
  }
  flush_folder(path.parent_path());
}

}  // namespace

template <class T>
void save(const Network<T>& network, const Loss& loss, const std::filesystem::path& path, std::uint64_t seed,
          Index epochs_trained) {
  check_output(loss, network.activation(network.depth()), network.outputs());
  if (epochs_trained < 0)
    throw std::invalid_argument("epochs_trained is " + std::to_string(epochs_trained) + "; expected a number >= 0");
  const auto theta = network.parameters();
  check_finite("the network", theta.data(), static_cast<std::uint64_t>(theta.size()));
  const std::string header = header_of(network, loss, seed, epochs_trained);
  const std::uint64_t length = header.size();
  std::string head(sizeof length, '\0');
  std::memcpy(head.data(), &length, sizeof length);
  write_atomically(path, head + header, reinterpret_cast<const char*>(theta.data()),
                   static_cast<std::size_t>(theta.size()) * sizeof(T));
}

template <class T>
SavedNetwork<T> load(std::istream& file) {
  file.seekg(0, std::ios::end);
  const auto size = static_cast<std::uint64_t>(file.tellg());
  file.seekg(0);
  std::uint64_t length = 0;
  if (size < sizeof length || !file.read(reinterpret_cast<char*>(&length), sizeof length))
    throw std::invalid_argument("it is too short for a header");
  if (length > largest_header || length > size - sizeof length)
    throw std::invalid_argument("its header is said to have " + std::to_string(length) + " bytes; it has " +
                                std::to_string(size));
  std::string text(length, '\0');
  if (!file.read(text.data(), static_cast<std::streamsize>(length))) throw std::invalid_argument("it is truncated");

  const json::Value header = json::parse(text);
  const std::vector<Tensor> tensors = tensors_of(header, size - sizeof length - length);
  const json::Value& metadata = header.at("__metadata__");
  const Description description = description_of(metadata);
  if (description.dtype != dtype<T>)
    throw std::invalid_argument("it holds " + description.dtype.substr(0, 40) + "; expected " + dtype<T>);
  const std::vector<Tensor> parameters = parameters_of<T>(description, tensors, metadata.find(fit_key) != nullptr);

  SavedNetwork<T> saved{Network<T>(description.inputs, description.layers), description.loss, description.seed,
                        description.epochs_trained};
  T* to = saved.network.parameters().data();
  for (const Tensor& tensor : parameters) {
    const std::uint64_t bytes = tensor.end - tensor.begin;
    file.seekg(static_cast<std::streamoff>(sizeof length + length + tensor.begin));
    if (!file.read(reinterpret_cast<char*>(to), static_cast<std::streamsize>(bytes)))
      throw std::invalid_argument("it is truncated");
    check_finite(tensor.name, to, bytes / sizeof(T));
    to += bytes / sizeof(T);
  }
  return saved;
}

template <class T>
SavedNetwork<T> load(const std::filesystem::path& path) {
  if (std::filesystem::is_directory(path)) fail("cannot read", path, EISDIR);
  std::ifstream file(path, std::ios::binary);
  if (!file) fail("cannot read", path, errno);
  try {
    return load<T>(file);
  } catch (const std::invalid_argument& error) {
    throw std::invalid_argument(path.string() + ": " + error.what());
  }
}

#define CHAINRULE_INSTANTIATE(T)                                                                          \
  template void save(const Network<T>&, const Loss&, const std::filesystem::path&, std::uint64_t, Index); \
  template SavedNetwork<T> load(const std::filesystem::path&);                                            \
  template SavedNetwork<T> load(std::istream&);
CHAINRULE_INSTANTIATE(float)
CHAINRULE_INSTANTIATE(double)

}  // namespace chainrule
