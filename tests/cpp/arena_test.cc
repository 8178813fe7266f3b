// Facts about parent/plan/arena.h: memory whose pointers can be moved to another address.
#include "parent/plan/arena.h"

#include <cstddef>
#include <cstring>
#include <string>
#include <vector>

#include "fact.h"

using pyminicon::parent::Arena;

namespace {

struct Header {
  const char* text;
  const char* none;
  const char* const* list;
};

uint64_t address_of(const void* pointer) { return reinterpret_cast<uint64_t>(pointer); }

void what_is_reserved_is_aligned_and_zero() {
  Arena arena;
  for (const size_t alignment : {1, 2, 4, 8, 16, 64}) {
    const auto at = arena.reserve(3, alignment);
    CHECK(at % alignment == 0);
    for (size_t i = 0; i < 3; ++i) CHECK(arena.data()[at + i] == 0);
  }
}

void texts_end_with_a_nul_also_empty_ones_and_those_with_nuls() {
  Arena arena;
  arena.reserve(sizeof(Header));
  const auto text = arena.put("abc"), empty = arena.put(""),
             odd = arena.put(std::string_view("x\0y", 3));
  CHECK(std::string(arena.data() + text) == "abc");
  CHECK(arena.data()[empty] == 0);
  CHECK(std::memcmp(arena.data() + odd, "x\0y", 4) == 0);
}

Arena filled(const std::vector<std::string>& strings) {
  Arena arena;
  arena.reserve(sizeof(Header));
  arena.point(offsetof(Header, text), arena.put("abc"));
  arena.point(offsetof(Header, none), 0);
  arena.point(offsetof(Header, list), arena.put_strings(strings));
  return arena;
}

void pointers_are_good_after_growing_a_thousandfold() {
  std::vector<std::string> strings;
  for (int i = 0; i < 5000; ++i) strings.push_back(std::to_string(i) + std::string(100, 'x'));
  Arena arena = filled(strings);
  arena.settle(address_of(arena.data()));
  const auto& header = arena.at<Header>(0);
  CHECK(std::string(header.text) == "abc");
  for (int i = 0; i < 5000; ++i) CHECK(strings[static_cast<size_t>(i)] == header.list[i]);
  CHECK(header.list[5000] == nullptr);
}

void null_stays_null_wherever_it_is_settled() {
  Arena arena = filled({});
  arena.settle(0x200000000000ULL);
  CHECK(arena.at<Header>(0).none == nullptr);
  CHECK(address_of(arena.at<Header>(0).text) > 0x200000000000ULL);
}

void a_copy_can_be_settled_elsewhere_and_the_original_moved_back() {
  Arena arena = filled({"one", "two"});
  constexpr uint64_t kElsewhere = 0x200000000000ULL;
  arena.settle(kElsewhere);
  const std::vector<char> copy(arena.data(), arena.data() + arena.size());
  arena.settle(address_of(arena.data()) - kElsewhere);
  CHECK(std::string(arena.at<Header>(0).list[1]) == "two");
  Header there;
  std::memcpy(&there, copy.data(), sizeof there);
  CHECK(address_of(there.text) - kElsewhere < copy.size());
  CHECK(std::string(copy.data() + (address_of(there.text) - kElsewhere)) == "abc");
}

void no_bytes_need_no_pointer() {
  Arena arena;
  arena.reserve(8);
  const auto at = arena.put_bytes(nullptr, 0, 8);
  CHECK(at == 8);
  CHECK(arena.size() == 8);
}

}  // namespace

int main() {
  SHOW(what_is_reserved_is_aligned_and_zero);
  SHOW(texts_end_with_a_nul_also_empty_ones_and_those_with_nuls);
  SHOW(pointers_are_good_after_growing_a_thousandfold);
  SHOW(null_stays_null_wherever_it_is_settled);
  SHOW(a_copy_can_be_settled_elsewhere_and_the_original_moved_back);
  SHOW(no_bytes_need_no_pointer);
  return fact::result();
}
