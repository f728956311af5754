// Sixteen lanes at a time, in the vector extensions of GCC and Clang: compiled for the machine that builds.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include <torch/csrc/inductor/aoti_torch/c/shim.h>

#define UNROLL _Pragma("GCC unroll 16")
#define ONCE _Pragma("GCC unroll 1")

// Four lanes out of two vectors of four.
#if defined(__clang__)
#define MIX(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define MIX(a, b, ...) __builtin_shuffle(a, b, (quads){__VA_ARGS__})
#endif

namespace dcompile {

constexpr int LANES = 16;
constexpr int64_t FEW = 8;  // up to so many rows have their sums made in one order, however many they are

// Two vectors as one: a compiler keeps what is wider than the machine's own vectors in memory, not in registers.
template <class H, class T>
struct Two {
  static constexpr int HALF = sizeof(H) / sizeof(T);

  H low, high;

  T operator[](int i) const { return i < HALF ? low[i] : high[i - HALF]; }
  Two& operator+=(Two other) { return *this = *this + other; }

#define BOTH(op)                                                                            \
  friend Two operator op(Two a, Two b) { return {a.low op b.low, a.high op b.high}; }       \
  friend Two operator op(Two a, T b) { return {a.low op b, a.high op b}; }                  \
  friend Two operator op(T a, Two b) { return {a op b.low, a op b.high}; }
  BOTH(+) BOTH(-) BOTH(*) BOTH(&) BOTH(|) BOTH(<<) BOTH(>>)
#undef BOTH
};

typedef float four __attribute__((vector_size(16)));
typedef int32_t quads __attribute__((vector_size(16)));

#if defined(__AVX__)
typedef float eight __attribute__((vector_size(32)));
typedef int32_t octet __attribute__((vector_size(32)));
#else
typedef Two<four, float> eight;
typedef Two<quads, int32_t> octet;
#endif

#if defined(__AVX512F__)
typedef float floats __attribute__((vector_size(64)));
typedef int32_t ints __attribute__((vector_size(64)));
typedef floats widest;  // that one register holds
#else
#if defined(__AVX__)
typedef eight widest;
#else
typedef four widest;
#endif
typedef Two<eight, float> floats;
typedef Two<octet, int32_t> ints;
#endif

// Half by half, too: as one piece they would go by way of memory.
template <class V>
inline V load(const void* from) {
  if constexpr (requires(V v) { v.low; }) {
    typedef decltype(V::low) Half;
    return {load<Half>(from), load<Half>(static_cast<const char*>(from) + sizeof(Half))};
  } else {
    V v;
    memcpy(&v, from, sizeof v);
    return v;
  }
}

template <class V>
inline void store(void* to, V v) {
  if constexpr (requires { v.low; }) {
    store(to, v.low);
    store(static_cast<char*>(to) + sizeof v.low, v.high);
  } else {
    memcpy(to, &v, sizeof v);
  }
}

// The same bits.
template <class To, class From>
inline To seen_as(From v) {
  if constexpr (requires { v.low; }) return {seen_as<decltype(To::low)>(v.low), seen_as<decltype(To::high)>(v.high)};
  else return reinterpret_cast<To>(v);
}

inline floats as_floats(ints bits) { return seen_as<floats>(bits); }

inline ints as_ints(floats bits) { return seen_as<ints>(bits); }

// Lane by lane, of a vector of the machine's or of halves.
template <class To, class From>
inline To turned(From v) {
  if constexpr (requires { v.low; }) return {turned<decltype(To::low)>(v.low), turned<decltype(To::high)>(v.high)};
  else return __builtin_convertvector(v, To);
}

inline floats to_floats(ints v) { return turned<floats>(v); }

template <class V, class T>
inline auto above(V v, T than) {
  if constexpr (requires { v.low; }) {
    const auto low = above(v.low, than), high = above(v.high, than);
    return Two<std::remove_const_t<decltype(low)>, int32_t>{low, high};
  } else {
    return v > than;
  }
}

template <class V>
inline V larger(V a, V b) {
  if constexpr (requires { a.low; }) return {larger(a.low, b.low), larger(a.high, b.high)};
  else return a > b ? a : b;
}

inline floats spread(float x) { return x - floats{}; }  // what compilers know to be x

inline float largest(floats v) {
  float most = v[0];
  for (int i = 1; i < LANES; i++) most = v[i] > most ? v[i] : most;
  return most;
}

inline four fold(floats v) {
#if defined(__AVX512F__)
  const eight h = load<eight>(&v) + load<eight>(reinterpret_cast<const char*>(&v) + sizeof(eight));
#else
  const eight h = v.low + v.high;
#endif
#if defined(__AVX__)
  return load<four>(&h) + load<four>(reinterpret_cast<const char*>(&h) + sizeof(four));
#else
  return h.low + h.high;
#endif
}

// The sums over the lanes of four vectors.
inline four sums(floats u, floats v, floats w, floats x) {
  const four a = fold(u), b = fold(v), c = fold(w), d = fold(x);
  const four ab = MIX(a, b, 0, 4, 2, 6) + MIX(a, b, 1, 5, 3, 7);
  const four cd = MIX(c, d, 0, 4, 2, 6) + MIX(c, d, 1, 5, 3, 7);
  return MIX(ab, cd, 0, 1, 4, 5) + MIX(ab, cd, 2, 3, 6, 7);
}

// Four vectors, `step` apart, become four of their first numbers, second, and so on.
inline void turn_four(const float* from, int64_t step, float* to, int64_t to_step) {
  const four a = load<four>(from), b = load<four>(from + step);
  const four c = load<four>(from + 2 * step), d = load<four>(from + 3 * step);
  const four ab = MIX(a, b, 0, 4, 1, 5), cd = MIX(c, d, 0, 4, 1, 5);
  store(to, MIX(ab, cd, 0, 1, 4, 5));
  store(to + to_step, MIX(ab, cd, 2, 3, 6, 7));
  const four ab_high = MIX(a, b, 2, 6, 3, 7), cd_high = MIX(c, d, 2, 6, 3, 7);
  store(to + 2 * to_step, MIX(ab_high, cd_high, 0, 1, 4, 5));
  store(to + 3 * to_step, MIX(ab_high, cd_high, 2, 3, 6, 7));
}

inline void turn_four(const floats (&from)[4], float* to, int64_t step) {
#if defined(__AVX512F__) && !defined(__clang__)
  const auto mixed = [](floats a, floats b, quads lanes) {  // of each four lanes
    ints all;
    for (int i = 0; i < LANES; i++) all[i] = lanes[i % 4] % 4 + i / 4 * 4 + lanes[i % 4] / 4 * LANES;
    return __builtin_shuffle(a, b, all);
  };
  const floats ab = mixed(from[0], from[1], quads{0, 4, 1, 5}), cd = mixed(from[2], from[3], quads{0, 4, 1, 5});
  const floats ab_high = mixed(from[0], from[1], quads{2, 6, 3, 7}), cd_high = mixed(from[2], from[3], quads{2, 6, 3, 7});
  const floats made[4] = {
      mixed(ab, cd, quads{0, 1, 4, 5}), mixed(ab, cd, quads{2, 3, 6, 7}), mixed(ab_high, cd_high, quads{0, 1, 4, 5}),
      mixed(ab_high, cd_high, quads{2, 3, 6, 7})};
  UNROLL for (int i = 0; i < LANES; i++)
    store(to + i * step, load<four>(reinterpret_cast<const float*>(&made[i % 4]) + i / 4 * 4));
#else
  alignas(64) float rows[4 * LANES];
  for (int i = 0; i < 4; i++) store(rows + i * LANES, from[i]);
  for (int i = 0; i < LANES; i += 4) turn_four(rows + i, LANES, to + i * step, step);
#endif
}

inline float sum(floats v) {
  const four q = fold(v);
  return (q[0] + q[1]) + (q[2] + q[3]);
}

// The float16 in the lower half of each lane: 2^112 is between the two exponents' middles, and lifts subnormals too.
inline floats from_half(ints h) { return as_floats(((h & 0x7fff) << 13) | ((h & 0x8000) << 16)) * 0x1p112f; }

// e to the x, for x of at most 0, to one or two last places; 0 below -87.
inline floats exp(floats x) {
  const floats shifted = x * 1.44269504f + 12582912.0f;  // rounds to the nearest whole number
  const floats n = shifted - 12582912.0f;
  const floats r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  floats p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const floats raised = as_floats(as_ints(p) + (as_ints(shifted) << 23));
  return as_floats(as_ints(raised) & above(x, -87.0f));
}

inline const float* data(AtenTensorHandle tensor) {
  void* at;
  aoti_torch_get_data_ptr(tensor, &at);
  return static_cast<const float*>(at);
}

inline const int64_t* sizes(AtenTensorHandle tensor) {
  int64_t* at;
  aoti_torch_get_sizes(tensor, &at);
  return at;
}

inline const int64_t* strides(AtenTensorHandle tensor) {
  int64_t* at;
  aoti_torch_get_strides(tensor, &at);
  return at;
}

// The axes of a tensor, with room for one more.
struct Shape {
  int64_t axes, sizes[8];

