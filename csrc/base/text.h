// Words and numbers into a buffer, without libc: the names of files in /proc, of descriptors. Each
// answers where the text ends, which is closed there.
#pragma once

#include <stdint.h>

namespace pyminicon {

inline uint32_t append(char* out, uint32_t at, const char* text) {
  while (*text != 0) out[at++] = *text++;
  out[at] = 0;
  return at;
}

inline uint32_t append_number(char* out, uint32_t at, int value) {
  char digits[12];
  int count = 0;
  do {
    digits[count++] = static_cast<char>('0' + value % 10);
    value /= 10;
  } while (value > 0);
  while (count > 0) out[at++] = digits[--count];
  out[at] = 0;
  return at;
}

}  // namespace pyminicon
