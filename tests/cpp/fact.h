// The little that a test of facts needs.
#pragma once

#include <cstdio>

namespace fact {

inline int failures = 0;

inline void check(bool holds, const char* what, const char* file, int line) {
  if (holds) return;
  ++failures;
  std::printf("  FAILED %s:%d: %s\n", file, line, what);
}

template <typename Fact>
void show(const char* name, Fact&& fact) {
  std::printf("%s\n", name);
  fact();
}

inline int result() {
  std::printf(failures == 0 ? "all facts hold\n" : "%d checks failed\n", failures);
  return failures == 0 ? 0 : 1;
}

}  // namespace fact

#define CHECK(condition) fact::check(condition, #condition, __FILE__, __LINE__)
#define SHOW(fact_function) fact::show(#fact_function, fact_function)
