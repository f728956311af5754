// Products with matrices in blocks that round what is multiplied to eight bits, block by block (`--activations int8`).
// backends/inductor/blocks.py says how such matrices lie: sixteen columns in the lanes, four weights of each in a word.
#include "amx.h"
#include "rough.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace dcompile {
namespace {

inline ints spread(int32_t x) { return ints{} + x; }

#if defined(__AVX2__) && !defined(__AVX512VNNI__)

constexpr int MOST_ROWS = 4;  // whose sums registers can hold

// What a block of sixteen columns times rows of x is, in each lane. Two products of a byte and a code of four bits, and
// eight such pairs, fit in sixteen bits. Half of the columns at a time, one vector after the other: else a compiler reads
// all words of x first, and has no registers for them.
template <int ROWS, int BITS>
inline void multiply(const int32_t* codes, const int32_t* const (&x)[ROWS], int64_t vectors, ints (&sums)[ROWS]) {
  const __m256i fours = _mm256_set1_epi8(15), ones = _mm256_set1_epi16(1);
  ONCE for (int half = 0; half < 2; half++) {
    octet total[ROWS] = {};
    ONCE for (int64_t i = 0; i < vectors; i += 4) {
      __m256i low[ROWS] = {}, high[ROWS] = {};
      ONCE for (int64_t v = i; v < i + 4; v++) {
        const __m256i q = load<__m256i>(codes + v * LANES + half * LANES / 2);
        const __m256i a = _mm256_and_si256(q, fours), b = _mm256_and_si256(_mm256_srli_epi16(q, 4), fours);
        UNROLL for (int r = 0; r < ROWS; r++) {
          const __m256i first = _mm256_set1_epi32(x[r][BITS == 4 ? 2 * v : v]);
          const __m256i second = BITS == 4 ? _mm256_set1_epi32(x[r][2 * v + 1]) : first;
          low[r] = _mm256_add_epi16(low[r], _mm256_maddubs_epi16(a, first));
          __m256i& of_b = BITS == 4 ? low[r] : high[r];
          of_b = _mm256_add_epi16(of_b, _mm256_maddubs_epi16(b, second));
        }
      }
      UNROLL for (int r = 0; r < ROWS; r++) {
        if (BITS == 8) total[r] += reinterpret_cast<octet>(_mm256_madd_epi16(high[r], ones)) << 4;
        total[r] += reinterpret_cast<octet>(_mm256_madd_epi16(low[r], ones));
      }
    }
    UNROLL for (int r = 0; r < ROWS; r++) store(reinterpret_cast<char*>(&sums[r]) + half * sizeof(octet), total[r]);
  }
}

#else

constexpr int MOST_ROWS = 8;

// Four products of bytes a lane, of `u` unsigned and of `s` signed, added to the sums.
inline ints dot(ints total, ints u, ints s) {
#if defined(__AVX512VNNI__)
  return reinterpret_cast<ints>(_mm512_dpbusd_epi32(
      reinterpret_cast<__m512i>(total), reinterpret_cast<__m512i>(u), reinterpret_cast<__m512i>(s)));
#else
  UNROLL for (int c = 0; c < 4; c++) total += ((u >> (8 * c)) & 255) * ((s << (24 - 8 * c)) >> 24);
  return total;
#endif
}

// What a block of sixteen columns times rows of x is, in each lane.
template <int ROWS, int BITS>
inline void multiply(const int32_t* codes, const int32_t* const (&x)[ROWS], int64_t vectors, ints (&sums)[ROWS]) {
  constexpr int APART = ROWS == 1 ? 4 : 1;  // sums that do not wait for each other
  ints total[ROWS][APART] = {};
  for (int64_t i = 0; i < vectors; i += 4) {
    UNROLL for (int v = 0; v < 4; v++) {
      const ints q = load<ints>(codes + (i + v) * LANES);
      const ints low = q & 0x0f0f0f0f, high = (q >> 4) & 0x0f0f0f0f;
      UNROLL for (int r = 0; r < ROWS; r++) {
        ints& sum = total[r][v % APART];
        const int32_t* at = x[r] + (BITS == 4 ? 2 : 1) * (i + v);
        if (BITS == 4) sum = dot(dot(sum, low, spread(at[0])), high, spread(at[1]));
        else sum = dot(sum, q, spread(at[0]));
      }
    }
  }
  UNROLL for (int r = 0; r < ROWS; r++) {
    sums[r] = total[r][0];
    UNROLL for (int a = 1; a < APART; a++) sums[r] += total[r][a];
  }
}

#endif

// One tile of sixteen columns, some rows. Sums of whole numbers have no order.
template <int ROWS, int BITS>
void tile(const Rounded& x, int64_t row, const Tiles& w, int64_t t, float* out) {
  const int64_t vectors = w.block * BITS / 32, words = w.block / 4;
  const int32_t* codes = w.codes + t * w.blocks * vectors * LANES;
  const int32_t* xs[ROWS];
  UNROLL for (int r = 0; r < ROWS; r++) xs[r] = x.words + (row + r) * w.blocks * words;
  floats total[ROWS] = {};
  for (int64_t b = 0; b < w.blocks; b++, codes += vectors * LANES) {
    ints sums[ROWS];
    multiply<ROWS, BITS>(codes, xs, vectors, sums);
    floats scale, least;
    w.read(t, b, 1 << (BITS - 1), scale, least);
    UNROLL for (int r = 0; r < ROWS; r++) {
      const int64_t at = (row + r) * w.blocks + b;
      total[r] += weighed(sums[r], scale, least, x.scales[at], x.sums[at]);
      xs[r] += words;
    }
  }
  for (int r = 0; r < ROWS; r++) put(total[r], out, row + r, w, t);
}

template <int BITS>
void all(const Rounded& x, int64_t rows, const Tiles& w, float* out) {
  constexpr decltype(&tile<1, BITS>) WAYS[] = {nullptr, tile<1, BITS>, tile<2, BITS>, tile<3, BITS>, tile<4, BITS>,
                                               tile<5, BITS>, tile<6, BITS>, tile<7, BITS>, tile<8, BITS>};
  const int64_t tiles = (w.columns + LANES - 1) / LANES;
#pragma omp parallel for schedule(static) if (tiles > 2)
  for (int64_t t = 0; t < tiles; t++)
    for (int64_t r = 0; r < rows; r += MOST_ROWS) {
      const int64_t some = std::min<int64_t>(rows - r, MOST_ROWS);
      WAYS[some](x, r, w, t, out);
    }
}

// As `all`, up to 32 rows at a time.
template <int BITS>
void all_by_amx(const Rounded& x, int64_t rows, const Tiles& w, float* out) {
  const int64_t tiles = (w.columns + LANES - 1) / LANES;
#pragma omp parallel if (tiles > 2)
  {
    const Amx unit(w.block);
#pragma omp for schedule(static)
    for (int64_t t = 0; t < tiles; t++)
      for (int64_t r = 0; r < rows; r += 32) {
        if (rows - r > 16) unit.multiply<BITS, 2>(x, r, std::min<int64_t>(rows - r, 32), w, t, out);
        else unit.multiply<BITS, 1>(x, r, rows - r, w, t, out);
      }
  }
}

const int32_t* words(AtenTensorHandle t) { return reinterpret_cast<const int32_t*>(data(t)); }

}  // namespace
}  // namespace dcompile

