// The kernels of every instruction set that this machine runs: products, activations, losses, updates.

#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <vector>

#include "engine/isa.hpp"
#include "engine/kernels.hpp"
#include "engine/thread_pool.hpp"
#include "reference.hpp"
#include "support.hpp"

using namespace chainrule;
using engine::InstructionSet;
using engine::Kernels;
using engine::Panels;
using engine::Rows;
using support::Draw;

namespace {

template <class T>
const Kernels<T>& kernels_of(const InstructionSet& set) {
  if constexpr (std::is_same_v<T, float>)
    return *set.float_kernels();
  else
    return *set.double_kernels();
}

/// Numbers in a register: a panel is two.
template <class T>
Index lanes(const Kernels<T>& kernels) {
  return kernels.panel / 2;
}

Index round_up(Index n, Index step) { return (n + step - 1) / step * step; }

/// Rows as kernels take them, with a guard behind what they may write.
template <class T>
class Guarded {
 public:
  static constexpr T guard = T(-7777);

  Guarded(Index rows, Index columns, Index register_lanes)
      : rows_(rows),
        columns_(columns),
        allowed_(round_up(columns, register_lanes)),
        memory_(Matrix<T>::Constant(rows + 2, allowed_ + 9, guard)) {}

  template <class M>
  Guarded& operator=(const M& values) {
    memory_.block(1, 0, rows_, columns_) = values;
    return *this;
  }

  Rows<T> rows() { return {memory_.data() + memory_.cols(), memory_.cols()}; }
  Rows<const T> rows() const { return {memory_.data() + memory_.cols(), memory_.cols()}; }
  Eigen::Block<const Matrix<T>> values() const { return memory_.block(1, 0, rows_, columns_); }
  bool intact() const {
    return (memory_.row(0).array() == guard).all() && (memory_.row(rows_ + 1).array() == guard).all() &&
           (memory_.rightCols(9).array() == guard).all();
  }

 private:
  Index rows_, columns_, allowed_;
  Matrix<T> memory_;
};

template <class T>
Matrix<T> small_integers(Draw& draw, Index rows, Index columns) {
  return Matrix<T>::NullaryExpr(rows, columns, [&] { return static_cast<T>(draw.below(9) - 4); });
}

template <class T>
Eigen::MatrixXd product(const Matrix<T>& A, const Matrix<T>& B) {
  return reference::product(A.template cast<double>(), B.template cast<double>());
}

/// The product in each of the ways that the engine computes it: call(way, C).
template <class T, class Call>
void multiply_all_ways(const Kernels<T>& kernels, const Matrix<T>& A, const Matrix<T>& B, const Call& call) {
  const Index m = A.rows(), k = A.cols(), n = B.cols(), panel = kernels.panel, lane = lanes(kernels);
  Guarded<T> C(m, n, lane);

  // B as it lies may be read to the end of the last row's last register, and the next row stands there.
  std::vector<T> as_it_lies(static_cast<std::size_t>(k * n + lane), std::numeric_limits<T>::quiet_NaN());
  std::copy_n(B.data(), k * n, as_it_lies.data());
  const Panels<T> unpacked{as_it_lies.data(), n, panel};
  kernels.multiply(m, n, k, A.data(), k, 1, unpacked, C.rows(), false);
  call("as it lies", C);
  if (k == 0) return;  // there are no such weights to rearrange

  const Index packed_size = k * round_up(n, panel);
  std::vector<T> panels(static_cast<std::size_t>(packed_size), std::numeric_limits<T>::quiet_NaN());
  const Panels<T> packed{panels.data(), panel, k * panel};
  kernels.pack(k, n, B.data(), n, panels.data());
  C = Guarded<T>(m, n, lane);
  kernels.multiply(m, n, k, A.data(), k, 1, packed, C.rows(), false);
  call("packed", C);

  C = Guarded<T>(m, n, lane);
  const Index blocks = engine::sum_blocks(k);
  for (Index b = 0; b < blocks; ++b) {
    const engine::Range block = engine::part(k, blocks, b);
    kernels.multiply(m, n, block.size(), A.data() + block.begin, k, 1,
                     {panels.data() + block.begin * panel, panel, k * panel}, C.rows(), b > 0);
  }
  call("block by block", C);

  const Matrix<T> A_transposed = A.transpose();
  C = Guarded<T>(m, n, lane);
  kernels.multiply(m, n, k, A_transposed.data(), 1, m, packed, C.rows(), false);
  call("A by columns", C);

  Matrix<T> B_transposed = B.transpose();
  std::fill(panels.begin(), panels.end(), std::numeric_limits<T>::quiet_NaN());
  kernels.pack_transposed(k, n, B_transposed.data(), k, panels.data());
  C = Guarded<T>(m, n, lane);
  kernels.multiply(m, n, k, A.data(), k, 1, packed, C.rows(), false);
  call("packed from the transpose", C);

  C = Guarded<T>(m, n, lane);
  kernels.multiply_large(m, n, k, A.data(), k, B.data(), n, C.rows(), false);
  call("large", C);
  const bool far = m <= engine::far_tiles * kernels.tile_rows;
  if (far) {
    C = Guarded<T>(m, n, lane);
    kernels.multiply_far(m, n, k, A.data(), k, B.data(), n, C.rows(), false);
    call("far", C);
  }
  C = Guarded<T>(m, n, lane);
  kernels.multiply_large_transposed(m, n, k, A.data(), k, B_transposed.data(), k, C.rows(), false);
  call("large, from the transpose", C);

  Guarded<T> from_transpose(m, n, lane), from_far(m, n, lane);
  C = Guarded<T>(m, n, lane);
  for (Index b = 0; b < blocks; ++b) {
    const engine::Range block = engine::part(k, blocks, b);
    kernels.multiply_large(m, n, block.size(), A.data() + block.begin, k, B.data() + block.begin * n, n, C.rows(),
                           b > 0);
    if (far)
      kernels.multiply_far(m, n, block.size(), A.data() + block.begin, k, B.data() + block.begin * n, n,
                           from_far.rows(), b > 0);
    kernels.multiply_large_transposed(m, n, block.size(), A.data() + block.begin, k, B_transposed.data() + block.begin,
                                      k, from_transpose.rows(), b > 0);
  }
  call("large, block by block", C);
  if (far) call("far, block by block", from_far);
  call("large, from the transpose, block by block", from_transpose);
}

template <class T>
void check_exact_product(Index m, Index n, Index k) {
  CAPTURE(m);
  CAPTURE(n);
  CAPTURE(k);
  Draw draw(static_cast<std::uint64_t>((m * 100 + n) * 2000 + k));
  const Matrix<T> A = small_integers<T>(draw, m, k), B = small_integers<T>(draw, k, n);
  const Matrix<T> exact = product(A, B).template cast<T>();
  for (const InstructionSet& set : engine::instruction_sets())
    multiply_all_ways<T>(kernels_of<T>(set), A, B, [&](const char* way, const Guarded<T>& C) {
      CAPTURE(std::string(set.name));
      CAPTURE(std::string(way));
      CHECK((C.values() == exact && C.intact()));
    });
}

/// Columns on both sides of every register and panel.
const Index widths[] = {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 63, 64, 65, 70};

template <class T>
constexpr double epsilon = std::numeric_limits<T>::epsilon();

}  // namespace

