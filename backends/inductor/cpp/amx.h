// The unit of some processors for products of tiles of bytes: sixteen rows by sixteen columns at once (AMX).
#pragma once

#include "rough.h"

#if defined(__AMX_INT8__) && defined(__linux__)
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace dcompile {

class Amx {
 public:
  // Whether the system lets this process use it.
  static bool usable(int64_t block) {
    constexpr int REQUEST_PERMISSION = 0x1023, TILE_DATA = 18;  // arch_prctl(2)
    static const bool allowed = syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
    return allowed && block <= 64;
  }

  // For this thread, as long as it lives: sums in tile 0, rows of x in 1, columns in 2, a block at a time.
  explicit Amx(int64_t block) {
    struct {
      uint8_t palette = 1, start = 0, none[14] = {};
      uint16_t bytes[16] = {};
      uint8_t rows[16] = {};
    } shape;
    for (int i = 0; i < 3; i++) shape.bytes[i] = 64, shape.rows[i] = 16;
    shape.bytes[1] = block, shape.rows[2] = block / 4;
    static_assert(sizeof shape == 64);
    _tile_loadconfig(&shape);
  }
  Amx(const Amx&) = delete;
  ~Amx() { _tile_release(); }

  // Up to sixteen rows for each of GROUPS, of which x has room for all, by the sixteen columns of a tile. What a block
  // needs is made ready while the unit works on the one before, and summed up while it works on the next.
  template <int BITS, int GROUPS>
  void multiply(const Rounded& x, int64_t row, int64_t rows, const Tiles& w, int64_t tile, float* out) const {
    alignas(64) int32_t sums[2][GROUPS][16 * LANES], wide[2][16 * LANES];
    const int64_t words = w.block * BITS / 32 * LANES, inner = w.blocks * w.block;
    const int32_t* codes = w.codes + tile * w.blocks * words;
    const int8_t* from = reinterpret_cast<const int8_t*>(x.words) + row * inner;
    floats total[GROUPS * 16] = {};
    if (BITS == 4) widen(codes, words, wide[0]);
    for (int64_t b = 0; b <= w.blocks; b++) {
      if (BITS == 4 && b + 1 < w.blocks) widen(codes + (b + 1) * words, words, wide[(b + 1) & 1]);
      if (b < w.blocks) {
        asm volatile("" ::: "memory");  // what follows reads what was stored, and does not say so
        _tile_loadd(2, BITS == 4 ? wide[b & 1] : codes + b * words, 64);
        one(from + b * w.block, inner, sums[b & 1][0]);
        if (GROUPS > 1) one(from + b * w.block + 16 * inner, inner, sums[b & 1][GROUPS - 1]);
      }
      if (b == 0) continue;
      floats scale, least;
      w.read(tile, b - 1, 1 << (BITS - 1), scale, least);
      const float *scales = x.scales.data() + row * w.blocks + b - 1, *x_sums = x.sums.data() + row * w.blocks + b - 1;
      const int32_t* done = sums[(b - 1) & 1][0];
      UNROLL for (int r = 0; r < GROUPS * 16; r++)
        total[r] += weighed(load<ints>(done + r * LANES), scale, least, scales[r * w.blocks], x_sums[r * w.blocks]);
    }
    for (int64_t r = 0; r < rows; r++) put(total[r], out, row + r, w, tile);
  }

 private:
  // Half bytes become bytes.
  static void widen(const int32_t* codes, int64_t words, int32_t* wide) {
    for (int64_t at = 0; at < words; at += LANES) {
      const ints q = load<ints>(codes + at);
      store(wide + 2 * at, q & 0x0f0f0f0f);
      store(wide + 2 * at + LANES, (q >> 4) & 0x0f0f0f0f);
    }
  }

  // Sixteen rows of x by what lies in tile 2.
  static void one(const int8_t* x, int64_t inner, int32_t* sums) {
    _tile_loadd(1, x, inner);
    _tile_zero(0);
    _tile_dpbsud(0, 1, 2);
    _tile_stored(0, sums, 64);
  }
};

}  // namespace dcompile
#else
namespace dcompile {

struct Amx {
  static bool usable(int64_t) { return false; }
  explicit Amx(int64_t) {}
  template <int BITS, int GROUPS>
  void multiply(const Rounded&, int64_t, int64_t, const Tiles&, int64_t, float*) const {}
};

}  // namespace dcompile
#endif
