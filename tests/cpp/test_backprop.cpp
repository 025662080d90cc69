// forward, backward, gradient, pullback, predict, evaluate and step against the textbook's, and against differences.

#include <doctest/doctest.h>

#include <numeric>

#include "chainrule/backprop.hpp"
#include "chainrule/predict.hpp"
#include "reference.hpp"
#include "support.hpp"

using namespace chainrule;
using support::check_gradient;
using support::Draw;
using support::KeepThreads;
using support::make_problem;
using support::outputs;
using support::Problem;
using support::relative_error;
using support::same_bits;
using support::Shape;
using support::tolerance;

namespace {

template <class T>
Vector<T> gradient_memory(const Network<T>& network) {
  return Vector<T>::Constant(network.parameter_count(), std::numeric_limits<T>::quiet_NaN());
}

template <class T>
VectorView<T> view(Vector<T>& vector) {
  return {vector.data(), vector.size()};
}

std::string describe(const Shape& shape, const std::vector<Activation>& activations, const Loss& loss) {
  std::string text = std::string(name(loss)) + (shape.weighted ? ", weighted, " : ", ") + std::to_string(shape.rows) +
                     " rows, " + std::to_string(shape.units[0]);
  for (std::size_t l = 0; l < activations.size(); ++l)
    text += std::string(" - ") + std::to_string(shape.units[l + 1]) + " " + name(activations[l]);
  return text;
}

/// Everything that the library computes for a problem.
template <class T>
void check_against_reference(Problem<T>& problem) {
  Network<T>& network = problem.network;
  const Index n = problem.X.rows(), depth = network.depth();
  const reference::Net net = reference::net_of(network);
  reference::Pass exact = problem.reference();

  Tape<T> tape(network, n);
  forward<T>(network, problem.X, tape);
  CHECK(tape.rows() == n);
  for (Index l = 0; l <= depth; ++l) {
    CAPTURE(l);
    CHECK(relative_error(tape.activation(l), exact.a[static_cast<std::size_t>(l)]) <= tolerance<T>);
    if (l > 0 && tape.has_pre_activation(l))
      CHECK(relative_error(tape.pre_activation(l), exact.z[static_cast<std::size_t>(l - 1)]) <= tolerance<T>);
  }
  CHECK(same_bits(outputs(network, problem.X), Matrix<T>(tape.activation(depth))));

  Vector<T> gradient = gradient_memory(network);
  const double loss = backward<T>(network, problem.loss, problem.targets(), problem.weights(), tape, view(gradient));
  CHECK(std::abs(loss - exact.loss) <= tolerance<T> * std::max(1.0, std::abs(exact.loss)));
  for (Index l = 1; l <= depth; ++l) {
    CAPTURE(l);
    CHECK(relative_error(tape.delta(l), exact.delta[static_cast<std::size_t>(l - 1)]) <= tolerance<T>);
  }
  CHECK(relative_error(gradient, exact.gradient()) <= tolerance<T>);
  CHECK(evaluate<T>(network, problem.loss, problem.samples()) == loss);

  Vector<T> in_one = gradient_memory(network);
  CHECK(chainrule::gradient<T>(network, problem.loss, problem.batch(), tape, view(in_one)) == loss);
  CHECK(same_bits(in_one, gradient));

  Draw draw(static_cast<std::uint64_t>(n));
  const Matrix<T> grad_output = draw.matrix<T>(n, network.outputs());
  reference::pullback(net, grad_output.template cast<double>(), exact);
  gradient = gradient_memory(network);
  const Matrix<T> dX = pullback<T>(network, grad_output, tape, view(gradient));
  CHECK(relative_error(dX, exact.dX) <= tolerance<T>);
  CHECK(relative_error(gradient, exact.gradient()) <= tolerance<T>);

  // With plain SGD and lr = 1 a step takes the gradient off.
  const Vector<T> before = network.parameters();
  Optimizer<T> optimizer(SGD{1.0});
  CHECK(step<T>(network, problem.loss, problem.batch(), tape, optimizer) == loss);
  CHECK(same_bits(Vector<T>(network.parameters()), Vector<T>(before - in_one)));
  CHECK(optimizer.steps() == 1);
}

/// Odd widths, and numbers of rows on both sides of every tile height and chunk.
Shape small_shape(Index depth, Index number, bool weighted, const Loss& loss) {
  static const Index widths[] = {3, 1, 17, 8, 31, 2, 33, 5, 16, 15, 7, 40, 9};
  static const Index rows[] = {1, 2, 3, 6, 7, 13, 14, 15, 28, 29, 64, 65, 70};
  Shape shape{{}, rows[number % 13], weighted};
  for (Index l = 0; l <= depth; ++l) shape.units.push_back(widths[(3 * number + 5 * l) % 13]);
  shape.units.back() = (1 + number % 5) * outputs_per_target(loss);
  return shape;
}

}  // namespace

