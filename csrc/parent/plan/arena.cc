#include "parent/plan/arena.h"

namespace pyminicon::parent {

Arena::Offset Arena::reserve(size_t size, size_t alignment) {
  const size_t start = (bytes_.size() + alignment - 1) / alignment * alignment;
  bytes_.resize(start + size);
  return start;
}

Arena::Offset Arena::put_bytes(const void* data, size_t size, size_t alignment) {
  const Offset offset = reserve(size, alignment);
  if (size > 0) std::memcpy(bytes_.data() + offset, data, size);
  return offset;
}

Arena::Offset Arena::put(std::string_view text) {
  const Offset offset = reserve(text.size() + 1, 1);
  std::memcpy(bytes_.data() + offset, text.data(), text.size());
  return offset;
}

Arena::Offset Arena::put_strings(const std::vector<std::string>& strings) {
  const Offset table = reserve((strings.size() + 1) * sizeof(char*));
  for (size_t i = 0; i < strings.size(); ++i) point(table + i * sizeof(char*), put(strings[i]));
  return table;
}

void Arena::point(Offset slot, Offset target) {
  std::memcpy(bytes_.data() + slot, &target, sizeof target);
  if (target != 0) pointers_.push_back(slot);
}

void Arena::settle(uint64_t base) {
  for (const Offset slot : pointers_) {
    uint64_t value;
    std::memcpy(&value, bytes_.data() + slot, sizeof value);
    value += base;
    std::memcpy(bytes_.data() + slot, &value, sizeof value);
  }
}

}  // namespace pyminicon::parent
