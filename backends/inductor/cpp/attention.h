// What attends to what: keys and values in several parts, as if they were one, and what of them a row may see.
#pragma once

#include "marks.h"
#include "vectors.h"

#include <algorithm>
#include <vector>

namespace dcompile {

constexpr float HIDDEN = -1.0e38f;  // a bias below this hides a slot

struct Part {
  const float *k, *v, *bias;
  int64_t slots, k_steps[4], v_steps[4], bias_steps[4];

  const float* keys(int64_t b, int64_t g) const { return k + b * k_steps[0] + g * k_steps[1]; }

  const float* values(int64_t b, int64_t g, int64_t n) const {
    return v + b * v_steps[0] + g * v_steps[1] + n * v_steps[2];
  }
};

// Slots that lie one behind the other.
struct Run {
  int part;
  int64_t from, to;
};

// Scores become weights; returns one over their sum.
inline float soften(float* scores, int64_t count) {
  const int64_t whole = (count + LANES - 1) / LANES * LANES;
  std::fill(scores + count, scores + whole, -3.0e38f);
  floats most = load<floats>(scores), total = {};
  for (int64_t i = LANES; i < whole; i += LANES) most = larger(load<floats>(scores + i), most);
  const float top = largest(most);
  for (int64_t i = 0; i < whole; i += LANES) {
    const floats weight = exp(load<floats>(scores + i) - top);
    store(scores + i, weight);
    total += weight;
  }
  float nobody = 0;
  for (int64_t i = count; i < whole; i++) nobody += scores[i];
  return 1 / (sum(total) - nobody);
}

struct Attention {
  std::vector<Part> parts;
  const float* q;
  const int64_t* q_steps;
  int64_t batch, heads, width, dim, shared;
  float scale;
  float* out;
  std::vector<std::vector<Run>> seen;  // of each row of a batch and of width: what it may see; all, where that is none

  void look() {
    seen.resize(batch * width);
    for (int64_t row = 0; row < batch * width; row++) {
      collect(row, HIDDEN);
      if (seen[row].empty()) collect(row, -__builtin_inff());
    }
  }

  void collect(int64_t row, float above) {
    for (int p = 0; p < static_cast<int>(parts.size()); p++) {
      const float* bias = bias_of(p, row / width, row % width);
      const int64_t step = parts[p].bias_steps[3], slots = parts[p].slots;
      int64_t from = -1;  // where the run began that is not yet over
      for (int64_t n = 0; n < slots; n++) {
        if (step == 1 && n + LANES <= slots && uniform(dcompile::above(load<floats>(bias + n), above), from >= 0)) {
          n += LANES - 1;
          continue;
        }
        const bool sees = bias[n * step] > above;
        if (sees && from < 0) from = n;
        if (!sees && from >= 0) seen[row].push_back({p, from, n}), from = -1;
      }
      if (from >= 0) seen[row].push_back({p, from, slots});
    }
  }

  static bool uniform(ints lanes, bool set) { return sum(to_floats(lanes)) == (set ? -LANES : 0); }

  const float* bias_of(int p, int64_t b, int64_t w) const {
    return parts[p].bias + b * parts[p].bias_steps[0] + w * parts[p].bias_steps[2];
  }

  // Keys and values of the row that sees most are read; each row of each head multiplies what it sees.
  void tell_cost() const {
    int64_t read = 0, products = 0;
    for (int64_t b = 0; b < batch; b++) {
      int64_t most = 0;
      for (int64_t w = 0; w < width; w++) {
        int64_t count = 0;
        for (const Run& run : seen[b * width + w]) count += run.to - run.from;
        most = std::max(most, count), products += count;
      }
      read += most;
    }
    tell(read * (heads / shared) * dim * 2 * sizeof(float), products * heads * dim * 4);
  }
};

}  // namespace dcompile
