// Memory that something had, for the next that wants as much: pages that the system gives anew take ten times as long to
// clear as those that are there.
#pragma once

#include <bit>
#include <cstdlib>
#include <map>
#include <mutex>

namespace dcompile {

class Rooms {
  std::mutex alone;
  std::multimap<size_t, void*> idle;

 public:
  // So many bytes, of any content; null where there are none.
  void* take(size_t size) {
    const std::lock_guard guard(alone);
    const auto found = idle.find(size);
    if (found == idle.end()) return std::aligned_alloc(64, (size + 63) / 64 * 64);
    void* memory = found->second;
    idle.erase(found);
    return memory;
  }

  void give(void* memory, size_t size) {
    const std::lock_guard guard(alone);
    idle.emplace(size, memory);
  }

  ~Rooms() {
    for (const auto& [size, memory] : idle) std::free(memory);
  }
};

static Rooms rooms;  // of each package its own

// Such memory, as long as this lives; by powers of two, so that what is larger from turn to turn leaves little behind.
struct Room {
  size_t size;
  void* at;

  explicit Room(size_t least) : size(std::bit_ceil(least)), at(least > 0 ? rooms.take(size) : nullptr) {}
  Room(const Room&) = delete;
  ~Room() {
    if (at != nullptr) rooms.give(at, size);
  }
};

}  // namespace dcompile
