// Learns XOR with matrices of its own. Exit code 0 if it has.

#include <chainrule/chainrule.hpp>
#include <cstdio>
#include <cstdlib>
#include <exception>

int main() try {
  using T = double;
  chainrule::Matrix<T> X(4, 2), y(4, 1);
  X << 0, 0, 0, 1, 1, 0, 1, 1;
  y << 0, 1, 1, 0;

  chainrule::Network<T> network(2, {{4, chainrule::Tanh{}}, {1, chainrule::Sigmoid{}}});
  chainrule::initialise(network, 1);
  chainrule::Adam rule;
  rule.lr = 0.05;
  chainrule::Optimizer<T> optimizer(rule);
  chainrule::FitOptions options;
  options.epochs = 500;
  options.batch_size = 4;
  const chainrule::Samples<T> samples{{X.data(), X.rows(), X.cols(), Eigen::OuterStride<>(X.outerStride())},
                                      chainrule::Targets<T>(y)};
  const chainrule::History history = chainrule::fit<T>(network, chainrule::BCE{}, samples, nullptr, optimizer, options);

  chainrule::Matrix<T> a(4, 1);
  chainrule::predict<T>(network, X, a.data());
  bool learned = history.loss.back() < 0.05;
  for (int i = 0; i < 4; ++i) {
    std::printf("%g %g -> %.3f\n", X(i, 0), X(i, 1), a(i, 0));
    learned = learned && (a(i, 0) > 0.5) == (y(i, 0) > 0.5);
  }
  std::printf("loss %.4f after %td epochs on %s\n", history.loss.back(), history.epochs, chainrule::instruction_set());
  return learned ? EXIT_SUCCESS : EXIT_FAILURE;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return EXIT_FAILURE;
}
