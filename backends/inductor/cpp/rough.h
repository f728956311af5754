// What is rounded to bytes, and the tiles of a matrix that it is multiplied with (backends/inductor/tiles.py).
#pragma once

#include "vectors.h"

#include <algorithm>
#include <vector>

namespace dcompile {

// Rows of x in bytes, four to a word; of each block its scale, and its scale times its sum.
class Rounded {
  std::vector<int32_t> held;

 public:
  int32_t* words;  // at the beginning of a line of the cache
  std::vector<float> scales, sums;

  // `room`: for how many rows, of which the others are 0.
  Rounded(const float* x, int64_t rows, int64_t room, int64_t inner, int64_t block)
      : held(room * inner / 4 + LANES), scales(room * inner / block), sums(room * inner / block) {
    words = reinterpret_cast<int32_t*>((reinterpret_cast<uintptr_t>(held.data()) + 63) / 64 * 64);
    int8_t* out = reinterpret_cast<int8_t*>(words);
#pragma omp parallel for schedule(static) if (rows * inner > 8192)
    for (int64_t b = 0; b < rows * inner / block; b++) round(x + b * block, block, out + b * block, scales[b], sums[b]);
  }

 private:
  static void round(const float* x, int64_t block, int8_t* out, float& scale, float& total) {
    floats far = {};
    for (int64_t i = 0; i < block; i += LANES) far = larger(as_floats(as_ints(load<floats>(x + i)) & 0x7fffffff), far);
    const float most = largest(far);
    scale = most / 127;
    const float turn = most > 0 ? 127 / most : 0;
    ints sums = {};
    for (int64_t i = 0; i < block; i += LANES) {
      const floats raised = load<floats>(x + i) * turn + 12582912.0f;  // whole numbers, to the nearest
      const ints q = as_ints(raised) - 0x4b400000;
      sums += q;
      for (int j = 0; j < LANES; j++) out[i + j] = static_cast<int8_t>(q[j]);
    }
    total = scale * sum(to_floats(sums));
  }
};

struct Tiles {
  const int32_t *codes, *steps;
  int64_t columns, blocks, block;
  bool symmetric;

  int64_t words() const { return symmetric ? (blocks + 1) / 2 : blocks; }

  // Of sixteen columns in a block. `middle`: the code of 0 in a symmetric matrix.
  void read(int64_t tile, int64_t b, float middle, floats& scale, floats& least) const {
    const bool high = b >= words();
    const ints pair = load<ints>(steps + (tile * words() + (high ? b - words() : b)) * LANES);
    scale = from_half(high ? pair >> 16 : pair);
    least = symmetric ? scale * -middle : from_half(pair >> 16);
  }
};

// What a block adds to a row's sums: `sum` of the products of bytes, and what its offset adds.
inline floats weighed(ints sum, floats scale, floats least, float x_scale, float x_sum) {
  return to_floats(sum) * (scale * x_scale) + least * x_sum;
}

// Sums of a row, of as many columns of a tile as the matrix has.
inline void put(floats total, float* out, int64_t row, const Tiles& w, int64_t tile) {
  const int64_t some = std::min<int64_t>(LANES, w.columns - tile * LANES);
  float* to = out + row * w.columns + tile * LANES;
  if (some == LANES) store(to, total);
  else std::copy_n(reinterpret_cast<const float*>(&total), some, to);
}

}  // namespace dcompile