TEST_CASE_TEMPLATE("kernels: tiles and panels have sizes", T, float, double) {
  CHECK_FALSE(engine::instruction_sets().empty());
  for (const InstructionSet& set : engine::instruction_sets()) {
    CAPTURE(std::string(set.name));
    const Kernels<T>& kernels = kernels_of<T>(set);
    CHECK(kernels.tile_rows >= 1);
    CHECK(kernels.panel >= 2);
    CHECK(kernels.panel % 2 == 0);
    CHECK(kernels.panel * static_cast<Index>(sizeof(T)) <= 128);
  }
}

TEST_CASE_TEMPLATE("kernels: products of small integers are exact, every m and n from 0 to 65", T, float, double) {
  for (Index m = 0; m <= 65; ++m)
    for (Index n = 0; n <= 65; ++n) check_exact_product<T>(m, n, (7 * m + 31 * n) % 66);
}

TEST_CASE_TEMPLATE("kernels: products of small integers are exact, every k from 0 to 65", T, float, double) {
  for (Index k = 0; k <= 65; ++k)
    for (const Index m : {1, 6, 14, 17})
      for (const Index n : {1, 5, 16, 33}) check_exact_product<T>(m, n, k);
}

TEST_CASE_TEMPLATE("kernels: products of small integers are exact over several blocks of the sum", T, float, double) {
  for (const Index k : {255, 256, 257, 383, 384, 385, 511, 512, 513, 640, 767, 1024, 1025, 1537})
    for (const Index m : {1, 14, 29})
      for (const Index n : {1, 16, 33, 70}) check_exact_product<T>(m, n, k);
}

TEST_CASE_TEMPLATE("kernels: products of small integers are exact over several strips of columns", T, float, double) {
  for (const Index n : {511, 512, 513, 1055})
    for (const Index m : {1, 3, 24, 25, 56, 57})
      for (const Index k : {33, 400}) check_exact_product<T>(m, n, k);
}

