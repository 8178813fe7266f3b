// A directory that fills up with what an archive says, and nothing outside of it.
//
// Every name is resolved by the kernel with the directory as its root (openat2(2),
// RESOLVE_IN_ROOT): "..", absolute links and links out of the tree lead back inside, as they would
// in a container that has this tree as its root. The last component is never followed. Whiteouts
// become what overlayfs takes for them (Documentation/filesystems/overlayfs.rst).
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "archive/header.h"
#include "parent/files/fd.h"

namespace pyminicon::archive {

using parent::Fd;

// How names begin that stand for a removal.
inline constexpr std::string_view kWhiteout = ".wh.";

struct Rules {
  bool own = false;          // give files to the owners that the archive names (root)
  uint32_t max_depth = 256;  // directories in a name
  uint32_t max_name = 4096;  // bytes in a name
};

class Tree {
 public:
  // `root` stays the caller's.
  Tree(int root, Rules rules) : root_(root), rules_(rules) {}

  // Makes the member; for a file that takes data the descriptor to write it to. Throws
  // ArchiveError.
  Fd add(const Header& header);

  // Owner, mode, times and attributes of a file whose data is written.
  void seal(const Header& header, const Fd& file);

  // Gives the directories their owners, modes, attributes and times: last, because every file made
  // in one changes its time and inherits its default ACL, and without root a read-only one would
  // take no files.
  void finish();

  // Whether the archive says anything of the root directory itself.
  bool has_root() const { return directories_.contains(""); }

  uint64_t devices_left_out() const { return devices_left_out_; }
  uint64_t owners_left_out() const { return owners_left_out_; }
  uint64_t attributes_left_out() const { return attributes_left_out_; }

 private:
  struct Place {
    std::string path;    // normalised, "" for the root
    std::string parent;  // "" for the root
    std::string name;    // the last component
  };
  struct Directory {
    uint32_t mode;
    uint64_t uid, gid;
    struct timespec mtime;
    Records attributes;
  };

  Place place(const std::string& name) const;
  int parent_of(const Place& place);
  Fd open_inside(const std::string& path) const;
  Fd make_way(const std::string& path) const;
  void remove(int parent, const std::string& name);
  // Calls make() (0 or -1 with errno) and, when something is in the way, once more without it.
  template <typename Make>
  bool replacing(int parent, const Place& place, Make make);

  void add_directory(const Header& header, const Place& place);
  void add_hard_link(const Header& header, const Place& place);
  void add_other(const Header& header, const Place& place);
  bool add_whiteout(const Header& header, const Place& place);
  void make_opaque(int directory, const std::string& path);
  void set_attributes(const Records& attributes, int fd, const std::string& path);
  // `name` in `parent`, or `parent` itself when it is empty.
  void give(int parent, const char* name, uint64_t uid, uint64_t gid, const std::string& path);

  int root_;
  Rules rules_;
  Fd cached_;  // of the directory cached_path_, the last one that something was made in
  std::string cached_path_;
  std::map<std::string, Directory> directories_;
  uint64_t remembered_ = 0;
  uint64_t devices_left_out_ = 0;
  uint64_t owners_left_out_ = 0;
  uint64_t attributes_left_out_ = 0;
};

}  // namespace pyminicon::archive
