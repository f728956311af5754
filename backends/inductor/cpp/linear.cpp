// Products with matrices in blocks (backends/inductor/blocks.py says how they lie). What is multiplied stays in float32:
// a weight is made in registers, to the bit what it means, and serves up to six rows of x.
#include "rooms.h"
#include "vectors.h"

#include <algorithm>
#include <vector>

namespace dcompile {
namespace {

constexpr int GROUP = 64;   // weights of a row that lie together
constexpr int MOST = 2048;   // blocks of a row
constexpr int PIECE = 32;   // columns of the result at a time

constexpr int MOST_ROWS = 6;  // whose sums registers can hold
#if defined(__AVX512F__)
constexpr int APART = 2;  // sums of a row and a column: of the even and the odd sixteens
#else
constexpr int APART = 1;
#endif

struct Matrix {
  const int32_t* codes;
  const int32_t* steps;
  int64_t columns, groups, blocks;
  bool symmetric;
};

struct Steps {
  alignas(64) float scale[MOST + 2 * LANES], least[MOST + 2 * LANES];

  // `middle`: the code of 0 in a symmetric matrix.
  void read(const Matrix& w, int64_t row, float middle) {
    const int64_t words = w.symmetric ? (w.blocks + 1) / 2 : w.blocks;
    const int32_t* from = w.steps + row * words;
    float* high = w.symmetric ? scale + words : least;
    for (int64_t i = 0; i < words; i += LANES) store(scale + i, from_half(load<ints>(from + i)));
    for (int64_t i = 0; i < words; i += LANES) store(high + i, from_half(load<ints>(from + i) >> 16));
    if (w.symmetric)
      for (int64_t i = 0; i < w.blocks; i += LANES) store(least + i, load<floats>(scale + i) * -middle);
    scale[w.blocks] = least[w.blocks] = 0;  // half of the last group may be none
  }
};

#if defined(__AVX512F__) && !defined(__clang__)
inline floats chosen(floats table, ints codes, floats, floats) { return __builtin_shuffle(table, codes); }
#else
inline floats chosen(floats, ints codes, floats scale, floats least) { return to_floats(codes & 15) * scale + least; }
#endif

inline float whole(const floats (&total)[APART]) { return sum(APART == 1 ? total[0] : total[0] + total[APART - 1]); }

// Rows of four bits lie in pairs: lane i holds weights i, i + 16, i + 32, i + 48 of a group of one, then of the other.
template <int ROWS, int BLOCK>
void nibbles(const float* x, int64_t width, const Matrix& w, int64_t from, int64_t to, float* out) {
  const float numbers[LANES] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  const floats ramp = load<floats>(numbers);
  Steps steps[2];
  for (int64_t n = from; n < to; n += 2) {
    const int32_t* codes = w.codes + n / 2 * w.groups * LANES;
    for (int64_t j = 0; j < 2; j++) steps[j].read(w, std::min(n + j, w.columns - 1), 8);
    floats total[ROWS][2][APART] = {};
    for (int64_t g = 0; g < w.groups; g++) {
      const ints q = load<ints>(codes + g * LANES);
      floats scale[2], least[2], table[2];
      UNROLL for (int t = 0; t < 4; t++) {
        if (t % (BLOCK / LANES) == 0) {
          const int64_t b = g * (GROUP / BLOCK) + t / (BLOCK / LANES);
          UNROLL for (int j = 0; j < 2; j++) {
            scale[j] = spread(steps[j].scale[b]), least[j] = spread(steps[j].least[b]);
            table[j] = ramp * scale[j] + least[j];
          }
        }
        const floats first = chosen(table[0], q >> (4 * t), scale[0], least[0]);
        const floats second = chosen(table[1], q >> (16 + 4 * t), scale[1], least[1]);
        UNROLL for (int r = 0; r < ROWS; r++) {
          const floats xs = load<floats>(x + r * width + g * GROUP + LANES * t);
          total[r][0][t % APART] += first * xs;
          total[r][1][t % APART] += second * xs;
        }
      }
    }
    UNROLL for (int r = 0; r < ROWS; r++) {
      out[r * w.columns + n] = whole(total[r][0]);
      if (n + 1 < to) out[r * w.columns + n + 1] = whole(total[r][1]);
    }
  }
}

// Of eight bits: lane i holds weights i, i + 16, i + 32, i + 48 of a group, less 128.
inline floats byte(ints q, int t) { return to_floats((q << (24 - 8 * t)) >> 24); }

template <int ROWS, int BLOCK>
void bytes(const float* x, int64_t width, const Matrix& w, int64_t from, int64_t to, float* out) {
  Steps steps;
  for (int64_t n = from; n < to; n++) {
    const int32_t* codes = w.codes + n * w.groups * LANES;
    steps.read(w, n, 0);
    floats total[ROWS][APART] = {};
    for (int64_t g = 0; g < w.groups; g++) {
      const ints q = load<ints>(codes + g * LANES);
      UNROLL for (int t = 0; t < 4; t++) {
        const int64_t b = g * (GROUP / BLOCK) + t / (BLOCK / LANES);
        const floats weights = byte(q, t) * spread(steps.scale[b]);
        UNROLL for (int r = 0; r < ROWS; r++)
          total[r][t % APART] += weights * load<floats>(x + r * width + g * GROUP + LANES * t);
      }
    }
    for (int r = 0; r < ROWS; r++) out[r * w.columns + n] = whole(total[r]);
  }
}

template <int ROWS>
void some(const float* x, int64_t width, const Matrix& w, int bits, int block, int64_t from, int64_t to, float* out) {
  const auto way = bits == 4 ? (block == 64 ? nibbles<ROWS, 64> : nibbles<ROWS, 32>)
                             : (block == 64 ? bytes<ROWS, 64> : bytes<ROWS, 32>);
  way(x, width, w, from, to, out);
}

// Many rows: some columns of the matrix are written down as floats, for all of them, and lie side by side in vectors.
constexpr int WIDTH = sizeof(widest) / sizeof(float), COLUMNS = 2 * WIDTH;
constexpr int ABREAST = WIDTH == LANES ? 12 : 6;  // rows whose sums registers can hold
static_assert(PIECE % COLUMNS == 0);

// Four columns of the matrix as floats, side by side in a panel.
template <int BITS, int BLOCK>
void unfold(const Matrix& w, const int64_t (&columns)[4], Steps (&steps)[4], float* panel) {
  const int32_t* codes[4];
  int shift[4];
  for (int i = 0; i < 4; i++) {
    steps[i].read(w, columns[i], BITS == 4 ? 8 : 0);
    codes[i] = w.codes + (BITS == 4 ? columns[i] / 2 : columns[i]) * w.groups * LANES;
    shift[i] = BITS == 4 ? columns[i] % 2 * 16 : 0;
  }
  for (int64_t g = 0; g < w.groups; g++) {
    ints q[4];
    UNROLL for (int i = 0; i < 4; i++) q[i] = load<ints>(codes[i] + g * LANES) >> shift[i];
    UNROLL for (int t = 0; t < 4; t++, panel += LANES * COLUMNS) {
      const int64_t b = g * (GROUP / BLOCK) + t / (BLOCK / LANES);
      floats made[4];
      UNROLL for (int i = 0; i < 4; i++) {
        const floats code = BITS == 4 ? to_floats((q[i] >> (4 * t)) & 15) : byte(q[i], t);
        made[i] = code * spread(steps[i].scale[b]) + spread(steps[i].least[b]);
      }
      turn_four(made, panel, COLUMNS);
    }
  }
}

template <int ROWS>
void products(const float* x, int64_t width, const float* panel, float* out, int64_t columns, int64_t count) {
  widest total[ROWS][2] = {};
  ONCE for (int64_t k = 0; k < width; k++, panel += COLUMNS) {
    const widest low = load<widest>(panel), high = load<widest>(panel + WIDTH);
    UNROLL for (int r = 0; r < ROWS; r++) total[r][0] += x[r * width + k] * low, total[r][1] += x[r * width + k] * high;
  }
  UNROLL for (int r = 0; r < ROWS; r++) {
    float* to = out + r * columns;
    if (count == COLUMNS) store(to, total[r][0]), store(to + WIDTH, total[r][1]);
    else std::copy_n(reinterpret_cast<const float*>(total[r]), count, to);
  }
}

void many(
    const float* x, int64_t rows, int64_t width, const Matrix& w, int bits, int block, int64_t from, int64_t to,
    float* panel, float* out) {
  constexpr decltype(&products<1>) WAYS[] = {
      nullptr, products<1>, products<2>, products<3>, products<4>, products<5>, products<6>, products<7>, products<8>,
      products<9>, products<10>, products<11>, products<12>};
  const auto way = bits == 4 ? (block == 64 ? unfold<4, 64> : unfold<4, 32>)
                             : (block == 64 ? unfold<8, 64> : unfold<8, 32>);
  Steps steps[4];
  for (int64_t n = from; n < to; n += COLUMNS) {
    const int64_t count = std::min<int64_t>(COLUMNS, to - n);
    for (int64_t c = n; c < n + count; c += 4) {
      const int64_t last = to - 1, some[4] = {c, std::min(c + 1, last), std::min(c + 2, last), std::min(c + 3, last)};
      way(w, some, steps, panel + c - n);
    }
    for (int64_t r = 0; r < rows; r += ABREAST)
      WAYS[std::min<int64_t>(rows - r, ABREAST)](x + r * width, width, panel, out + r * w.columns + n, w.columns, count);
  }
}

constexpr decltype(&some<1>) TILES[] = {nullptr, some<1>, some<2>, some<3>, some<4>, some<5>, some<6>};

void all(const float* x, int64_t rows, int64_t width, const Matrix& w, int bits, int block, float* out) {
  const int64_t pieces = (w.columns + PIECE - 1) / PIECE;
#pragma omp parallel if (pieces > 1)
  {
    const Room room(rows > FEW ? width * COLUMNS * sizeof(float) : 0);
#pragma omp for schedule(static)
    for (int64_t piece = 0; piece < pieces; piece++) {
      const int64_t from = piece * PIECE, to = std::min(from + PIECE, w.columns);
      if (rows > FEW) {
        many(x, rows, width, w, bits, block, from, to, static_cast<float*>(room.at), out);
        continue;
      }
      for (int64_t r = 0; r < rows; r += MOST_ROWS)
        TILES[std::min<int64_t>(rows - r, MOST_ROWS)](x + r * width, width, w, bits, block, from, to, out + r * w.columns);
    }
  }
}

Matrix matrix(
    AtenTensorHandle codes, AtenTensorHandle steps, int64_t columns, int64_t inner, int64_t block, bool symmetric) {
  const auto words = [](AtenTensorHandle t) { return reinterpret_cast<const int32_t*>(data(t)); };
  return {words(codes), words(steps), columns, (inner + GROUP - 1) / GROUP, inner / block, symmetric};
}

}  // namespace
}  // namespace dcompile