TEST_CASE_TEMPLATE("kernels: an element of a product has the same bits however the product is cut", T, float, double) {
  Draw draw(1);
  for (const Index k : {5, 300, 512, 700, 1100}) {
    const Index m = 45, n = 77;
    const auto A = draw.matrix<T>(m, k), B = draw.matrix<T>(k, n);
    for (const InstructionSet& set : engine::instruction_sets()) {
      CAPTURE(std::string(set.name));
      CAPTURE(k);
      const Kernels<T>& kernels = kernels_of<T>(set);
      std::vector<Matrix<T>> products;
      multiply_all_ways<T>(kernels, A, B, [&](const char*, const Guarded<T>& C) { products.push_back(C.values()); });
      REQUIRE(products.size() == (m <= engine::far_tiles * kernels.tile_rows ? 11 : 9));
      for (const Matrix<T>& other : products) CHECK(support::same_bits(other, products[0]));
      CHECK(support::relative_error(products[0], product(A, B)) <= 32 * epsilon<T>);
      for (const Index rows : {1, 2, 7, 13, 16, 31})
        for (const Index columns : {1, 3, 9, 17, 40, 64}) {
          const Index row = m - rows, column = (n - columns) / 2;
          const Matrix<T> part_of_A = A.bottomRows(rows), part_of_B = B.middleCols(column, columns);
          multiply_all_ways<T>(kernels, part_of_A, part_of_B, [&](const char* way, const Guarded<T>& C) {
            CAPTURE(std::string(way));
            CHECK(support::same_bits(Matrix<T>(C.values()), Matrix<T>(products[0].block(row, column, rows, columns))));
          });
        }
    }
  }
}

TEST_CASE_TEMPLATE("kernels: the product with a single column is exact, and its rows do not depend on each other", T,
                   float, double) {
  Draw draw(3);
  for (const InstructionSet& set : engine::instruction_sets()) {
    CAPTURE(std::string(set.name));
    const Kernels<T>& kernels = kernels_of<T>(set);
    // b as it lies, or as the last column of a matrix.
    const auto column_product = [&](const Matrix<T>& A, const Matrix<T>& b, const Matrix<T>& c, Index b_stride = 1) {
      Guarded<T> C(A.rows(), 1, 1);
      if (c.size() > 0) C = c;
      Matrix<T> wide = Matrix<T>::Constant(b.rows(), b_stride, std::numeric_limits<T>::quiet_NaN());
      wide.col(b_stride - 1) = b;
      kernels.multiply_column(A.rows(), A.cols(), A.data(), A.cols(), wide.data() + b_stride - 1, b_stride, C.rows(),
                              c.size() > 0);
      CHECK(C.intact());
      return Matrix<T>(C.values());
    };
    for (const Index k : {0, 1, 3, 4, 15, 16, 17, 31, 33, 64, 65, 100, 383, 384, 1025}) {
      CAPTURE(k);
      for (Index m = 0; m <= 35; ++m) {
        CAPTURE(m);
        const Matrix<T> A = small_integers<T>(draw, m, k), b = small_integers<T>(draw, k, 1),
                        c = small_integers<T>(draw, m, 1);
        const Matrix<T> exact = product(A, b).template cast<T>();
        CHECK((column_product(A, b, Matrix<T>(0, 1)) == exact));
        CHECK((column_product(A, b, c) == c + exact));
        CHECK((column_product(A, b, c, 17) == c + exact));
      }
      const Matrix<T> A = draw.matrix<T>(35, k), b = draw.matrix<T>(k, 1), none(0, 1);
      const Matrix<T> all = column_product(A, b, none);
      CHECK(support::relative_error(all, product(A, b)) <= 32 * epsilon<T>);
      for (Index row = 0; row < 35; ++row)
        CHECK(support::same_bits(column_product(A.middleRows(row, 1), b, none), Matrix<T>(all.middleRows(row, 1))));
    }
  }
}

TEST_CASE_TEMPLATE("kernels: a sum of some rows of many is exact, and no column behind the last register is written", T,
                   float, double) {
  Draw draw(4);
  for (const InstructionSet& set : engine::instruction_sets()) {
    CAPTURE(std::string(set.name));
    const Kernels<T>& kernels = kernels_of<T>(set);
    const Index most = 40 * lanes(kernels) + 1;  // some passes
    const Matrix<T> rows = small_integers<T>(draw, 9, round_up(most, lanes(kernels)));
    for (Index columns = 0; columns <= most; columns += columns < 2 * lanes(kernels) ? 1 : lanes(kernels) / 2) {
      CAPTURE(columns);
      for (const std::vector<std::int32_t>& index : {std::vector<std::int32_t>{}, {4}, {0, 3, 3, 8, 1}}) {
        CAPTURE(index.size());
        const auto count = static_cast<Index>(index.size());
        const Matrix<T> values = small_integers<T>(draw, 1, count), before = small_integers<T>(draw, 1, columns);
        Matrix<T> exact = before;
        for (Index k = 0; k < count; ++k)
          exact += values(0, k) * rows.row(index[static_cast<std::size_t>(k)]).head(columns);
        Guarded<T> sum(1, columns, lanes(kernels));
        sum = before;
        kernels.gather_rows(count, index.data(), values.data(), columns, rows.data(), rows.cols(), sum.rows().data);
        CHECK((Matrix<T>(sum.values()) == exact));
        CHECK(sum.intact());
      }
    }
  }
}

