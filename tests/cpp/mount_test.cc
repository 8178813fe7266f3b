// Facts about child/mounts/mount.h that need no mount: how a target is found, and made.
#include "child/mounts/mount.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <filesystem>
#include <string>

#include "base/kernel.h"
#include "fact.h"

using pyminicon::child::open_or_make;

namespace {

constexpr bool kFile = false, kDirectory = true;

// An empty root, gone at the end.
class Root {
 public:
  Root() : path_("/tmp/pyminicon-mount-XXXXXX") {
    if (::mkdtemp(path_.data()) == nullptr) ::abort();
    fd_ = ::open(path_.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC);
  }
  ~Root() {
    ::close(fd_);
    std::filesystem::remove_all(path_);
  }
  // 0, or the errno.
  int make(const std::string& target, bool directory, uint64_t resolve = 0) const {
    const long fd = open_or_make(fd_, target.c_str(), directory, resolve);
    if (fd < 0) return static_cast<int>(-fd);
    ::close(static_cast<int>(fd));
    return 0;
  }
  void link(const std::string& to, const std::string& name) const {
    std::filesystem::create_symlink(to, path_ + name);
  }
  bool is_directory(const std::string& name) const {
    return std::filesystem::is_directory(std::filesystem::symlink_status(path_ + name));
  }
  bool is_file(const std::string& name) const {
    return std::filesystem::is_regular_file(std::filesystem::symlink_status(path_ + name));
  }
  int entries() const {
    return static_cast<int>(
        std::distance(std::filesystem::recursive_directory_iterator(path_), {}));
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  int fd_ = -1;
};

int open_fds() {
  return static_cast<int>(std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {}));
}

void what_is_missing_of_a_path_is_made_and_nothing_else() {
  const Root root;
  const int fds = open_fds();
  CHECK(root.make("a/b/c", kDirectory) == 0 && root.is_directory("/a/b/c"));
  CHECK(root.entries() == 3);
  CHECK(root.make("a/b/c", kDirectory) == 0 && root.entries() == 3);
  CHECK(root.make("a/b/file", kFile) == 0 && root.is_file("/a/b/file"));
  CHECK(root.make("/x/y/file", kFile) == 0 && root.is_file("/x/y/file"));
  CHECK(root.make("one", kFile) == 0 && root.is_file("/one"));
  CHECK(root.make("", kDirectory) == 0 && root.make("/", kDirectory) == 0);
  CHECK(root.entries() == 8);
  CHECK(open_fds() == fds);
}

void slashes_and_dots_are_what_they_are_elsewhere() {
  const Root root;
  CHECK(root.make("//a///b//", kDirectory) == 0 && root.is_directory("/a/b"));
  CHECK(root.make("c/./d", kDirectory) == 0 && root.is_directory("/c/d"));
  CHECK(root.make("e/../f", kDirectory) == 0 && root.is_directory("/e") && root.is_directory("/f"));
  CHECK(root.make("../../g", kDirectory) == 0 && root.is_directory("/g"));
  CHECK(root.entries() == 7);
}

void a_file_in_the_way_is_an_error_and_stays() {
  const Root root;
  CHECK(root.make("file", kFile) == 0);
  CHECK(root.make("file/below", kFile) == ENOTDIR && root.make("file/b/c", kDirectory) == ENOTDIR);
  CHECK(root.make("file", kDirectory) == ENOTDIR);
  CHECK(root.is_file("/file") && root.entries() == 1);
}

void links_lead_nowhere_outside_and_are_never_replaced() {
  const Root root, other;
  root.link(other.path(), "/out");
  root.link("../../../../real", "/up");
  root.link("nowhere", "/dangling");
  CHECK(root.make("real", kDirectory) == 0);
  CHECK(root.make("up/new", kDirectory) == 0 && root.is_directory("/real/new"));
  CHECK(root.make("out", kDirectory) == ENOENT && root.make("out/new", kDirectory) == ENOENT);
  CHECK(root.make("dangling", kFile) == ENOENT && root.make("dangling/x", kDirectory) == ENOENT);
  CHECK(root.make("up/more", kDirectory, pyminicon::kernel::kResolveNoSymlinks) == ELOOP);
  CHECK(other.entries() == 0 && root.entries() == 5);
}

void a_path_that_is_too_long_is_refused() {
  const Root root;
  std::string path;
  while (path.size() < PATH_MAX - 2) path += "a/";
  CHECK(root.make(path + "bcd", kDirectory) == ENAMETOOLONG);
  CHECK(root.make(std::string(NAME_MAX + 1, 'n'), kDirectory) == ENAMETOOLONG);
  CHECK(root.entries() == 0);
  CHECK(root.make(path, kDirectory) == 0);
}

}  // namespace

int main() {
  SHOW(what_is_missing_of_a_path_is_made_and_nothing_else);
  SHOW(slashes_and_dots_are_what_they_are_elsewhere);
  SHOW(a_file_in_the_way_is_an_error_and_stays);
  SHOW(links_lead_nowhere_outside_and_are_never_replaced);
  SHOW(a_path_that_is_too_long_is_refused);
  return fact::result();
}
