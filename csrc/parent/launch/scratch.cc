#include "parent/launch/scratch.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <vector>

#include "parent/failure.h"

namespace pyminicon::parent {
namespace {

// By descriptors and one name at a time: a path as deep as the container liked is no obstacle, and
// a name exchanged for a link is unlinked itself.
void empty_directory(int fd) {
  DIR* stream = fdopendir(fd);
  if (stream == nullptr) {
    close(fd);
    return;
  }
  while (const dirent* entry = readdir(stream)) {
    const char* name = entry->d_name;
    if (std::strcmp(name, ".") == 0 || std::strcmp(name, "..") == 0) continue;
    if (unlinkat(dirfd(stream), name, 0) == 0) continue;
    // The container may have taken our right to read its directory away (rootless).
    fchmodat(dirfd(stream), name, 0700, 0);
    const int below = openat(dirfd(stream), name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (below >= 0) empty_directory(below);
    unlinkat(dirfd(stream), name, AT_REMOVEDIR);
  }
  closedir(stream);
}

// mkdir -p. The last two are the store and its scratch/: nobody else may look into them (0700), as
// images.store.Store has it, because images hold setuid programs.
void make_directories(const std::string& path) {
  const size_t store = path.rfind('/');
  for (size_t slash = path.find('/', 1);; slash = path.find('/', slash + 1)) {
    const std::string prefix = path.substr(0, slash);
    if (mkdir(prefix.c_str(), slash >= store ? 0700 : 0777) < 0 && errno != EEXIST) {
      throw LaunchFailure(errno, Stage::kPrepare, prefix);
    }
    if (slash == std::string::npos) return;
  }
}

// The layers whose lock nobody holds, and those locks.
std::vector<Scratch> ownerless(const std::string& parent, int place) {
  std::vector<Scratch> found;
  const int again = openat(place, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR* stream = again < 0 ? nullptr : fdopendir(again);
  if (stream == nullptr) return found;
  while (const dirent* entry = readdir(stream)) {
    if (std::strncmp(entry->d_name, "layer-", 6) != 0) continue;
    Fd layer(openat(place, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (layer && flock(layer.get(), LOCK_EX | LOCK_NB) == 0) {
      found.push_back({parent + "/" + entry->d_name, std::move(layer)});
    }
  }
  closedir(stream);
  return found;
}

// Held for a few system calls at a time by whoever makes a layer or looks for ownerless ones; one
// that was stopped in between doesn't stop all others for good.
void lock_place(const Fd& place, const std::string& parent) {
  constexpr int kTries = 5000, kEachUs = 1000;
  for (int tries = 0; place && tries < kTries; ++tries) {
    if (flock(place.get(), LOCK_EX | LOCK_NB) == 0) return;
    if (errno != EWOULDBLOCK && errno != EINTR) break;
    usleep(kEachUs);
  }
  throw LaunchFailure(errno, Stage::kPrepare, parent);
}

Scratch make_now(const std::string& parent) {
  make_directories(parent);
  const Fd place(open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  // Nobody sweeps between the making of a directory and the locking of it.
  lock_place(place, parent);
  static std::atomic<bool> swept{false};
  std::vector<Scratch> left;
  if (!swept.exchange(true)) left = ownerless(parent, place.get());
  Scratch made{parent + "/layer-XXXXXX", {}};
  if (mkdtemp(made.directory.data()) == nullptr) {
    throw LaunchFailure(errno, Stage::kPrepare, parent);
  }
  made.lock = Fd(open(made.directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!made.lock || flock(made.lock.get(), LOCK_EX | LOCK_NB) < 0) {
    const int error = errno;
    rmdir(made.directory.c_str());
    throw LaunchFailure(error, Stage::kPrepare, made.directory);
  }
  flock(place.get(), LOCK_UN);
  for (const Scratch& one : left) remove_scratch(one.directory);  // as long as that may last
  return made;
}

// What a thread makes, and whether somebody still wants it.
struct Making {
  std::mutex lock;
  bool wanted = true;
  Scratch made;
};

}  // namespace

Scratch make_scratch(const std::string& parent, const Patience& patience) {
  const auto making = std::make_shared<Making>();
  try {
    const bool done = done_within(patience, [making, parent] {
      Scratch made = make_now(parent);
      const std::lock_guard guard(making->lock);
      if (making->wanted) {
        making->made = std::move(made);
      } else {
        remove_scratch(made.directory);
      }
    });
    if (!done) throw SetupTimeout{};
  } catch (...) {  // a signal's handler, too
    const std::lock_guard guard(making->lock);
    making->wanted = false;
    if (making->made.lock) remove_scratch(making->made.directory);
    throw;
  }
  return std::move(making->made);
}

bool remove_scratch(const std::string& directory) {
  const int fd = open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd >= 0) empty_directory(fd);
  return rmdir(directory.c_str()) == 0 || errno == ENOENT;
}

}  // namespace pyminicon::parent