TEST_CASE_TEMPLATE("backprop: every hidden activation, loss and depth equals the textbook", T, float, double) {
  Index number = 0;
  for (const Activation& hidden : support::hidden_activations())
    for (const Loss& loss : support::all_losses())
      for (Index depth = 1; depth <= 4; ++depth)
        for (const bool weighted : {false, true}) {
          ++number;
          const auto outputs = support::output_activations(loss);
          std::vector<Activation> activations(static_cast<std::size_t>(depth), hidden);
          activations.back() = outputs[static_cast<std::size_t>(number) % outputs.size()];
          const Shape shape = small_shape(depth, number, weighted, loss);
          CAPTURE(describe(shape, activations, loss));
          Problem<T> problem = make_problem<T>(shape, activations, loss, static_cast<std::uint64_t>(number));
          check_against_reference(problem);
        }
}

TEST_CASE_TEMPLATE("backprop: every output activation and loss equals the textbook", T, float, double) {
  Index number = 0;
  for (const Loss& loss : support::all_losses())
    for (const Activation& output : support::output_activations(loss))
      for (const bool weighted : {false, true}) {
        ++number;
        const std::vector<Activation> activations{Tanh{}, output};
        const Shape shape = small_shape(2, number, weighted, loss);
        CAPTURE(describe(shape, activations, loss));
        Problem<T> problem = make_problem<T>(shape, activations, loss, static_cast<std::uint64_t>(number));
        check_against_reference(problem);
      }
}

TEST_CASE_TEMPLATE("backprop: wide, ragged and large networks equal the textbook", T, float, double) {
  const std::vector<Shape> shapes{
      {{260, 259, 129, 1}, 70},   {{1, 257, 3}, 33, true},   {{127, 64, 64, 10}, 29},
      {{33, 100, 33}, 57, true},  {{256, 1, 256}, 16},       {{13, 513, 7}, 31, true},
      {{600, 2, 5}, 70},          {{700, 800, 3}, 40, true}, {{130, 128, 127, 126, 2}, 300},
      {{400, 1400, 3}, 5, true},  {{70, 150, 3}, 900},  // a δ larger than the second-level cache
      {{700, 800, 300}, 40},                            // a softmax wider than a strip of columns
      {{17, 65, 33, 17, 5}, 900},                       // last columns alone in their registers
  };
  std::uint64_t seed = 0;
  for (const Shape& shape : shapes)
    for (const Loss& loss : {Loss(MSE{}), Loss(CrossEntropy{})})
      for (const Activation& hidden : {Activation(Tanh{}), Activation(ReLU{}), Activation(GELU{})}) {
        std::vector<Activation> activations(shape.units.size() - 1, hidden);
        activations.back() = activation_named(default_output(loss));
        CAPTURE(describe(shape, activations, loss));
        Problem<T> problem = make_problem<T>(shape, activations, loss, ++seed, 4 * std::numeric_limits<T>::epsilon());
        check_against_reference(problem);
      }
}

TEST_CASE_TEMPLATE("backprop: every number of rows from 1 to 70", T, float, double) {
  for (Index rows = 1; rows <= 70; ++rows) {
    const Shape shape{{5, 18, 4}, rows, rows % 3 == 0};
    CAPTURE(rows);
    Problem<T> problem = make_problem<T>(shape, {Sigmoid{}, Identity{}}, MSE{}, static_cast<std::uint64_t>(rows));
    check_against_reference(problem);
  }
}