TEST_CASE_TEMPLATE("kernels: panels are dense, with zeros behind the last column", T, float, double) {
  Draw draw(2);
  for (const InstructionSet& set : engine::instruction_sets()) {
    CAPTURE(std::string(set.name));
    const Kernels<T>& kernels = kernels_of<T>(set);
    const Index panel = kernels.panel;
    for (const Index n : widths)
      for (const Index k : {1, 5, 16, 33}) {
        CAPTURE(n);
        CAPTURE(k);
        const Index ldb = n + 3, count = round_up(n, panel) / panel;
        const auto B = draw.matrix<T>(k, ldb);
        Matrix<T> expected = Matrix<T>::Zero(k * count, panel);
        for (Index j = 0; j < n; ++j) expected.block(j / panel * k, j % panel, k, 1) = B.col(j);
        Matrix<T> panels = Matrix<T>::Constant(k * count + 1, panel, T(55));
        kernels.pack(k, n, B.data(), ldb, panels.data());
        CHECK((panels.topRows(k * count) == expected));
        CHECK((panels.row(k * count).array() == T(55)).all());

        const Matrix<T> transposed = B.leftCols(n).transpose();
        Matrix<T> wide = Matrix<T>::Constant(n, k + 2, T(66));
        wide.leftCols(k) = transposed;
        panels.setConstant(T(55));
        kernels.pack_transposed(k, n, wide.data(), k + 2, panels.data());
        CHECK((panels.topRows(k * count) == expected));
        CHECK((panels.row(k * count).array() == T(55)).all());
      }
  }
}

TEST_CASE_TEMPLATE("kernels: activations equal the textbook's", T, float, double) {
  Draw draw(3);
  for (const InstructionSet& set : engine::instruction_sets())
    for (const Activation& activation : support::all_activations())
      for (const Index columns : widths) {
        CAPTURE(std::string(set.name));
        CAPTURE(std::string(name(activation)));
        CAPTURE(columns);
        const Kernels<T>& kernels = kernels_of<T>(set);
        const Index rows = 3;
        const auto p = static_cast<T>(parameter(activation));
        const auto z = draw.matrix<T>(rows, columns, -12, 12);
        const Eigen::MatrixXd exact = reference::activate(activation, z.template cast<double>());
        Guarded<T> input(rows, columns, lanes(kernels)), a = input;
        input = z;
        const T largest = kernels.activate[activation.index()](rows, columns, std::as_const(input).rows(), a.rows(), p);
        CHECK(largest == a.values().cwiseAbs().maxCoeff());
        const auto error = (a.values().template cast<double>() - exact).cwiseAbs();
        // Where z is rounded, e^z is good to |z| more units than z.
        const double units = reference::is_softmax(activation) ? 40 : 8;
        CHECK((error.array() <= units * epsilon<T> * exact.array().abs()).all());
        CHECK(a.intact());
        CHECK(input.intact());
        CHECK((input.values() == z));

        kernels.activate[activation.index()](rows, columns, std::as_const(input).rows(), input.rows(), p);
        CHECK(support::same_bits(Matrix<T>(input.values()), Matrix<T>(a.values())));
        CHECK(input.intact());
      }
}

TEST_CASE_TEMPLATE("kernels: derivatives of activations equal the textbook's", T, float, double) {
  Draw draw(4);
  for (const InstructionSet& set : engine::instruction_sets())
    for (const Activation& activation : support::all_activations())
      for (const Index columns : widths) {
        CAPTURE(std::string(set.name));
        CAPTURE(std::string(name(activation)));
        CAPTURE(columns);
        const Kernels<T>& kernels = kernels_of<T>(set);
        const Index rows = 3;
        const auto p = static_cast<T>(parameter(activation));
        const auto before = draw.matrix<T>(rows, columns), values = draw.matrix<T>(rows, columns, -4, 4);
        Guarded<T> z(rows, columns, lanes(kernels)), a = z, delta = z;
        z = values;
        delta = before;
        kernels.activate[activation.index()](rows, columns, std::as_const(z).rows(), a.rows(), p);
        const T largest = kernels.times_derivative[activation.index()](rows, columns, std::as_const(z).rows(),
                                                                       std::as_const(a).rows(), delta.rows(), p);
        CHECK(largest == delta.values().cwiseAbs().maxCoeff());
        const Eigen::MatrixXd exact_z = values.template cast<double>();
        const Eigen::MatrixXd exact = reference::through_activation(
            activation, exact_z, reference::activate(activation, exact_z), before.template cast<double>());
        const double scale = std::max(1.0, exact.cwiseAbs().maxCoeff());
        CHECK((delta.values().template cast<double>() - exact).cwiseAbs().maxCoeff() <= 8 * epsilon<T> * scale);
        CHECK(delta.intact());
        CHECK(z.intact());
        CHECK(a.intact());
      }
}

