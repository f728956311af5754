// Runs a `tvm` artifact (batch 1, greedy) from C++, with TVM's runtime and nothing else:
//     run ARTIFACT 1,2,3 [NEW_TOKENS] [LIBRARY]
// prints the answer's tokens. LIBRARY: where the artifact holds C source, what was compiled of it.
// The host's part of every strategy is the loop at the end of `main`; docs/artifact.md says what the inputs are.
#include <tvm/ffi/container/array.h>
#include <tvm/ffi/container/tensor.h>
#include <tvm/ffi/extra/json.h>
#include <tvm/ffi/extra/module.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

namespace ffi = tvm::ffi;
using ffi::Tensor, ffi::json::Array, ffi::json::Object, ffi::json::Value;
using State = std::map<std::string, Tensor>;

struct Memory {  // where tensors of the host lie; compiled code asks for 64 bytes
  void AllocData(DLTensor* t) { t->data = std::aligned_alloc(64, (ffi::GetDataSize(*t) + 64) / 64 * 64); }
  void FreeData(DLTensor* t) { std::free(t->data); }
};

std::string read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot read " + path);
  return {std::istreambuf_iterator<char>(file), {}};
}

Value at(const Value& object, const char* key) { return object.cast<Object>()[ffi::String(key)]; }
std::string text(const Value& value) { return std::string(value.cast<ffi::String>()); }
Array list(const Value& value) { return value.cast<Array>(); }

Tensor tensor(const Value& shape, const std::string& dtype) {
  std::vector<int64_t> sizes;
  for (const Value& size : list(shape)) sizes.push_back(size.cast<int64_t>());
  Tensor made = Tensor::FromNDAlloc(Memory(), ffi::Shape(sizes), ffi::StringToDLDataType(dtype), {kDLCPU, 0});
  std::memset(made.data_ptr(), 0, ffi::GetDataSize(made));
  return made;
}

State weights(const std::string& path) {  // a .safetensors file: the length of a header, the header, the bytes
  static const std::map<std::string, std::string> dtypes = {
      {"F32", "float32"}, {"F16", "float16"}, {"I64", "int64"}, {"I32", "int32"}, {"U8", "uint8"}, {"BOOL", "bool"}};
  std::string bytes = read(path);
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), 8);
  State found;
  for (const auto& [name, entry] : ffi::json::Parse(bytes.substr(8, length)).cast<Object>()) {
    if (text(name) == "__metadata__") continue;
    Tensor made = tensor(at(entry, "shape"), dtypes.at(text(at(entry, "dtype"))));
    int64_t start = list(at(entry, "data_offsets"))[0].cast<int64_t>();
    std::memcpy(made.data_ptr(), bytes.data() + 8 + length + start, ffi::GetDataSize(made));
    found.insert_or_assign(text(name), made);
  }
  return found;
}

template <typename T>
void fill(State& state, const char* name, size_t from, const std::vector<T>& values) {
  if (auto place = state.find(name); place != state.end())
    std::copy(values.begin(), values.end(), static_cast<T*>(place->second.data_ptr()) + from);
}

int main(int count, char** given) try {
  if (count < 3) throw std::runtime_error("usage: run ARTIFACT 1,2,3 [NEW_TOKENS] [LIBRARY]");
  std::string folder = std::string(given[1]) + "/";
  std::vector<int64_t> prompt;
  std::istringstream ids(given[2]);
  for (std::string id; std::getline(ids, id, ',');) prompt.push_back(std::stoll(id));
  Value manifest = ffi::json::Parse(read(folder + "manifest.json"));
  Value signatures = ffi::json::Parse(read(folder + "graphs.json"));
  Array graphs = list(at(manifest, "graphs"));

  ffi::Module library = ffi::Module::LoadFromFile(count > 4 ? given[4] : folder + text(at(graphs[0], "file")));
  ffi::Module machine = library->GetFunction("vm_load_executable").value()().cast<ffi::Module>();
  machine->GetFunction("vm_initialization").value()(int(kDLCPU), 0, 2);  // one processor, its memory in a pool
  State held = weights(folder + "weights.safetensors");

  State state;  // what any graph reads; everything that is not filled in is 0: greedy decoding
  for (const Value& graph : graphs)
    for (const Value& port : list(at(graph, "inputs")))
      state.insert_or_assign(text(at(port, "name")), tensor(at(port, "shape"), text(at(port, "dtype"))));
  if (text(at(at(manifest, "canvas"), "init")) == "masked")
    fill(state, "tokens", 0, std::vector<int64_t>(at(manifest, "capacity").cast<int64_t>(),
                                                  at(at(manifest, "model"), "mask_id").cast<int64_t>()));
  std::vector<int64_t> ends(8, -1);
  Array eos = list(at(at(manifest, "model"), "eos_ids"));
  for (size_t i = 0; i < eos.size() && i < 8; ++i) ends[i] = eos[i].cast<int64_t>();
  fill(state, "tokens", 0, prompt);
  fill(state, "start", 0, std::vector<int64_t>{int64_t(prompt.size())});
  fill(state, "length", 0, std::vector<int64_t>{count > 3 ? std::stoll(given[3]) : 32});
  fill(state, "eos", 0, ends);
  fill(state, "top_p", 0, std::vector<float>{1});
  fill(state, "penalty", 0, std::vector<float>{1});

  for (int64_t next = 0; next >= 0;) {  // the loop: run a graph, keep what it gives, and see which one is next
    std::string name = text(at(graphs[next], "name"));
    Value signature = at(signatures, name.c_str());
    std::vector<ffi::AnyView> arguments;
    for (const Value& port : list(at(signature, "inputs"))) arguments.push_back(state.at(text(list(port)[0])));
    for (const Value& key : list(at(at(signature, "extra"), "weights"))) arguments.push_back(held.at(text(key)));
    ffi::Any results;
    machine->GetFunction(name).value().CallPacked(arguments.data(), int(arguments.size()), &results);
    size_t i = 0;
    for (const Value& port : list(at(signature, "outputs")))
      state.insert_or_assign(text(list(port)[0]), list(results)[i++].cast<Tensor>());
    next = *static_cast<int64_t*>(state.at("next").data_ptr());
  }
  int64_t made = *static_cast<int64_t*>(state.at("count").data_ptr());
  const int64_t* tokens = static_cast<int64_t*>(state.at("tokens").data_ptr()) + prompt.size();
  for (int64_t i = 0; i < made; ++i) std::cout << (i ? "," : "") << tokens[i];
  std::cout << std::endl;
  return 0;
} catch (const std::exception& e) {
  std::cerr << e.what() << std::endl;
  return 1;
}
