// Attention of many rows to the same keys. These are turned once, so that a vector holds one number of many keys: no sums
// over lanes, and what is read serves several rows.
#pragma once

#include "attention.h"
#include "rooms.h"

#include <memory>

namespace dcompile {
namespace {

constexpr int ABREAST = 6;  // rows
constexpr int WIDTH = sizeof(widest) / sizeof(float), VECTORS = WIDTH == LANES ? 4 : 2;
constexpr int SPAN = WIDTH * VECTORS;  // keys at a time, or numbers of a value

struct Many {
  const Attention& of;
  std::vector<std::vector<Run>> seen;  // of each of the batch: what some row of it may see, its columns
  std::vector<int64_t> upto;  // of each row of a batch and of width: the end of the columns that it may see
  int64_t columns = 0;  // room for those of one of the batch
  std::unique_ptr<Room> turned;

  explicit Many(const Attention& attention) : of(attention), seen(of.batch), upto(of.batch * of.width) {
    for (int64_t b = 0; b < of.batch; b++) columns = std::max(columns, together(b));
    columns = (columns + SPAN - 1) / SPAN * SPAN + LANES;  // not a power of two, whose multiples share lines of the cache
    turned = std::make_unique<Room>(of.batch * groups() * of.dim * columns * sizeof(float));
  }

  int64_t groups() const { return of.heads / of.shared; }

  float* keys(int64_t b, int64_t g) const {
    return static_cast<float*>(turned->at) + (b * groups() + g) * of.dim * columns;
  }

  // Finds what rows of one of the batch may see; how many columns that is.
  int64_t together(int64_t b) {
    int64_t count = 0;
    std::vector<std::vector<int64_t>> column(of.parts.size());
    for (int p = 0; p < static_cast<int>(of.parts.size()); p++) {
      std::vector<int64_t>& at = column[p];
      at.assign(of.parts[p].slots, -1);
      for (int64_t w = 0; w < of.width; w++)
        for (const Run& run : of.seen[b * of.width + w])
          if (run.part == p) std::fill(at.begin() + run.from, at.begin() + run.to, 0);
      for (int64_t n = 0; n < of.parts[p].slots; n++) {
        if (at[n] < 0) continue;
        if (n > 0 && at[n - 1] >= 0) seen[b].back().to = n + 1;
        else seen[b].push_back({p, n, n + 1});
        at[n] = count++;
      }
    }
    for (int64_t row = b * of.width; row < (b + 1) * of.width; row++) {
      if (of.seen[row].empty()) continue;
      const Run& last = of.seen[row].back();
      upto[row] = column[last.part][last.to - 1] + 1;
    }
    return count;
  }

  // Some numbers of all keys of a group.
  void turn(int64_t b, int64_t g, int64_t from, int64_t to) const {
    float* const out = keys(b, g);
    int64_t at = 0;
    for (const Run& run : seen[b]) {
      const int64_t step = of.parts[run.part].k_steps[2];
      const float* k = of.parts[run.part].keys(b, g) + run.from * step;
      int64_t n = run.from;
      for (; n + 4 <= run.to; n += 4, at += 4, k += 4 * step) {
        int64_t d = from;
        for (; d + 4 <= to; d += 4) turn_four(k + d, step, out + d * columns + at, columns);
        for (; d < to; d++)
          for (int64_t i = 0; i < 4; i++) out[d * columns + at + i] = k[i * step + d];
      }
      for (; n < run.to; n++, at++, k += step)
        for (int64_t d = from; d < to; d++) out[d * columns + at] = k[d];
    }
    for (int64_t d = from; d < to; d++) std::fill(out + d * columns + at, out + (d + 1) * columns, 0.0f);
  }