// x float32 [.., K], contiguous, times the transpose of a matrix [columns, K] in blocks: [.., columns].
extern "C" AOTITorchError aoti_torch_cpu_linear_packed(
    AtenTensorHandle x, AtenTensorHandle codes, AtenTensorHandle steps, int64_t bits, int64_t block, int64_t symmetric,
    int64_t columns, const AtenTensorHandle* live, int64_t counts, AtenTensorHandle* made) {
  using namespace dcompile;
  Shape shape(x);
  const int64_t inner = shape.sizes[shape.axes - 1], width = (inner + GROUP - 1) / GROUP * GROUP;
  float* out;
  const int64_t rows = fresh_rows(shape, columns, live, counts, made, &out);
  const Matrix w = matrix(codes, steps, columns, inner, block, symmetric);
  if (width == inner) {
    all(data(x), rows, width, w, bits, block, out);
    return AOTI_TORCH_SUCCESS;
  }
  std::vector<float> wide(rows * width, 0.0f);
  for (int64_t r = 0; r < rows; r++) std::copy_n(data(x) + r * inner, inner, wide.data() + r * width);
  all(wide.data(), rows, width, w, bits, block, out);
  return AOTI_TORCH_SUCCESS;
}

// Rows of a matrix [.., inner] in blocks by index int64 [..], contiguous: [.., inner].
extern "C" AOTITorchError aoti_torch_cpu_embed_packed(
    AtenTensorHandle codes, AtenTensorHandle steps, AtenTensorHandle index, int64_t bits, int64_t block, int64_t symmetric,
    int64_t inner, AtenTensorHandle* made) {
  using namespace dcompile;
  Shape shape(index);
  const int64_t rows = shape.count(shape.axes);
  shape.sizes[shape.axes] = inner;
  float* out = fresh(shape.axes + 1, shape.sizes, made);
  const int64_t* chosen_rows = reinterpret_cast<const int64_t*>(data(index));
  const Matrix w = matrix(codes, steps, 0, inner, block, symmetric);
  Steps read;
  for (int64_t r = 0; r < rows; r++) {
    const int64_t n = chosen_rows[r];
    read.read(w, n, bits == 4 ? 8 : 0);
    for (int64_t at = 0; at < inner; at += LANES) {
      const int64_t g = at / GROUP, b = at / block;
      const int t = at % GROUP / LANES;
      const ints q = load<ints>(w.codes + ((bits == 4 ? n / 2 : n) * w.groups + g) * LANES);
      const floats code = bits == 4 ? to_floats((q >> (16 * (n & 1) + 4 * t)) & 15) : byte(q, t);
      store(out + r * inner + at, code * read.scale[b] + read.least[b]);
    }
  }
  return AOTI_TORCH_SUCCESS;
}