TEST_CASE_TEMPLATE("kernels: an activation and its derivative have the same bits in rows of any width", T, float,
                   double) {
  Draw draw(14);
  const Index rows = 40;
  for (const InstructionSet& set : engine::instruction_sets())
    for (const Activation& activation : support::all_activations()) {
      if (reference::is_softmax(activation)) continue;
      CAPTURE(std::string(set.name));
      CAPTURE(std::string(name(activation)));
      const Kernels<T>& kernels = kernels_of<T>(set);
      const auto p = static_cast<T>(parameter(activation));
      auto values = draw.matrix<T>(rows, 70, -12, 12);
      values.topRows(4) *= T(12);  // where exponentials overflow and vanish
      values.bottomRows(4) *= std::numeric_limits<T>::min();
      const auto before = draw.matrix<T>(rows, 70);
      const auto pass = [&](Index first, Index columns) {
        Guarded<T> z(rows, columns, lanes(kernels)), a = z, delta = z;
        z = values.middleCols(first, columns);
        delta = before.middleCols(first, columns);
        kernels.activate[activation.index()](rows, columns, std::as_const(z).rows(), a.rows(), p);
        kernels.times_derivative[activation.index()](rows, columns, std::as_const(z).rows(), std::as_const(a).rows(),
                                                     delta.rows(), p);
        return std::pair(Matrix<T>(a.values()), Matrix<T>(delta.values()));
      };
      const auto [a, delta] = pass(0, 70);
      for (const Index columns : widths) {
        CAPTURE(columns);
        const Index first = 70 - columns;
        const auto [part_of_a, part_of_delta] = pass(first, columns);
        CHECK(support::same_bits(part_of_a, Matrix<T>(a.middleCols(first, columns))));
        CHECK(support::same_bits(part_of_delta, Matrix<T>(delta.middleCols(first, columns))));
      }
    }
}

TEST_CASE("kernels: derivatives of activations equal central differences of the activations") {
  Draw draw(5);
  const Index rows = 4, columns = 37;
  const double h = 1e-5;
  for (const InstructionSet& set : engine::instruction_sets())
    for (const Activation& activation : support::all_activations()) {
      CAPTURE(std::string(set.name));
      CAPTURE(std::string(name(activation)));
      const Kernels<double>& kernels = kernels_of<double>(set);
      const double p = parameter(activation);
      auto values = draw.matrix<double>(rows, columns, -4, 4);
      values = (values.array().abs() < 1e-3).select(0.5, values);  // away from the kinks
      const auto direction = draw.matrix<double>(rows, columns), before = draw.matrix<double>(rows, columns);
      Guarded<double> z(rows, columns, lanes(kernels)), a = z, above = z, below = z, delta = z;
      const auto activate = [&](const Eigen::MatrixXd& at, Guarded<double>& to) {
        z = at;
        kernels.activate[activation.index()](rows, columns, std::as_const(z).rows(), to.rows(), p);
      };
      activate(values + h * direction, above);
      activate(values - h * direction, below);
      activate(values, a);
      delta = before;
      kernels.times_derivative[activation.index()](rows, columns, std::as_const(z).rows(), std::as_const(a).rows(),
                                                   delta.rows(), p);
      // The directional derivative of Σ before ⊙ σ(z), row by row.
      const Eigen::VectorXd differences =
          (above.values() - below.values()).cwiseProduct(before).rowwise().sum() / (2 * h);
      const Eigen::VectorXd backprop = delta.values().cwiseProduct(direction).rowwise().sum();
      CHECK((differences - backprop).cwiseAbs().maxCoeff() <= 1e-8 * std::max(1.0, differences.cwiseAbs().maxCoeff()));
    }
}

TEST_CASE_TEMPLATE("kernels: losses and their derivatives equal the textbook's", T, float, double) {
  Draw draw(6);
  for (const InstructionSet& set : engine::instruction_sets())
    for (const Loss& loss : support::all_losses())
      for (const Index columns : widths)
        for (const bool weighted : {false, true}) {
          CAPTURE(std::string(set.name));
          CAPTURE(std::string(name(loss)));
          CAPTURE(columns);
          CAPTURE(weighted);
          const Kernels<T>& kernels = kernels_of<T>(set);
          const Index rows = 3, lane = lanes(kernels);
          const auto xs = draw.matrix<T>(rows, columns, -4, 4), ys = draw.matrix<T>(rows, columns, 0, 1);
          Vector<T> weight = draw.vector<T>(rows, 0, 2);
          if (!weighted) weight.setConstant(T(0.25));
          Vector<T> parameter = Vector<T>::Zero(round_up(columns, lane));
          for (Index j = 0; j < columns; ++j) parameter[j] = static_cast<T>(reference::loss_parameter(loss, j));
          Guarded<T> x(rows, columns, lane), y = x, delta = x;
          x = xs;
          y = ys;
          std::array<double, 4> row_loss{0, 0, 0, 99}, alone = row_loss;
          const auto call = [&](std::array<double, 4>& to, Rows<T> delta_rows) {
            kernels.loss[loss.index()](rows, columns, std::as_const(x).rows(), std::as_const(y).rows(),
                                       parameter.data(), delta_rows.data ? weight.data() : nullptr, to.data(),
                                       delta_rows);
          };
          call(row_loss, delta.rows());
          call(alone, {nullptr, 0});
          CHECK(row_loss == alone);
          CHECK(row_loss[3] == 99);
          CHECK(delta.intact());
          CHECK(x.intact());
          CHECK(y.intact());
          for (Index i = 0; i < rows; ++i) {
            const Eigen::VectorXd x_i = xs.row(i).template cast<double>(), y_i = ys.row(i).template cast<double>();
            const double exact = reference::row_loss(loss, x_i, y_i);
            const Eigen::VectorXd exact_delta =
                static_cast<double>(weight[i]) * reference::row_loss_gradient(loss, x_i, y_i);
            CHECK(std::abs(row_loss[static_cast<std::size_t>(i)] - exact) <=
                  32 * epsilon<T> * std::max(1.0, std::abs(exact)));
            const Eigen::VectorXd ours = delta.values().row(i).template cast<double>();
            CHECK(support::relative_error(ours, exact_delta) <= 32 * epsilon<T>);
          }
        }
}

