// Attention over keys and values in several parts, as if they were one (`dcompile::attend`). Slots that no row may see
// are not read, so that a step costs what is stored, not what there is room for.
#include "attend_many.h"

namespace dcompile {
namespace {

// A row of q times four keys. The sums of a key do not depend on those beside it.
inline four dots(const float* q, const float* const* keys, int64_t dim) {
  floats total[4] = {};
  int64_t i = 0;
  for (; i + LANES <= dim; i += LANES) {
    const floats x = load<floats>(q + i);
    UNROLL for (int k = 0; k < 4; k++) total[k] += x * load<floats>(keys[k] + i);
  }
  four found = sums(total[0], total[1], total[2], total[3]);
  for (; i < dim; i++) found += q[i] * four{keys[0][i], keys[1][i], keys[2][i], keys[3][i]};
  return found;
}

// One row after the other.
struct Few {
  const Attention& of;

  // One row of one head.
  void attend(int64_t b, int64_t h, int64_t w, float* scores, float* query) const {
    const std::vector<Run>& runs = of.seen[b * of.width + w];
    const float* row = of.q + b * of.q_steps[0] + h * of.q_steps[1] + w * of.q_steps[2];
    for (int64_t i = 0; i < of.dim; i++) query[i] = row[i * of.q_steps[3]] * of.scale;
    const int64_t g = h / of.shared;
    int64_t count = 0;
    for (const Run& run : runs)
      count = score(run, of.parts[run.part].keys(b, g), of.bias_of(run.part, b, w), query, scores, count);
    const float share = soften(scores, count);
    for (int64_t i = 0; i < count; i++) scores[i] *= share;
    float* result = of.out + ((b * of.heads + h) * of.width + w) * of.dim;
    int64_t d = 0;
    for (; d + 4 * LANES <= of.dim; d += 4 * LANES) gather<4>(runs, b, g, d, scores, result);
    for (; d + LANES <= of.dim; d += LANES) gather<1>(runs, b, g, d, scores, result);
    for (; d < of.dim; d++) {
      const float* weight = scores;
      result[d] = 0;
      for (const Run& run : runs)
        for (int64_t n = run.from; n < run.to; n++) result[d] += *weight++ * of.parts[run.part].values(b, g, n)[d];
    }
  }

  int64_t score(const Run& run, const float* k, const float* bias, const float* query, float* scores, int64_t at) const {
    const Part& part = of.parts[run.part];
    for (int64_t n = run.from; n < run.to; n += 4) {
      const float* keys[4];
      for (int64_t i = 0; i < 4; i++) keys[i] = k + std::min(n + i, run.to - 1) * part.k_steps[2];
      const four found = dots(query, keys, of.dim);
      for (int64_t i = 0; i < std::min<int64_t>(4, run.to - n); i++)
        scores[at++] = found[i] + bias[(n + i) * part.bias_steps[3]];
    }
    return at;
  }

  // The weighed sum of values, of so many vectors of their numbers from d on.
  template <int VECTORS>
  void gather(const std::vector<Run>& runs, int64_t b, int64_t g, int64_t d, const float* weight, float* result) const {
    floats even[VECTORS] = {}, odd[VECTORS] = {};
    for (const Run& run : runs) {
      const int64_t step = of.parts[run.part].v_steps[2];
      const float* v = of.parts[run.part].values(b, g, run.from) + d;
      int64_t n = run.from;
      for (; n + 2 <= run.to; n += 2, weight += 2, v += 2 * step)
        UNROLL for (int j = 0; j < VECTORS; j++) {
          even[j] += weight[0] * load<floats>(v + j * LANES);
          odd[j] += weight[1] * load<floats>(v + step + j * LANES);
        }
      if (n < run.to) {
        UNROLL for (int j = 0; j < VECTORS; j++) even[j] += weight[0] * load<floats>(v + j * LANES);
        weight++;
      }
    }
    UNROLL for (int j = 0; j < VECTORS; j++) store(result + d + j * LANES, even[j] + odd[j]);
  }

  void run() const {
    int64_t most = 0;
    for (const auto& part : of.parts) most += part.slots;
#pragma omp parallel
    {
      std::vector<float> scores(most + LANES), query(of.dim);
#pragma omp for schedule(static) collapse(3)
      for (int64_t b = 0; b < of.batch; b++)
        for (int64_t h = 0; h < of.heads; h++)
          for (int64_t w = 0; w < of.width; w++) attend(b, h, w, scores.data(), query.data());
    }
  }
};

bool contiguous(AtenTensorHandle t) { return strides(t)[3] == 1 || sizes(t)[3] == 1; }

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
  for (int64_t i = 0; i < k_count; i++)
    if (!contiguous(k[i]) || !contiguous(v[i])) return AOTI_TORCH_FAILURE;
  for (int64_t i = 0; i < k_count; i++) all.parts.push_back(part(k[i], v[i], bias[i]));
  all.q = data(q), all.q_steps = strides(q);
  all.batch = shape[0], all.heads = shape[1], all.width = shape[2], all.dim = shape[3];
  all.shared = all.heads / sizes(k[0])[1];
  all.scale = scale;
  all.out = fresh(4, shape, made);
  all.look();
  all.tell_cost();
  if (all.width > FEW) Many(all).run();
  else Few{all}.run();
  return AOTI_TORCH_SUCCESS;
}
