#include "parent/plan/hidden.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <string_view>

#include "parent/failure.h"
#include "parent/files/fd.h"
#include "parent/files/plain_file.h"
#include "parent/reaper/reaper.h"

namespace pyminicon::parent {
namespace {

constexpr int kDirectory = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
constexpr int kDeepest = 64;

// Readable for everybody, as a rule, and nobody else's business: who this machine is, its disks
// with the passwords of shares among their options, what sessions get.
constexpr std::array<std::string_view, 7> kSecretPaths = {
    "machine-id", "hostid", "fstab", "crypttab", "environment", "ssl/private", "pki/tls/private"};
constexpr std::array<std::string_view, 13> kEndings = {
    ".key", "_key",  "-key.pem", ".keytab", ".p12", ".pfx",     ".pk8",
    ".jks", ".kdbx", ".ovpn",    ".psk",    ".ppk", ".keystore"};
constexpr std::array<std::string_view, 6> kBeginnings = {"ssh_host_", "id_rsa",     "id_dsa",
                                                         "id_ecdsa",  "id_ed25519", "privkey"};
constexpr std::array<std::string_view, 6> kSecretWords = {"secret",   "credential", "htpasswd",
                                                          "password", ".netrc",     "pgpass"};
// Certificates by their names, and sometimes with their key in one file.
constexpr std::array<std::string_view, 5> kMayHoldKey = {".pem", ".crt", ".cer", ".cert",
                                                         ".bundle"};
constexpr uint64_t kMostLookedAt = 4 << 20;

bool ends_as(std::string_view name, const auto& endings) {
  return std::any_of(endings.begin(), endings.end(),
                     [name](std::string_view one) { return name.ends_with(one); });
}

bool is_secret(const std::string& path, std::string_view name) {
  std::string low(name);
  std::transform(low.begin(), low.end(), low.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  if (std::find(kSecretPaths.begin(), kSecretPaths.end(), path) != kSecretPaths.end()) return true;
  if (path.starts_with("pam.d/")) return false;  // common-password, passwd
  const auto begins = [&low](std::string_view one) { return low.starts_with(one); };
  const auto holds = [&low](std::string_view one) { return low.find(one) != std::string::npos; };
  return ends_as(low, kEndings) || std::any_of(kBeginnings.begin(), kBeginnings.end(), begins) ||
         std::any_of(kSecretWords.begin(), kSecretWords.end(), holds);
}

bool holds_key(int dir, const char* name) {
  if (!ends_as(name, kMayHoldKey)) return false;
  const Fd file = open_plain({dir, name, O_NOFOLLOW, 0});
  const auto bytes = file ? read_at_most(file.get(), kMostLookedAt) : std::nullopt;
  return !bytes || bytes->find("PRIVATE KEY-----") != std::string::npos;
}

// Whether `path` is one of `shown`, or in it; or, the other way round, one of them is in `path`.
bool is_shown(const std::string& path, const std::vector<std::string>& shown) {
  return std::any_of(shown.begin(), shown.end(), [&path](const std::string& one) {
    return path == one || path.starts_with(one + "/");
  });
}

bool leads_to_shown(const std::string& path, const std::vector<std::string>& shown) {
  return std::any_of(shown.begin(), shown.end(),
                     [&path](const std::string& one) { return one.starts_with(path + "/"); });
}

// The kernel's clock for changes moves in steps of up to 10 ms: what is younger may change once
// more and bear the same time.
constexpr int64_t kUnsettled = 20'000'000;

Fd new_watch() {
  const MakingFds making;
  return Fd(inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
}

// Without what it has told so far, if that can be had within reason.
Fd emptied(Fd watch) {
  std::array<char, 1 << 16> events;
  for (int reads = 0; watch && reads < 100; ++reads) {
    if (read(watch.get(), events.data(), events.size()) <= 0) return watch;
  }
  return Fd();
}

int64_t nanoseconds(const timespec& time) { return time.tv_sec * 1'000'000'000LL + time.tv_nsec; }

}  // namespace

class HiddenSet::Walk {
 public:
  Walk(HiddenSet& set, const std::vector<std::string>& shown, Fd changes)
      : set_(set), shown_(shown), changes_(std::move(changes)) {}
  Fd changes() { return std::move(changes_); }

  // `closed`: nothing in it is shown but what was asked for.
  void directory(Fd fd, const std::string& path, bool closed, int depth) {
    const std::unique_ptr<DIR, int (*)(DIR*)> listing(fdopendir(fd.release()), closedir);
    struct stat about;
    if (!listing || fstat(dirfd(listing.get()), &about) != 0) fail(path);
    set_.seen_.push_back({path, about.st_ino, nanoseconds(about.st_ctim)});
    watch(path);
    for (;;) {
      errno = 0;
      const dirent* const entry = readdir(listing.get());
      if (entry == nullptr && errno != 0) fail(path);
      if (entry == nullptr) return;
      const std::string_view name = entry->d_name;
      if (name == "." || name == "..") continue;
      const std::string below = path.empty() ? std::string(name) : path + "/" + entry->d_name;
      judge(dirfd(listing.get()), *entry, below, closed, depth);
    }
  }

 private:
  void judge(int dir, const dirent& entry, const std::string& path, bool closed, int depth) {
    if (is_shown(path, shown_)) return;
    const bool hidden = closed || is_secret(path, entry.d_name);
    if (entry.d_type == DT_LNK && !hidden) return;  // what it leads to is judged where it lies
    struct stat about;
    if (fstatat(dir, entry.d_name, &about, AT_SYMLINK_NOFOLLOW) != 0) return hide(path);
    if (S_ISDIR(about.st_mode)) {
      subdirectory(dir, entry.d_name, path, about, hidden || (about.st_mode & 5) != 5, depth);
    } else if (hidden || !S_ISREG(about.st_mode) || (about.st_mode & 4) == 0 ||
               holds_key(dir, entry.d_name)) {
      if (!S_ISLNK(about.st_mode) || hidden) hide(path);
    }
  }

  // Before its names are read: what comes meanwhile is told as well. One that has gone again is
  // told of by the directory above; all else is a limit of the user's (max_user_watches).
  void watch(const std::string& path) {
    constexpr uint32_t kEvents = IN_CREATE | IN_DELETE | IN_MOVE | IN_ATTRIB | IN_MODIFY |
                                 IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR;
    if (!changes_) return;
    const std::string whole = path.empty() ? set_.root_ : set_.root_ + "/" + path;
    if (inotify_add_watch(changes_.get(), whole.c_str(), kEvents) >= 0) return;
    if (errno != ENOENT && errno != ENOTDIR) changes_.reset();
  }

  void subdirectory(int dir, const char* name, const std::string& path, const struct stat& about,
                    bool hidden, int depth) {
    if ((hidden && !leads_to_shown(path, shown_)) || depth == kDeepest) return hide(path);
    Fd fd(openat(dir, name, kDirectory));
    if (!fd && (errno == EMFILE || errno == ENFILE || errno == ENOMEM)) fail(path);
    if (!fd) return hide(path);
    std::vector<Hidden>& found = set_.rows_;
    const size_t at = found.size();
    found.push_back({path, false, about.st_mode & 07777, about.st_uid, about.st_gid});
    directory(std::move(fd), path, hidden, depth + 1);
    if (found.size() == at + 1) found.pop_back();  // all of it is shown
  }

  // What can't be looked through would be shown as a whole.
  [[noreturn]] void fail(const std::string& path) const {
    const std::string whole = path.empty() ? set_.root_ : set_.root_ + "/" + path;
    throw LaunchFailure(errno, Stage::kPrepare, whole);
  }

  void hide(const std::string& path) { set_.rows_.push_back({path, true, 0, 0, 0}); }

  HiddenSet& set_;
  const std::vector<std::string>& shown_;
  Fd changes_;
};

HiddenSet::HiddenSet(const std::string& root, const std::vector<std::string>& shown, bool watched,
                     HiddenSet* before)
    : root_(root) {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  looked_ = nanoseconds(now);
  Fd fd(open(root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd && errno == ENOENT) return;
  if (!fd) throw LaunchFailure(errno, Stage::kPrepare, root);
  Fd changes;
  if (watched && before != nullptr) changes = before->give_watch();
  const bool fresh = watched && !changes;
  if (fresh) changes = new_watch();
  Walk walk(*this, shown, std::move(changes));
  try {
    walk.directory(std::move(fd), "", false, 0);
  } catch (...) {
    if (before != nullptr) before->changes_.keep(walk.changes());  // for the next try
    throw;
  }
  changes_.keep(walk.changes());
  watched_ = changes_.there();
  if (watched_ && fresh) keep_by_reaper(changes_.get());
}

HiddenSet::~HiddenSet() { changes_.reset(); }

Fd HiddenSet::give_watch() {
  watched_ = false;
  looked_ = 0;  // it holds no more: what it has been told is forgotten
  return emptied(changes_.release());
}

bool HiddenSet::holds() const {
  if (watched_) {
    // Looked at, not read: in a program that has closed all its descriptors the number may be
    // somebody else's, and a forked worker has none.
    int waiting = 0;
    return changes_.there() && ioctl(changes_.get(), FIONREAD, &waiting) == 0 && waiting == 0;
  }
  const Fd root(open(root_.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  return root && std::all_of(seen_.begin(), seen_.end(), [&](const Seen& one) {
           struct stat about;
           const char* path = one.path.empty() ? "." : one.path.c_str();
           return one.changed < looked_ - kUnsettled &&
                  fstatat(root.get(), path, &about, AT_SYMLINK_NOFOLLOW) == 0 &&
                  about.st_ino == one.inode && nanoseconds(about.st_ctim) == one.changed;
         });
}

}  // namespace pyminicon::parent
