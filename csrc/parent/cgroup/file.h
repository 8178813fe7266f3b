// Small files of cgroupfs: read whole, written in one write.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace pyminicon::parent {

// The text of a file; nullopt when it can't be opened or read.
std::optional<std::string> read_file(const std::string& path);

// 0 or the errno of open or write. cgroupfs takes a value in one write or not at all.
int write_file(const std::string& path, std::string_view value);

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
