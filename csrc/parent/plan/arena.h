// Memory for a launch plan that can be read at another address than it was written at.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace pyminicon::parent {

// Grows while the plan is built; pointers are kept as offsets until settle() turns them into
// addresses as seen from `base`. Offset 0 stands for null: the header lies there and nobody points
// to it.
class Arena {
 public:
  using Offset = uint64_t;

  // Room for so much at once: what a vector leaves behind while it grows is given back to the
  // kernel and faulted in again at every launch, 0.1 ms.
  void expect(size_t size) { bytes_.reserve(size); }
  Offset reserve(size_t size, size_t alignment = 8);
  Offset put(std::string_view text);  // with a terminating NUL
  Offset put_bytes(const void* data, size_t size, size_t alignment);

  // An array of pointers to the strings, with a null at its end.
  Offset put_strings(const std::vector<std::string>& strings);

  template <typename T>
  T& at(Offset offset) {
    return *reinterpret_cast<T*>(bytes_.data() + offset);
  }

  // Stores a pointer to `target` in the pointer field that lies at `slot`.
  void point(Offset slot, Offset target);

  size_t size() const { return bytes_.size(); }
  char* data() { return bytes_.data(); }
  void settle(uint64_t base);

 private:
  std::vector<char> bytes_;
  std::vector<Offset> pointers_;
};

}  // namespace pyminicon::parent