TEST_CASE("backprop: the gradient equals central differences for every activation, loss and depth") {
  Index number = 0;
  for (const Activation& hidden : support::hidden_activations())
    for (const Loss& loss : support::all_losses())
      for (Index depth = 1; depth <= 4; ++depth) {
        ++number;
        const auto outputs = support::output_activations(loss);
        std::vector<Activation> activations(static_cast<std::size_t>(depth), hidden);
        activations.back() = outputs[static_cast<std::size_t>(number) % outputs.size()];
        Shape shape{{3, 4, 2, 3, 2}, 1 + number % 4, number % 2 == 0};
        shape.units.resize(static_cast<std::size_t>(depth) + 1);
        shape.units.back() = (1 + number % 2) * outputs_per_target(loss);
        CAPTURE(describe(shape, activations, loss));
        auto problem = make_problem<double>(shape, activations, loss, static_cast<std::uint64_t>(number), 1e-3);
        Tape<double> tape(problem.network, shape.rows);
        Vector<double> gradient = gradient_memory(problem.network);
        chainrule::gradient<double>(problem.network, loss, problem.batch(), tape, view(gradient));
        const Vector<double> theta = problem.network.parameters();
        const auto f = [&](const Eigen::VectorXd& at) {
          problem.network.parameters() = at;
          return evaluate<double>(problem.network, loss, problem.samples());
        };
        CHECK(check_gradient(f, theta, gradient) <= 1e-7);
      }
}

TEST_CASE("backprop: pullback's dL/dX equals central differences") {
  std::uint64_t seed = 0;
  for (const Activation& activation : support::all_activations()) {
    const Activation hidden = output_only(activation) ? Activation(Tanh{}) : activation;
    auto problem = make_problem<double>({{3, 5, 4}, 3}, {hidden, activation}, MSE{}, ++seed, 1e-3);
    CAPTURE(std::string(name(activation)));
    Tape<double> tape(problem.network, 3);
    forward<double>(problem.network, problem.X, tape);
    Draw draw(seed);
    const Matrix<double> grad_output = draw.matrix<double>(3, 4);
    Vector<double> gradient = gradient_memory(problem.network);
    const Matrix<double> dX = pullback<double>(problem.network, grad_output, tape, view(gradient));
    const auto f = [&](const Eigen::VectorXd& x) {
      const Matrix<double> X = Eigen::Map<const Matrix<double>>(x.data(), 3, 3);
      return outputs(problem.network, X).cwiseProduct(grad_output).sum();
    };
    const Eigen::Map<const Vector<double>> x(problem.X.data(), 9);
    CHECK(check_gradient(f, x, Eigen::Map<const Vector<double>>(dX.data(), 9)) <= 1e-7);
  }
}

TEST_CASE_TEMPLATE("backprop: a batch by order is the same batch put in order", T, float, double) {
  auto problem = make_problem<T>({{7, 19, 3}, 50, true}, {Tanh{}, Softmax{}}, CrossEntropy{}, 1);
  const std::vector<Index> order{49, 3, 3, 0, 17, 22, 48, 5};
  const auto size = static_cast<Index>(order.size());
  auto ordered = make_problem<T>({{7, 19, 3}, size, true}, {Tanh{}, Softmax{}}, CrossEntropy{}, 1);
  ordered.network.parameters() = problem.network.parameters();
  for (Index i = 0; i < size; ++i) {
    const Index from = order[static_cast<std::size_t>(i)];
    ordered.X.row(i) = problem.X.row(from);
    ordered.labels[static_cast<std::size_t>(i)] = problem.labels[static_cast<std::size_t>(from)];
    ordered.weight[i] = problem.weight[from];
  }
  Tape<T> tape(problem.network, size);
  Vector<T> expected = gradient_memory(problem.network), gradient = expected;
  const double loss = chainrule::gradient<T>(ordered.network, ordered.loss, ordered.batch(), tape, view(expected));
  const Batch<T> batch{problem.samples(), size, order.data()};
  CHECK(batch.weight() == ordered.batch().weight());
  CHECK(chainrule::gradient<T>(problem.network, problem.loss, batch, tape, view(gradient)) == loss);
  CHECK(same_bits(gradient, expected));
}

