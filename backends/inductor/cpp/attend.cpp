// Attention over keys and values in several parts, as if they were one (`dcompile::attend`). Slots that no row may see
// are not read, so that a step costs what is stored, not what there is room for.
#include "vectors.h"

#include <algorithm>
#include <vector>

namespace dcompile {
namespace {

constexpr float HIDDEN = -1.0e38f;  // a bias below this hides a slot
constexpr int64_t FEW = 8;          // rows that are scored one by one

struct Part {
  const float *k, *v, *bias;
  int64_t slots, k_steps[4], v_steps[4], bias_steps[4];
};

struct Slot {
  int part;
  int64_t at;
  float bias;
};

inline float dot(const float* a, const float* b, int64_t dim) {
  floats total[2] = {};
  int64_t i = 0;
  for (; i + 2 * LANES <= dim; i += 2 * LANES) {
    total[0] += load<floats>(a + i) * load<floats>(b + i);
    total[1] += load<floats>(a + i + LANES) * load<floats>(b + i + LANES);
  }
  float rest = 0;
  for (; i < dim; i++) rest += a[i] * b[i];
  return sum(total[0] + total[1]) + rest;
}

inline void add(float* out, float weight, const float* v, int64_t dim) {
  int64_t i = 0;
  for (; i + LANES <= dim; i += LANES) store(out + i, load<floats>(out + i) + weight * load<floats>(v + i));
  for (; i < dim; i++) out[i] += weight * v[i];
}

// Scores become weights; returns one over their sum.
float soften(float* scores, int64_t count) {
  const int64_t whole = (count + LANES - 1) / LANES * LANES;
  std::fill(scores + count, scores + whole, -3.0e38f);
  floats most = load<floats>(scores), total = {};
  for (int64_t i = LANES; i < whole; i += LANES) {
    const floats next = load<floats>(scores + i);
    most = next > most ? next : most;
  }
  float top = most[0];
  for (int i = 1; i < LANES; i++) top = std::max(top, most[i]);
  for (int64_t i = 0; i < whole; i += LANES) {
    const floats weight = exp(load<floats>(scores + i) - top);
    store(scores + i, weight);
    total += weight;
  }
  for (int64_t i = count; i < whole; i++) total[i % LANES] -= scores[i];
  return 1 / sum(total);
}

struct Attention {
  std::vector<Part> parts;
  const float* q;
  const int64_t* q_steps;
  int64_t batch, heads, width, dim, shared;
  float scale;
  float* out;
  std::vector<std::vector<Slot>> seen;  // of each row of a batch and of width: what it may see; all, where that is none

  void look() {
    seen.resize(batch * width);
#pragma omp parallel for if (batch * width > 4)
    for (int64_t row = 0; row < batch * width; row++) {
      collect(row, HIDDEN);
      if (seen[row].empty()) collect(row, -__builtin_inff());
    }
  }

  void collect(int64_t row, float above) {
    for (int p = 0; p < static_cast<int>(parts.size()); p++) {
      const Part& part = parts[p];
      const float* bias = part.bias + row / width * part.bias_steps[0] + row % width * part.bias_steps[2];
      for (int64_t n = 0; n < part.slots; n++)
        if (bias[n * part.bias_steps[3]] > above) seen[row].push_back({p, n, bias[n * part.bias_steps[3]]});
    }
  }

  // One row of one head.
  void attend(int64_t b, int64_t h, int64_t w, float* scores, float* query) const {
    const std::vector<Slot>& slots = seen[b * width + w];
    const float* row = q + b * q_steps[0] + h * q_steps[1] + w * q_steps[2];
    for (int64_t i = 0; i < dim; i++) query[i] = row[i * q_steps[3]] * scale;
    const int64_t g = h / shared, count = slots.size();
    for (int64_t i = 0; i < count; i++) {
      const Part& part = parts[slots[i].part];
      const float* key = part.k + b * part.k_steps[0] + g * part.k_steps[1] + slots[i].at * part.k_steps[2];
      scores[i] = dot(query, key, dim) + slots[i].bias;
    }
    const float share = soften(scores, count);
    float* result = out + ((b * heads + h) * width + w) * dim;
    std::fill(result, result + dim, 0.0f);
    for (int64_t i = 0; i < count; i++) {
      const Part& part = parts[slots[i].part];
      add(result, scores[i] * share, part.v + b * part.v_steps[0] + g * part.v_steps[1] + slots[i].at * part.v_steps[2],
          dim);
    }
  }

  void run() {
    look();
    int64_t most = 0;
    for (const auto& slots : seen) most = std::max<int64_t>(most, slots.size());
#pragma omp parallel
    {
      std::vector<float> scores(most + LANES), query(dim);
#pragma omp for schedule(static) collapse(3)
      for (int64_t b = 0; b < batch; b++)
        for (int64_t h = 0; h < heads; h++)
          for (int64_t w = 0; w < width; w++) attend(b, h, w, scores.data(), query.data());
    }
  }
};

Part part(AtenTensorHandle k, AtenTensorHandle v, AtenTensorHandle bias) {
  Part made{data(k), data(v), data(bias), sizes(k)[2], {}, {}, {}};
  std::copy_n(strides(k), 4, made.k_steps);
  std::copy_n(strides(v), 4, made.v_steps);
  std::copy_n(strides(bias), 4, made.bias_steps);
  for (int i = 0; i < 4; i++)
    if (sizes(bias)[i] == 1) made.bias_steps[i] = 0;
  return made;
}

}  // namespace
}  // namespace dcompile

// q [B, H, W, D]; of each part k and v [B, G, N, D], whose last axis is contiguous, and bias [B, 1, W, N].
extern "C" AOTITorchError aoti_torch_cpu_attend(
    AtenTensorHandle q, const AtenTensorHandle* k, int64_t k_count, const AtenTensorHandle* v, int64_t v_count,
    const AtenTensorHandle* bias, int64_t bias_count, double scale, AtenTensorHandle* made) {
  using namespace dcompile;
  const int64_t* shape = sizes(q);
  Attention all;
  for (int64_t i = 0; i < k_count; i++) all.parts.push_back(part(k[i], v[i], bias[i]));
  all.q = data(q), all.q_steps = strides(q);
  all.batch = shape[0], all.heads = shape[1], all.width = shape[2], all.dim = shape[3];
  all.shared = all.heads / sizes(k[0])[1];
  all.scale = scale;
  all.out = fresh(4, shape, made);
  all.run();
  return AOTI_TORCH_SUCCESS;
}