TEST_CASE("kernels: derivatives of losses equal central differences of the losses") {
  Draw draw(7);
  const Index rows = 4, columns = 9;
  const double h = 1e-5;
  for (const InstructionSet& set : engine::instruction_sets())
    for (const Loss& loss : support::all_losses()) {
      CAPTURE(std::string(set.name));
      CAPTURE(std::string(name(loss)));
      const Kernels<double>& kernels = kernels_of<double>(set);
      const auto ys = draw.matrix<double>(rows, columns, 0, 1);
      // Away from the kinks, at x = y and |x - y| = δ.
      const Matrix<double> xs = ys + draw.matrix<double>(rows, columns, 0.01, 0.3);
      Vector<double> parameter = Vector<double>::Zero(round_up(columns, lanes(kernels)));
      const Vector<double> weight = Vector<double>::Ones(rows);
      for (Index j = 0; j < columns; ++j) parameter[j] = reference::loss_parameter(loss, j);
      Guarded<double> x(rows, columns, lanes(kernels)), y = x, delta = x;
      y = ys;
      const auto losses = [&](const Eigen::MatrixXd& at) {
        Eigen::VectorXd row_loss(rows);
        x = at;
        kernels.loss[loss.index()](rows, columns, std::as_const(x).rows(), std::as_const(y).rows(), parameter.data(),
                                   weight.data(), row_loss.data(), delta.rows());
        return row_loss;
      };
      const auto direction = draw.matrix<double>(rows, columns);
      const Eigen::VectorXd differences = (losses(xs + h * direction) - losses(xs - h * direction)) / (2 * h);
      losses(xs);
      const Eigen::VectorXd backprop = delta.values().cwiseProduct(direction).rowwise().sum();
      CHECK((differences - backprop).cwiseAbs().maxCoeff() <= 1e-9);
    }
}

TEST_CASE_TEMPLATE("kernels: updates equal the textbook's and touch nothing beside their part", T, float, double) {
  Draw draw(8);
  for (const InstructionSet& set : engine::instruction_sets())
    for (const Rule& rule : support::all_rules())
      for (const Index columns : widths) {
        CAPTURE(std::string(set.name));
        CAPTURE(std::string(name(rule)));
        CAPTURE(columns);
        const Kernels<T>& kernels = kernels_of<T>(set);
        const Index rows = 2, stride = columns + 3, size = rows * stride;
        const auto wanted = std::visit([](const auto& one) { return one.moments(); }, rule);
        const Vector<T> start = draw.vector<T>(size);
        Vector<T> theta = start;
        std::vector<Vector<T>> moments(max_moments, Vector<T>::Zero(size));
        T* places[max_moments];
        for (unsigned i = 0; i < max_moments; ++i) places[i] = wanted >> i & 1 ? moments[i].data() : nullptr;
        std::vector<double> exact(static_cast<std::size_t>(size));
        std::vector<reference::Moments> exact_moments(exact.size());
        for (std::size_t i = 0; i < exact.size(); ++i) exact[i] = static_cast<double>(start[static_cast<Index>(i)]);
        for (std::int64_t t = 1; t <= 3; ++t) {
          const auto gradient = draw.matrix<T>(rows, columns);
          Guarded<T> g(rows, columns, lanes(kernels));
          g = gradient;
          const UpdateConstants constants = std::visit([t](const auto& one) { return one.constants(t); }, rule);
          kernels.update[rule.index()](rows, columns, std::as_const(g).rows(), theta.data(), places, stride,
                                       constants.data(), nullptr);
          for (Index r = 0; r < rows; ++r)
            for (Index c = 0; c < columns; ++c) {
              const auto at = static_cast<std::size_t>(r * stride + c);
              reference::update(rule, t, static_cast<double>(gradient(r, c)), exact[at], exact_moments[at]);
            }
        }
        double error = 0;
        bool untouched = true;
        for (Index i = 0; i < size; ++i) {
          if (i % stride >= columns) {
            untouched = untouched && theta[i] == start[i];
            for (const Vector<T>& moment : moments) untouched = untouched && moment[i] == 0;
          } else {
            error = std::max(error, std::abs(static_cast<double>(theta[i]) - exact[static_cast<std::size_t>(i)]));
          }
        }
        CHECK(untouched);
        CHECK(error <= 16 * epsilon<T>);
      }
}