TEST_CASE_TEMPLATE("backprop: a large batch goes through the network in parts", T, float, double) {
  const KeepThreads keep;
  const Index n = 5000;
  auto problem = make_problem<T>({{7, 200, 150, 3}, n, true}, {Tanh{}, SiLU{}, Softmax{}}, CrossEntropy{}, 1);
  Network<T>& network = problem.network;
  const Index at_a_time = rows_at_a_time(network, n);
  REQUIRE(at_a_time < n / 2);
  const reference::Pass exact = problem.reference();
  Tape<T> tape(network, at_a_time), too_small(network, at_a_time - 1);
  Vector<T> gradient = gradient_memory(network);
  const double loss = chainrule::gradient<T>(network, problem.loss, problem.batch(), tape, view(gradient));
  CHECK(std::abs(loss - exact.loss) <= tolerance<T> * exact.loss);
  CHECK(relative_error(gradient, exact.gradient()) <= tolerance<T>);
  CHECK_THROWS_AS(chainrule::gradient<T>(network, problem.loss, problem.batch(), too_small, view(gradient)),
                  std::invalid_argument);

  SUBCASE("in an order") {
    std::vector<Index> order(static_cast<std::size_t>(n));
    for (Index i = 0; i < n; ++i) order[static_cast<std::size_t>(i)] = n - 1 - i;
    const Batch<T> backwards{problem.samples(), n, order.data()};
    const double same_loss = chainrule::gradient<T>(network, problem.loss, backwards, tape, view(gradient));
    CHECK(std::abs(same_loss - exact.loss) <= tolerance<T> * exact.loss);
    CHECK(relative_error(gradient, exact.gradient()) <= tolerance<T>);
  }
  SUBCASE("with a penalty, and added to a gradient") {
    const Objective objective{2, 1000};
    Vector<T> penalized = gradient;
    chainrule::gradient<T>(network, problem.loss, problem.batch(), tape, view(penalized), objective, true);
    Vector<T> expected = T(3) * gradient;
    add_penalty_gradient<T>(network, objective, problem.batch().weight(), view(expected));
    CHECK(relative_error(penalized, expected) <= tolerance<T>);
  }
  SUBCASE("for any number of threads, and in a step") {
    for (const int threads : {1, 2, 3}) {
      CAPTURE(threads);
      set_num_threads(threads);
      Vector<T> again = gradient_memory(network);
      CHECK(chainrule::gradient<T>(network, problem.loss, problem.batch(), tape, view(again)) == loss);
      CHECK(same_bits(again, gradient));
      Network<T> trained(network);
      Tape<T> own(trained, at_a_time);
      Optimizer<T> optimizer(SGD{1.0});
      CHECK(step<T>(trained, problem.loss, problem.batch(), own, optimizer) == loss);
      CHECK(same_bits(Vector<T>(trained.parameters()), Vector<T>(network.parameters() - gradient)));
      CHECK(optimizer.steps() == 1);
    }
  }
  SUBCASE("no step is taken where one part is not finite") {
    problem.X(n - 1, 0) = std::numeric_limits<T>::quiet_NaN();
    const Vector<T> before = network.parameters();
    Optimizer<T> optimizer(SGD{1.0});
    CHECK(std::isnan(step<T>(network, problem.loss, problem.batch(), tape, optimizer)));
    CHECK(same_bits(Vector<T>(network.parameters()), before));
    CHECK(optimizer.steps() == 0);
  }
}

TEST_CASE_TEMPLATE("backprop: matrices with rows apart are taken as they are", T, float, double) {
  auto problem = make_problem<T>({{4, 6, 2}, 11}, {Tanh{}, Identity{}}, MSE{}, 3);
  Matrix<T> wide_X = Matrix<T>::Constant(11, 9, T(1e30)), wide_y = Matrix<T>::Constant(11, 5, T(-1e30));
  wide_X.middleCols(2, 4) = problem.X;
  wide_y.middleCols(1, 2) = problem.y;
  const Samples<T> strided{{wide_X.data() + 2, 11, 4, Eigen::OuterStride<>(9)},
                           ConstMatrixView<T>(wide_y.data() + 1, 11, 2, Eigen::OuterStride<>(5))};
  CHECK(evaluate<T>(problem.network, problem.loss, strided) ==
        evaluate<T>(problem.network, problem.loss, problem.samples()));
  Matrix<T> output(11, 2);
  predict<T>(problem.network, wide_X.middleCols(2, 4), output.data());
  CHECK(same_bits(output, outputs(problem.network, problem.X)));

  const Samples<T> rest = strided.from(4);
  CHECK(rest.X.rows() == 7);
  CHECK(rest.y.rows == 7);
  T first_row[4];
  rest.X.load(0, first_row);
  CHECK(first_row[0] == problem.X(4, 0));
  CHECK(rest.y.values[0] == problem.y(4, 0));
}

