// Trains on a CSV file without a heading, whose last column is the target, and saves the network:
//
//     train samples.csv net.safetensors
//
// With a third argument it trains nothing: it loads the network, writes its predictions for the first columns there,
// one line a sample, and saves it again as it is.

#include <chainrule/chainrule.hpp>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

using Number = double;

static chainrule::Matrix<Number> read_csv(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw std::runtime_error("cannot read " + path);
  std::vector<Number> values;
  Eigen::Index rows = 0;
  for (std::string line; std::getline(file, line); ++rows) {
    std::istringstream cells(line);
    for (std::string cell; std::getline(cells, cell, ',');) {
      std::istringstream text(cell);
      if (Number value = 0; text >> value)
        values.push_back(value);
      else
        throw std::runtime_error(path + ": line " + std::to_string(rows + 1) + " holds '" + cell +
                                 "'; expected numbers");
    }
  }
  if (rows == 0 || static_cast<Eigen::Index>(values.size()) % rows != 0)
    throw std::runtime_error(path + " is empty, or its lines differ in length");
  return Eigen::Map<chainrule::Matrix<Number>>(values.data(), rows, static_cast<Eigen::Index>(values.size()) / rows);
}

static void train(const chainrule::Matrix<Number>& table, const std::string& path) {
  const chainrule::Matrix<Number> X = table.leftCols(table.cols() - 1), y = table.rightCols(1);
  chainrule::Network<Number> network(X.cols(), {{32, chainrule::Tanh{}}, {1, chainrule::Identity{}}});
  chainrule::initialise(network, 0);
  chainrule::Optimizer<Number> optimizer{chainrule::Adam{}};
  chainrule::FitOptions options;
  options.epochs = 200;
  const chainrule::Samples<Number> samples{X, y};
  const chainrule::History history =
      chainrule::fit<Number>(network, chainrule::MSE{}, samples, nullptr, optimizer, options);
  std::printf("loss %.4g after the first epoch, %.4g after the last\n", history.loss.front(), history.loss.back());
  chainrule::save<Number>(network, chainrule::MSE{}, path, options.seed, history.epochs);
}

static void predict(const chainrule::Matrix<Number>& table, const std::string& path, const std::string& output) {
  const chainrule::SavedNetwork<Number> saved = chainrule::load<Number>(path);
  const chainrule::Matrix<Number> X = table.leftCols(saved.network.inputs());
  chainrule::Matrix<Number> a(X.rows(), saved.network.outputs());
  chainrule::predict<Number>(saved.network, X, a.data());
  std::ofstream(output) << a.format(Eigen::IOFormat(17, Eigen::DontAlignCols, ",", "\n")) << '\n';
  chainrule::save<Number>(saved.network, saved.loss, path, saved.seed, saved.epochs_trained);
}

int main(int count, char** arguments) try {
  if (count != 3 && count != 4) throw std::runtime_error("usage: train samples.csv net.safetensors [predictions.csv]");
  const chainrule::Matrix<Number> table = read_csv(arguments[1]);
  if (count == 3)
    train(table, arguments[2]);
  else
    predict(table, arguments[2], arguments[3]);
  return EXIT_SUCCESS;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return EXIT_FAILURE;
}
