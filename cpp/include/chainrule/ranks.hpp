#pragma once

#include "chainrule/matrix.hpp"

namespace chainrule {

/// The processes that train one network together, each with samples of its own. All call `sum` alike, step by step.
struct Ranks {
  Index rank, size;           // number of this process, from 0, and how many there are
  Index first;                // place of this process's samples among those of all
  Index rows;                 // samples of all
  bool reproducible = false;  // same bits for any number of processes

  virtual ~Ranks() = default;
  /// Adds up over all processes, in place; all get the same bits.
  virtual void sum(float* values, Index count) = 0;
  virtual void sum(double* values, Index count) = 0;

 protected:
  Ranks(Index rank, Index size, Index first, Index rows, bool reproducible = false)
      : rank(rank), size(size), first(first), rows(rows), reproducible(reproducible) {}
};

}  // namespace chainrule