TEST_CASE_TEMPLATE("backprop: targets are any memory by rows or one column, and nothing that would be a copy", T, float,
                   double) {
  Matrix<T> y = Draw(1).matrix<T>(6, 3);
  const Vector<T> vector = y.col(1);
  const auto check = [](const Targets<T>& targets, const T* values, Index columns, Index stride) {
    CHECK(targets.values == values);
    CHECK(targets.columns == columns);
    CHECK(targets.stride == stride);
    CHECK(targets.rows == 6);
    CHECK(targets.labels == nullptr);
  };
  check(y, y.data(), 3, 3);
  check(std::as_const(y), y.data(), 3, 3);
  check(y.middleCols(1, 2), y.data() + 1, 2, 3);
  check(y.col(2), y.data() + 2, 1, 3);
  check(vector, vector.data(), 1, 1);
  check(ConstMatrixView<T>(y.data() + 1, 6, 1, Eigen::OuterStride<>(3)), y.data() + 1, 1, 3);

  using ByColumns = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic>;
  using EverySecond = Eigen::Map<const Matrix<T>, Eigen::Unaligned, Eigen::Stride<Eigen::Dynamic, 2>>;
  CHECK_FALSE(std::is_constructible_v<Targets<T>, const ByColumns&>);
  CHECK_FALSE(std::is_constructible_v<Targets<T>, decltype(y + y)>);
  CHECK_FALSE(std::is_constructible_v<Targets<T>, EverySecond>);
}

TEST_CASE_TEMPLATE("backprop: a step where the loss is not finite changes nothing", T, float, double) {
  for (const T bad : {std::numeric_limits<T>::quiet_NaN(), std::numeric_limits<T>::infinity()}) {
    auto problem = make_problem<T>({{3, 4, 1}, 9}, {Tanh{}, Identity{}}, MSE{}, 5);
    Tape<T> tape(problem.network, 9);
    Optimizer<T> optimizer(Adam{});
    step<T>(problem.network, problem.loss, problem.batch(), tape, optimizer);
    const Vector<T> before = problem.network.parameters();
    const Vector<T> moment = ConstVectorView<T>(optimizer.moment(0), before.size());
    problem.y(4, 0) = bad;
    CHECK_FALSE(std::isfinite(step<T>(problem.network, problem.loss, problem.batch(), tape, optimizer)));
    CHECK(same_bits(Vector<T>(problem.network.parameters()), before));
    CHECK(same_bits(Vector<T>(ConstVectorView<T>(optimizer.moment(0), before.size())), moment));
    CHECK(optimizer.steps() == 1);
  }
}

TEST_CASE_TEMPLATE("backprop: no rows", T, float, double) {
  auto problem = make_problem<T>({{3, 4, 2}, 5}, {Tanh{}, Identity{}}, MSE{}, 2);
  Network<T>& network = problem.network;
  const Vector<T> before = network.parameters();
  Tape<T> tape(network, 5);
  Optimizer<T> optimizer(SGD{});
  Vector<T> gradient = gradient_memory(network);
  const Matrix<T> none(0, 3), no_targets(0, 2);
  const Samples<T> samples{{none.data(), 0, 3, Eigen::OuterStride<>(3)}, Targets<T>(no_targets)};
  CHECK_THROWS_AS(forward<T>(network, none, tape), std::invalid_argument);
  CHECK_THROWS_AS(step<T>(network, problem.loss, {samples, 0}, tape, optimizer), std::invalid_argument);
  CHECK_THROWS_AS(chainrule::gradient<T>(network, problem.loss, {samples, 0}, tape, view(gradient)),
                  std::invalid_argument);
  CHECK(same_bits(Vector<T>(network.parameters()), before));
  CHECK(optimizer.steps() == 0);
}

TEST_CASE_TEMPLATE("backprop: backward and pullback before forward", T, float, double) {
  auto problem = make_problem<T>({{3, 4, 2}, 5}, {Tanh{}, Identity{}}, MSE{}, 2);
  Tape<T> tape(problem.network, 5);
  Vector<T> gradient = gradient_memory(problem.network);
  CHECK_THROWS_AS(backward<T>(problem.network, problem.loss, problem.targets(), nullptr, tape, view(gradient)),
                  std::invalid_argument);
  CHECK_THROWS_AS(pullback<T>(problem.network, Matrix<T>(0, 2), tape, view(gradient)), std::invalid_argument);
  CHECK(gradient.array().isNaN().all());
}

