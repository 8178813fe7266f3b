// Small files of cgroupfs: read whole, written in one write.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "parent/files/fd.h"

namespace pyminicon::parent {

// The text of a file; nullopt when it can't be opened or read.
std::optional<std::string> read_file(const std::string& path);

// 0 or the errno of open or write. cgroupfs takes a value in one write or not at all.
int write_file(const std::string& path, std::string_view value);

// Files of a cgroup that is used again and again: to open one takes five times as long as to read
// it. There are few of these at once in a process, for the sake of its limit of descriptors.
class OpenFiles {
 public:
  static std::unique_ptr<OpenFiles> make();  // none where there are enough
  ~OpenFiles();
  OpenFiles(const OpenFiles&) = delete;
  OpenFiles& operator=(const OpenFiles&) = delete;

  // `name` must outlive this; it is known by that and the number of its directory, which has none.
  void add(size_t directory, const char* name, const std::string& path, int flags);
  int find(size_t directory, const char* name) const;  // -1 where there is none

 private:
  OpenFiles() = default;
  struct One {
    size_t directory;
    const char* name;
    Fd fd;
  };
  std::vector<One> files_;
};

// From its beginning.
std::optional<std::string> read_again(int fd);

// "17\n" as a number; nullopt for "max" and everything else.
std::optional<uint64_t> number(const std::optional<std::string>& text);

// The number behind `key` in a file of "key value" lines, as memory.events and cpu.stat are.
std::optional<uint64_t> field(const std::optional<std::string>& text, std::string_view key);

// The directories in one, by their whole paths.
std::vector<std::string> directories_in(const std::string& path);

// Sleeps a little longer each time; false when `patience_us` has been slept.
class Backoff {
 public:
  explicit Backoff(int patience_us) : left_us_(patience_us) {}
  bool sleep();

 private:
  int left_us_;
  int next_us_ = 20;
};

}  // namespace pyminicon::parent
