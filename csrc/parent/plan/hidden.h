// What of a directory of this machine (its /etc) a container isn't shown.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "parent/files/fd.h"

namespace pyminicon::parent {

struct Hidden {
  std::string path;         // in the directory
  bool whole;               // false: a directory that is shown but for what follows
  uint32_t mode, uid, gid;  // of such a directory
};

// By a rule: hidden is what not any user may read (by the mode of each file and directory), what is
// neither a file nor a directory nor a link, and what is a secret by its name, or by its content
// where the name says that it may be (docs/security.md lists the names). `shown`: paths that are
// not hidden, with all that is in them.
class HiddenSet {
 public:
  // `watched`: the kernel is asked to tell of changes from now on (inotify(7)), which costs a
  // descriptor as long as the set is there; where it can't be had the set isn't watched. What
  // watched `before` does so for this one then: to close it takes the kernel 10 ms.
  HiddenSet(const std::string& root, const std::vector<std::string>& shown, bool watched,
            HiddenSet* before = nullptr);
  ~HiddenSet();

  // Whether every directory that was looked through still holds what it did: nothing has come, gone
  // or got another name and, if the set is watched, no other mode or content either.
  bool holds() const;
  // Whether holds() will tell of all that, at the price of three system calls.
  bool watched() const { return watched_; }

  const std::vector<Hidden>& rows() const { return rows_; }

 private:
  struct Seen {
    std::string path;
    uint64_t inode;
    int64_t changed;  // ns
  };
  class Walk;
  Fd give_watch();

  std::string root_;
  int64_t looked_;
  std::vector<Hidden> rows_;
  std::vector<Seen> seen_;
  bool watched_ = false;
  KeptFd changes_;  // inotify's
};

}  // namespace pyminicon::parent