TEST_CASE_TEMPLATE("backprop: a tape, a gradient or an output gradient that does not fit", T, float, double) {
  auto problem = make_problem<T>({{3, 4, 2}, 5}, {Tanh{}, Identity{}}, MSE{}, 2);
  Network<T>& network = problem.network;
  const Vector<T> before = network.parameters();
  Tape<T> small(network, 4), tape(network, 5);
  Optimizer<T> optimizer(SGD{});
  Vector<T> gradient = gradient_memory(network), too_long(network.parameter_count() + 1);
  CHECK_THROWS_AS(forward<T>(network, problem.X, small), std::invalid_argument);
  CHECK_THROWS_AS(step<T>(network, problem.loss, problem.batch(), small, optimizer), std::invalid_argument);
  CHECK_THROWS_AS(chainrule::gradient<T>(network, problem.loss, problem.batch(), small, view(gradient)),
                  std::invalid_argument);
  CHECK_THROWS_AS(chainrule::gradient<T>(network, problem.loss, problem.batch(), tape, view(too_long)),
                  std::invalid_argument);
  forward<T>(network, problem.X, tape);
  CHECK_THROWS_AS(backward<T>(network, problem.loss, problem.targets(), nullptr, tape, view(too_long)),
                  std::invalid_argument);
  CHECK_THROWS_AS(pullback<T>(network, Matrix<T>::Zero(5, 2), tape, view(too_long)), std::invalid_argument);
  CHECK_THROWS_AS(pullback<T>(network, Matrix<T>::Zero(5, 3), tape, view(gradient)), std::invalid_argument);
  CHECK_THROWS_AS(pullback<T>(network, Matrix<T>::Zero(4, 2), tape, view(gradient)), std::invalid_argument);
  CHECK(same_bits(Vector<T>(network.parameters()), before));
  CHECK(optimizer.steps() == 0);
}

TEST_CASE_TEMPLATE("backprop: samples or a tape of another shape", T, float, double) {
  auto problem = make_problem<T>({{3, 4, 2}, 5}, {Tanh{}, Identity{}}, MSE{}, 2);
  Network<T>& network = problem.network;
  const Vector<T> before = network.parameters();
  Tape<T> tape(network, 5);
  Optimizer<T> optimizer(SGD{});
  Vector<T> gradient = gradient_memory(network);
  const Matrix<T> wide = Matrix<T>::Zero(5, 4), wide_y = Matrix<T>::Zero(5, 3), one_row = Matrix<T>::Zero(1, 2);
  CHECK_THROWS_AS(forward<T>(network, wide, tape), std::invalid_argument);
  T memory[10];
  CHECK_THROWS_AS(predict<T>(network, wide, memory), std::invalid_argument);
  const auto refuses = [&](const Loss& loss, const Samples<T>& samples, Index n, Tape<T>& on) {
    CHECK_THROWS_AS(step<T>(network, loss, {samples, n}, on, optimizer), std::invalid_argument);
    CHECK_THROWS_AS(chainrule::gradient<T>(network, loss, {samples, n}, on, view(gradient)), std::invalid_argument);
    CHECK_THROWS_AS(deltas<T>(network, loss, {samples, n}, on), std::invalid_argument);
  };
  refuses(MSE{}, {wide, problem.y}, 5, tape);
  refuses(MSE{}, {problem.X, wide_y}, 5, tape);
  refuses(MSE{}, {problem.X, one_row}, 5, tape);
  refuses(MSE{}, problem.samples().from(1), 5, tape);
  const std::int64_t labels[] = {0, 1, 2, 0, 1}, negative[] = {0, -1, 0, 0, 0};
  refuses(CrossEntropy{}, {problem.X, {labels, 5}}, 5, tape);
  refuses(CrossEntropy{}, {problem.X, {negative, 5}}, 5, tape);
  for (const Network<T>& other : {Network<T>(3, {{5, Tanh{}}, {2, Identity{}}}), Network<T>(3, {{2, Identity{}}})}) {
    Tape<T> of_other(other, 5);
    refuses(MSE{}, problem.samples(), 5, of_other);
    CHECK_THROWS_AS(forward<T>(network, problem.X, of_other), std::invalid_argument);
  }
  forward<T>(network, problem.X, tape);
  CHECK_THROWS_AS(backward<T>(network, MSE{}, Targets<T>(one_row), nullptr, tape, view(gradient)),
                  std::invalid_argument);
  CHECK(same_bits(Vector<T>(network.parameters()), before));
  CHECK(gradient.array().isNaN().all());
}