  // Rows of all heads that share keys, a few from `first` on; the last few may begin with rows that were done before.
  void attend(int64_t b, int64_t g, int64_t first, float* scores, float* query) const {
    int64_t w[ABREAST], h[ABREAST], count = 0;
    for (int r = 0; r < ABREAST; r++) {
      w[r] = (first + r) / of.shared, h[r] = g * of.shared + (first + r) % of.shared;
      count = std::max(count, upto[b * of.width + w[r]]);
      const float* row = of.q + b * of.q_steps[0] + h[r] * of.q_steps[1] + w[r] * of.q_steps[2];
      for (int64_t i = 0; i < of.dim; i++) query[r * of.dim + i] = row[i * of.q_steps[3]] * of.scale;
    }
    for (int64_t c = 0; c < count; c += SPAN) score(keys(b, g) + c, query, scores + c);
    float share[ABREAST];
    float* results[ABREAST];
    for (int r = 0; r < ABREAST; r++) {
      hide(b, w[r], count, scores + r * columns);
      share[r] = soften(scores + r * columns, count);
      results[r] = of.out + ((b * of.heads + h[r]) * of.width + w[r]) * of.dim;
    }
    int64_t d = 0;
    for (; d + SPAN <= of.dim; d += SPAN) gather<widest, VECTORS>(b, g, d, count, scores, share, results);
    for (; d + WIDTH <= of.dim; d += WIDTH) gather<widest, 1>(b, g, d, count, scores, share, results);
    for (; d < of.dim; d++) gather<float, 1>(b, g, d, count, scores, share, results);
  }

  void score(const float* k, const float* query, float* scores) const {
    widest total[ABREAST][VECTORS] = {};
    ONCE for (int64_t d = 0; d < of.dim; d++, k += columns) {
      widest numbers[VECTORS];
      UNROLL for (int j = 0; j < VECTORS; j++) numbers[j] = load<widest>(k + j * WIDTH);
      UNROLL for (int r = 0; r < ABREAST; r++) UNROLL for (int j = 0; j < VECTORS; j++)
        total[r][j] += query[r * of.dim + d] * numbers[j];
    }
    UNROLL for (int r = 0; r < ABREAST; r++) UNROLL for (int j = 0; j < VECTORS; j++)
      store(scores + r * columns + j * WIDTH, total[r][j]);
  }

  void hide(int64_t b, int64_t w, int64_t count, float* scores) const {
    int64_t at = 0;
    for (const Run& run : seen[b]) {
      const float* bias = of.bias_of(run.part, b, w);
      const int64_t step = of.parts[run.part].bias_steps[3], some = std::min(run.to - run.from, count - at);
      if (step == 1) for (int64_t n = 0; n < some; n++) scores[at + n] += bias[run.from + n];
      else for (int64_t n = 0; n < some; n++) scores[at + n] += bias[(run.from + n) * step];
      if ((at += some) == count) return;
    }
  }

  // The weighed sums of values, of some of their numbers.
  template <class V, int N>
  void gather(
      int64_t b, int64_t g, int64_t d, int64_t count, const float* weights, const float* share, float* const* out) const {
    V total[ABREAST][N] = {};
    for (const Run& run : seen[b]) {
      const int64_t step = of.parts[run.part].v_steps[2], some = std::min(run.to - run.from, count);
      const float* v = of.parts[run.part].values(b, g, run.from) + d;
      ONCE for (int64_t n = 0; n < some; n++, v += step, weights++) {
        V numbers[N];
        UNROLL for (int j = 0; j < N; j++) numbers[j] = load<V>(v + j * sizeof(V) / sizeof(float));
        UNROLL for (int r = 0; r < ABREAST; r++) UNROLL for (int j = 0; j < N; j++)
          total[r][j] += weights[r * columns] * numbers[j];
      }
      if ((count -= some) == 0) break;
    }
    UNROLL for (int r = 0; r < ABREAST; r++) UNROLL for (int j = 0; j < N; j++)
      store(out[r] + d + j * sizeof(V) / sizeof(float), total[r][j] * share[r]);
  }

  void run() const {
    constexpr int64_t PIECE = 16;  // numbers of keys that are turned at a time
    const int64_t rows = of.width * of.shared;
#pragma omp parallel
    {
      std::vector<float> scores(ABREAST * columns), query(ABREAST * of.dim);
#pragma omp for schedule(static) collapse(3)
      for (int64_t b = 0; b < of.batch; b++)
        for (int64_t g = 0; g < groups(); g++)
          for (int64_t d = 0; d < of.dim; d += PIECE) turn(b, g, d, std::min(d + PIECE, of.dim));
#pragma omp for schedule(static) collapse(3)
      for (int64_t b = 0; b < of.batch; b++)
        for (int64_t g = 0; g < groups(); g++)
          for (int64_t r = 0; r < rows; r += ABREAST)
            attend(b, g, std::min(r, rows - ABREAST), scores.data(), query.data());
    }
  }
};

}  // namespace
}  // namespace dcompile
