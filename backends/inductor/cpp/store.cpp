// What a loop keeps: memory of its own (`dcompile::own`, `dcompile::room`), and rows that are written into it
// (`dcompile::store`, backends/inductor/store_in_place.py); and tensors that are handed on as they are (`dcompile::pick`,
// `dcompile::after`, roll_layers.py).
#include "rooms.h"
#include "vectors.h"

#include <torch/csrc/stable/c/shim.h>

namespace dcompile {
namespace {

// Numbers that lie with `step` between them, become neighbours.
inline void copy(float* to, const float* from, int64_t count, int64_t step) {
  if (step == 1) memcpy(to, from, count * sizeof(float));
  else for (int64_t i = 0; i < count; i++) to[i] = from[i * step];
}

constexpr int64_t LITTLE = 1 << 14;  // numbers that are not worth waking a thread

}  // namespace
}  // namespace dcompile

// x float32 of at most eight axes, as it may lie: a contiguous copy.
extern "C" AOTITorchError aoti_torch_cpu_own(AtenTensorHandle x, int64_t, AtenTensorHandle* made) {
  using namespace dcompile;
  const Shape shape(x);
  const int64_t *steps = strides(x), last = shape.axes - 1;
  float* out = fresh(shape.axes, shape.sizes, made);
  const float* from = data(x);
  const int64_t rows = shape.count(last), inner = shape.sizes[last];
#pragma omp parallel for schedule(static) if (rows * inner > LITTLE)
  for (int64_t row = 0; row < rows; row++) {
    int64_t at = 0;
    for (int64_t axis = last, left = row; axis-- > 0; left /= shape.sizes[axis])
      at += left % shape.sizes[axis] * steps[axis];
    copy(out + row * inner, from + at, inner, steps[last]);
  }
  return AOTI_TORCH_SUCCESS;
}

// Zeros of this shape. Their memory must not outlive the package: no graph gives it.
extern "C" AOTITorchError aoti_torch_cpu_room(const int64_t* shape, int64_t axes, int64_t, AtenTensorHandle* made) {
  using namespace dcompile;
  int64_t steps[8], count = 1;
  for (int64_t i = axes; i-- > 0; count *= shape[i]) steps[i] = count;
  const size_t size = count * sizeof(float);
  void* memory = rooms.take(size);
  if (memory == nullptr) return AOTI_TORCH_FAILURE;
  memset(memory, 0, size);
  const auto give = [](void* memory, void* size) { rooms.give(memory, reinterpret_cast<size_t>(size)); };
  return torch_from_blob(
      memory, axes, shape, steps, 0, aoti_torch_dtype_float32(), aoti_torch_device_type_cpu(), -1, made,
      aoti_torch_layout_strided(), nullptr, 0, give, reinterpret_cast<void*>(size));
}

// cache [B, G, N, D], contiguous, rows [B, G, W, D], index int64 [B or 1, 1, W, 1]: the cache itself.
extern "C" AOTITorchError aoti_torch_cpu_store(
    AtenTensorHandle cache, AtenTensorHandle index, AtenTensorHandle rows, const AtenTensorHandle*, int64_t,
    AtenTensorHandle* made) {
  using namespace dcompile;
  const int64_t *shape = sizes(rows), *from = strides(rows), *to = strides(cache), *at = strides(index);
  const int64_t* slots = reinterpret_cast<const int64_t*>(data(index));
  const int64_t of_rows = sizes(index)[0] == 1 ? 0 : at[0];
  float* kept = const_cast<float*>(data(cache));
  const float* given = data(rows);
  for (int64_t b = 0; b < shape[0]; b++)
    for (int64_t g = 0; g < shape[1]; g++)
      for (int64_t w = 0; w < shape[2]; w++) {
        const int64_t slot = slots[b * of_rows + w * at[2]];
        copy(kept + b * to[0] + g * to[1] + slot * to[2],
             given + b * from[0] + g * from[1] + w * from[2], shape[3], from[3]);
      }
  return aoti_torch_new_tensor_handle(cache, made);
}

// The tensor itself of a number int64 [1].
extern "C" AOTITorchError aoti_torch_cpu_pick(
    AtenTensorHandle which, const AtenTensorHandle* all, int64_t, AtenTensorHandle* made) {
  return aoti_torch_new_tensor_handle(all[*reinterpret_cast<const int64_t*>(dcompile::data(which))], made);
}

// x itself.
extern "C" AOTITorchError aoti_torch_cpu_after(
    AtenTensorHandle x, const AtenTensorHandle*, int64_t, AtenTensorHandle* made) {
  return aoti_torch_new_tensor_handle(x, made);
}
