// What is wrong with an archive, or with writing it down. One sentence, no newline of our own.
#pragma once

#include <cstring>
#include <stdexcept>
#include <string>

namespace pyminicon::archive {

struct ArchiveError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// "name: Permission denied"
inline ArchiveError failed(const std::string& subject, int error) {
  return ArchiveError(subject + ": " + std::strerror(error));
}

}  // namespace pyminicon::archive