TEST_CASE_TEMPLATE("kernels: an update that is looked at has the same bits, and tells its sums", T, float, double) {
  Draw draw(10);
  const Index rows = 5;
  for (const InstructionSet& set : engine::instruction_sets())
    for (const Rule& rule : support::all_rules())
      for (const Index columns : {1, 3, 16, 17, 67, 1100}) {
        CAPTURE(std::string(set.name));
        CAPTURE(std::string(name(rule)));
        CAPTURE(columns);
        const Kernels<T>& kernels = kernels_of<T>(set);
        const Index stride = columns + 2, size = rows * stride;
        const auto wanted = std::visit([](const auto& one) { return one.moments(); }, rule);
        const UpdateConstants constants = std::visit([](const auto& one) { return one.constants(1); }, rule);
        Matrix<T> gradient = draw.matrix<T>(rows, columns);
        gradient(2, 0) = gradient(0, columns / 2) = 0;
        const Vector<T> start = draw.vector<T>(size);
        const auto updated = [&](engine::Sums* sums) {
          Vector<T> theta = start;
          std::vector<Vector<T>> moments(max_moments, Vector<T>::Zero(size));
          T* places[max_moments];
          for (unsigned i = 0; i < max_moments; ++i) places[i] = wanted >> i & 1 ? moments[i].data() : nullptr;
          kernels.update[rule.index()](rows, columns, {gradient.data(), columns}, theta.data(), places, stride,
                                       constants.data(), sums);
          return theta;
        };
        engine::Sums sums;
        const Vector<T> theta = updated(&sums);
        CHECK(support::same_bits(theta, updated(nullptr)));
        const auto part = [&](const Vector<T>& of) {
          return Eigen::MatrixXd(Eigen::Map<const Matrix<T>, 0, Eigen::OuterStride<>>(of.data(), rows, columns,
                                                                                      Eigen::OuterStride<>(stride))
                                     .template cast<double>());
        };
        const Eigen::MatrixXd g = gradient.template cast<double>();
        const auto near = [](double value) { return doctest::Approx(value).epsilon(support::tolerance<T>); };
        CHECK(sums.absolute == near(g.cwiseAbs().sum()));
        CHECK(sums.squares == near(g.squaredNorm()));
        CHECK(sums.largest == g.cwiseAbs().maxCoeff());
        CHECK(sums.zeros == (g.array() == 0).count());
        // The change is a difference of rounded numbers.
        CHECK(sums.change_squares ==
              doctest::Approx((part(theta) - part(start)).squaredNorm()).epsilon(16 * support::tolerance<T>));
        CHECK(sums.theta_squares == near(part(start).squaredNorm()));
      }
}

TEST_CASE_TEMPLATE("kernels: an update has the same bits by tiles, by rows, in one run and by single numbers", T, float,
                   double) {
  Draw draw(9);
  const Index rows = 5;
  for (const Index columns : {1, 2, 3, 5, 8, 15, 16, 17, 67}) {
    const auto gradient = draw.matrix<T>(rows, columns), start = draw.matrix<T>(rows, columns);
    for (const InstructionSet& set : engine::instruction_sets())
      for (const Rule& rule : support::all_rules()) {
        CAPTURE(std::string(set.name));
        CAPTURE(std::string(name(rule)));
        CAPTURE(columns);
        const Kernels<T>& kernels = kernels_of<T>(set);
        const auto wanted = std::visit([](const auto& one) { return one.moments(); }, rule);
        // call(update), where update(row, column, rows, columns, gradient) does a part.
        const auto after_two_steps = [&](const auto& call) {
          Matrix<T> theta = start;
          std::vector<Matrix<T>> moments(max_moments, Matrix<T>::Zero(rows, columns));
          for (std::int64_t t = 1; t <= 2; ++t) {
            const UpdateConstants constants = std::visit([t](const auto& one) { return one.constants(t); }, rule);
            call([&](Index row, Index column, Index height, Index width, Rows<const T> g) {
              const Index at = row * columns + column;
              T* places[max_moments];
              for (unsigned i = 0; i < max_moments; ++i) places[i] = wanted >> i & 1 ? moments[i].data() + at : nullptr;
              kernels.update[rule.index()](height, width, g, theta.data() + at, places, columns, constants.data(),
                                           nullptr);
            });
          }
          return theta;
        };
        const Matrix<T> in_one_run =
            after_two_steps([&](const auto& update) { update(0, 0, rows, columns, {gradient.data(), columns}); });
        const Matrix<T> by_numbers = after_two_steps([&](const auto& update) {
          for (Index i = 0; i < rows; ++i)
            for (Index j = 0; j < columns; ++j) update(i, j, 1, 1, {&gradient(i, j), 1});
        });
        const Matrix<T> by_rows = after_two_steps([&](const auto& update) {
          Guarded<T> g(rows, columns, lanes(kernels));
          g = gradient;
          update(0, 0, rows, columns, std::as_const(g).rows());
        });
        const Matrix<T> by_tiles = after_two_steps([&](const auto& update) {
          for (Index column = 0, width = 1; column < columns; column += width, width = 2 * width + 1) {
            width = std::min(width, columns - column);
            for (const Index row : {0, 3}) {
              Guarded<T> g(row == 0 ? 3 : 2, width, lanes(kernels));
              g = gradient.block(row, column, row == 0 ? 3 : 2, width);
              update(row, column, row == 0 ? 3 : 2, width, std::as_const(g).rows());
            }
          }
        });
        CHECK_FALSE((in_one_run == start));
        CHECK(support::same_bits(by_numbers, in_one_run));
        CHECK(support::same_bits(by_rows, in_one_run));
        CHECK(support::same_bits(by_tiles, in_one_run));
      }
  }
}