  explicit Shape(AtenTensorHandle tensor) {
    aoti_torch_get_dim(tensor, &axes);
    memcpy(sizes, dcompile::sizes(tensor), axes * sizeof(int64_t));
  }

  int64_t count(int64_t upto) const {
    int64_t n = 1;
    for (int64_t i = 0; i < upto; i++) n *= sizes[i];
    return n;
  }
};

// A new float32 tensor of up to eight axes, and where its numbers lie.
inline float* fresh(int64_t axes, const int64_t* shape, AtenTensorHandle* made) {
  int64_t steps[8];
  int64_t step = 1;
  for (int64_t i = axes; i-- > 0; step *= shape[i]) steps[i] = step;
  aoti_torch_empty_strided(axes, shape, steps, aoti_torch_dtype_float32(), aoti_torch_device_type_cpu(), 0, made);
  return const_cast<float*>(data(*made));
}

// A new tensor for the rows of one of this shape times a matrix. How many rows hold something: all, or as many as `live`
// says.
inline int64_t fresh_rows(
    Shape shape, int64_t columns, const AtenTensorHandle* live, int64_t counts, AtenTensorHandle* made, float** out) {
  const int64_t last = shape.axes - 1, rows = shape.count(last);
  shape.sizes[last] = columns;
  *out = fresh(shape.axes, shape.sizes, made);
  if (counts == 0) return rows;
  return std::clamp<int64_t>(*reinterpret_cast<const int64_t*>(data(live[0])), 0, rows);
}

}  // namespace dcompile