// x float32 [.., K], contiguous, rounded, times the transpose of a matrix [columns, K] in blocks: [.., columns].
extern "C" AOTITorchError aoti_torch_cpu_linear_rough(
    AtenTensorHandle x, AtenTensorHandle codes, AtenTensorHandle steps, int64_t bits, int64_t block, int64_t symmetric,
    int64_t columns, const AtenTensorHandle* live, int64_t counts, AtenTensorHandle* made) {
  using namespace dcompile;
  Shape shape(x);
  const int64_t inner = shape.sizes[shape.axes - 1];
  float* out;
  const int64_t rows = fresh_rows(shape, columns, live, counts, made, &out);
  const bool amx = rows > 8 && Amx::usable(block);
  const Rounded rounded(data(x), rows, amx ? (rows + LANES - 1) / LANES * LANES : rows, inner, block);
  const Tiles w{words(codes), words(steps), columns, inner / block, block, symmetric != 0};
  const auto way = amx ? (bits == 4 ? all_by_amx<4> : all_by_amx<8>) : (bits == 4 ? all<4> : all<8>);
  way(rounded, rows, w, out);
  return AOTI_TORCH_SUCCESS;
}

// Rows of such a matrix [.., inner] by index int64 [..], contiguous: [.., inner].
extern "C" AOTITorchError aoti_torch_cpu_embed_rough(
    AtenTensorHandle codes, AtenTensorHandle steps, AtenTensorHandle index, int64_t bits, int64_t block, int64_t symmetric,
    int64_t inner, AtenTensorHandle* made) {
  using namespace dcompile;
  Shape shape(index);
  const int64_t rows = shape.count(shape.axes);
  shape.sizes[shape.axes] = inner;
  float* out = fresh(shape.axes + 1, shape.sizes, made);
  const int64_t* wanted = reinterpret_cast<const int64_t*>(data(index));
  const uint8_t* bytes = reinterpret_cast<const uint8_t*>(words(codes));
  const Tiles w{words(codes), words(steps), 0, inner / block, block, symmetric != 0};
  const int64_t blocks = w.blocks, width = block * bits / 8;  // bytes of a column in a block
  for (int64_t r = 0; r < rows; r++) {
    const int64_t t = wanted[r] / LANES, lane = wanted[r] % LANES;
    for (int64_t b = 0; b < blocks; b++) {
      floats scale, least;
      w.read(t, b, 1 << (bits - 1), scale, least);
      const uint8_t* from = bytes + (t * blocks + b) * width * LANES + lane * 4;
      for (int64_t k = 0; k < block; k++) {
        const int64_t word = bits == 4 ? k / 8 : k / 4;
        const int q = from[word * 4 * LANES + k % 4] >> (bits == 4 ? k % 8 / 4 * 4 : 0) & (bits == 4 ? 15 : 255);
        out[r * inner + b * block + k] = q * scale[lane] + least[lane];
      }
    }
  }
  return AOTI_TORCH_SUCCESS;
}
