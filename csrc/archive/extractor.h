// A tar stream, in pieces of any size, into a directory.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "archive/header.h"
#include "archive/tree.h"

namespace pyminicon::archive {

class Extractor {
 public:
  // Fills the directory `root`, which stays the caller's. More than `max_entries` members are an
  // error.
  Extractor(int root, Rules rules, uint64_t max_entries)
      : tree_(root, rules), max_entries_(max_entries) {}

  // The next piece. Throws ArchiveError, after which the object is of no more use. What comes
  // behind the archive's end mark is ignored, as tar does.
  void feed(std::span<const unsigned char> data);

  // The stream has ended. Throws ArchiveError when that was in the middle of a member.
  void finish();

  bool complete() const { return state_ == State::kEnd; }  // whether the end mark was seen
  uint64_t entries() const { return entries_; }
  const Tree& tree() const { return tree_; }

 private:
  enum class State { kHeader, kMeta, kOldMap, kNewMap, kData, kPadding, kEnd };

  void block();
  void header_block();
  void meta(const Header& header);
  void end_meta();
  void member(Header header);
  void start_data();
  void data_done();
  void new_map_block();
  void write(std::span<const unsigned char> data);

  Tree tree_;
  uint64_t max_entries_;
  uint64_t entries_ = 0;
  State state_ = State::kHeader;
  Block block_{};
  size_t filled_ = 0;   // of block_
  bool begun_ = false;  // a header was seen
  bool zero_seen_ = false;

  std::string meta_;  // a PAX header's or long name's content
  char meta_type_ = 0;
  uint64_t left_ = 0;     // of the data or meta data
  uint64_t padding_ = 0;  // to the next block

  GlobalRecords global_;
  Records local_;
  std::string long_name_, long_link_;
  Header current_;
  Fd file_;
  size_t extent_ = 0;          // where in current_.extents the data goes
  uint64_t in_extent_ = 0;     // how much of it is written
  std::string map_text_;       // of a PAX 1.0 map, as far as it isn't read yet
  std::vector<uint64_t> map_;  // what is read of it
};

}  // namespace pyminicon::archive
