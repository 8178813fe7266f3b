#include "parent/cgroup/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <cstring>

namespace pyminicon::parent {
namespace {

std::atomic<int> with_open_files{0};

}  // namespace

std::unique_ptr<OpenFiles> OpenFiles::make() {
  constexpr int kMost = 32;
  std::unique_ptr<OpenFiles> made(new OpenFiles);
  return ++with_open_files <= kMost ? std::move(made) : nullptr;
}

OpenFiles::~OpenFiles() { --with_open_files; }

void OpenFiles::add(size_t directory, const char* name, const std::string& path, int flags) {
  Fd fd(::open(path.c_str(), flags | O_CLOEXEC));
  if (fd) files_.push_back({directory, name, std::move(fd)});
}

int OpenFiles::find(size_t directory, const char* name) const {
  for (const One& one : files_) {
    if (one.directory == directory && std::strcmp(one.name, name) == 0) return one.fd.get();
  }
  return -1;
}

std::optional<std::string> read_again(int fd) {
  std::string text;
  char part[4096];
  for (;;) {
    const ssize_t got = ::pread(fd, part, sizeof part, static_cast<off_t>(text.size()));
    if (got > 0) text.append(part, static_cast<size_t>(got));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return std::nullopt;
    if (got < static_cast<ssize_t>(sizeof part)) return text;
  }
}

std::optional<std::string> read_file(const std::string& path) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return std::nullopt;
  std::string text;
  char part[4096];
  ssize_t got = 0;
  while ((got = ::read(fd.get(), part, sizeof part)) > 0 || (got < 0 && errno == EINTR)) {
    if (got > 0) text.append(part, static_cast<size_t>(got));
  }
  return got < 0 ? std::nullopt : std::optional(std::move(text));
}

int write_file(const std::string& path, std::string_view value) {
  // Neither O_TRUNC nor O_CREAT: kernfs needs none, and a file that isn't there is an answer.
  const Fd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd) return errno;
  ssize_t done = 0;
  do {
    done = ::write(fd.get(), value.data(), value.size());
  } while (done < 0 && errno == EINTR);
  return done < 0 ? errno : 0;
}

std::optional<uint64_t> number(const std::optional<std::string>& text) {
  if (!text) return std::nullopt;
  uint64_t value = 0;
  const char* end = text->data() + text->size();
  const auto [stop, error] = std::from_chars(text->data(), end, value);
  if (error != std::errc() || (stop != end && *stop != '\n')) return std::nullopt;
  return value;
}

std::optional<uint64_t> field(const std::optional<std::string>& text, std::string_view key) {
  if (!text) return std::nullopt;
  std::string_view rest = *text;
  while (!rest.empty()) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    if (line.size() > key.size() && line.starts_with(key) && line[key.size()] == ' ') {
      return number(std::string(line.substr(key.size() + 1)));
    }
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
  }
  return std::nullopt;
}

std::vector<std::string> directories_in(const std::string& path) {
  std::vector<std::string> found;
  DIR* stream = ::opendir(path.c_str());
  if (stream == nullptr) return found;
  while (const dirent* entry = ::readdir(stream)) {
    const std::string_view name = entry->d_name;
    if (entry->d_type != DT_DIR || name == "." || name == "..") continue;
    found.push_back(path);
    found.back().append("/").append(name);
  }
  ::closedir(stream);
  return found;
}

bool Backoff::sleep() {
  if (left_us_ <= 0) return false;
  const int now = std::min(next_us_, left_us_);
  const timespec pause{now / 1'000'000, (now % 1'000'000) * 1000L};
  ::nanosleep(&pause, nullptr);
  left_us_ -= now;
  next_us_ = std::min(next_us_ * 2, 20'000);
  return true;
}

}  // namespace pyminicon::parent