TEST_CASE_TEMPLATE("kernels: the largest magnitude, or a NaN, is found anywhere and not behind the last column", T,
                   float, double) {
  Draw draw(12);
  constexpr T nan = std::numeric_limits<T>::quiet_NaN(), inf = std::numeric_limits<T>::infinity();
  for (const InstructionSet& set : engine::instruction_sets())
    for (const Index columns : widths) {
      CAPTURE(std::string(set.name));
      CAPTURE(columns);
      const Kernels<T>& kernels = kernels_of<T>(set);
      const Index rows = 3;
      Guarded<T> x(rows, columns, lanes(kernels));  // whose guard is larger than all that stands in it
      const auto values = draw.matrix<T>(rows, columns);
      const auto largest = [&] { return kernels.largest(rows, columns, std::as_const(x).rows()); };
      x = values;
      CHECK(largest() == values.cwiseAbs().maxCoeff());
      x = Matrix<T>::Zero(rows, columns).eval();
      CHECK(largest() == 0);
      for (Index r = 0; r < rows; ++r)
        for (Index c = 0; c < columns; ++c)
          for (const T odd : {T(-5), T(5), -inf, inf, nan, -nan}) {
            Matrix<T> with = values;
            with((r + 1) % rows, c) = 4;
            with(r, c) = odd;
            x = with;
            CHECK((std::isnan(odd) ? std::isnan(largest()) : largest() == std::abs(odd)));
          }
    }
}

TEST_CASE_TEMPLATE("kernels: all_finite finds a NaN or an infinity anywhere", T, float, double) {
  using Limits = std::numeric_limits<T>;
  for (const InstructionSet& set : engine::instruction_sets()) {
    CAPTURE(std::string(set.name));
    const Kernels<T>& kernels = kernels_of<T>(set);
    for (Index n = 0; n <= 70; ++n) {
      CAPTURE(n);
      Vector<T> x = Vector<T>::Constant(n, Limits::max());
      if (n > 2) x[2] = Limits::denorm_min();
      CHECK(kernels.all_finite(n, x.data()));
      CHECK(kernels.all_finite(n, (-x).eval().data()));
      for (Index at = 0; at < n; ++at)
        for (const T bad : {Limits::infinity(), -Limits::infinity(), Limits::quiet_NaN()}) {
          const T before = std::exchange(x[at], bad);
          CHECK_FALSE(kernels.all_finite(n, x.data()));
          CHECK(kernels.all_finite(at, x.data()));
          x[at] = before;
        }
    }
  }
}

TEST_CASE_TEMPLATE("kernels: sum of squares", T, float, double) {
  Draw draw(10);
  for (Index n = 0; n <= 200; n = n < 40 ? n + 1 : n + 37) {
    CAPTURE(n);
    const Vector<T> integers = small_integers<T>(draw, n, 1), numbers = draw.vector<T>(n, -3, 3);
    long double exact = 0;
    for (Index i = 0; i < n; ++i) exact += static_cast<long double>(numbers[i]) * static_cast<long double>(numbers[i]);
    for (const InstructionSet& set : engine::instruction_sets()) {
      CAPTURE(std::string(set.name));
      const Kernels<T>& kernels = kernels_of<T>(set);
      CHECK(kernels.sum_of_squares(n, integers.data()) == integers.template cast<double>().squaredNorm());
      CHECK(std::abs(kernels.sum_of_squares(n, numbers.data()) - static_cast<double>(exact)) <=
            16 * epsilon<double> * static_cast<double>(exact));
    }
  }
  // Squares that float cannot hold.
  const Vector<T> large = Vector<T>::Constant(3, T(1e30));
  for (const InstructionSet& set : engine::instruction_sets())
    CHECK(kernels_of<T>(set).sum_of_squares(3, large.data()) == doctest::Approx(3e60).epsilon(1e-6));
}
