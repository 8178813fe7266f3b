#include "archive/extractor.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "archive/error.h"

namespace pyminicon::archive {
namespace {

// PAX headers hold a name and a few attributes of 64 KiB at most.
constexpr uint64_t kLargestMeta = 1 << 20;
constexpr size_t kMostExtents = 1 << 20;

uint64_t padding_of(uint64_t size) { return (kBlock - size % kBlock) % kBlock; }

bool has_data(const Header& header) { return header.type == '0' || header.type == '7'; }

}  // namespace

void Extractor::feed(std::span<const unsigned char> data) {
  while (!data.empty() && state_ != State::kEnd) {
    size_t taken = 0;
    switch (state_) {
      case State::kData:
        taken = std::min<uint64_t>(left_, data.size());
        write(data.first(taken));
        left_ -= taken;
        if (left_ == 0) data_done();
        break;
      case State::kMeta:
        taken = std::min<uint64_t>(left_, data.size());
        meta_.append(reinterpret_cast<const char*>(data.data()), taken);
        left_ -= taken;
        if (left_ == 0) end_meta();
        break;
      case State::kPadding:
        taken = std::min<uint64_t>(padding_, data.size());
        padding_ -= taken;
        if (padding_ == 0) state_ = State::kHeader;
        break;
      default:
        taken = std::min(kBlock - filled_, data.size());
        std::memcpy(block_.data() + filled_, data.data(), taken);
        filled_ += taken;
        if (filled_ == kBlock) {
          filled_ = 0;
          block();
        }
    }
    data = data.subspan(taken);
  }
}

void Extractor::block() {
  if (state_ == State::kHeader) {
    header_block();
  } else if (state_ == State::kNewMap) {
    new_map_block();
  } else {
    if (current_.extents.size() > kMostExtents)
      throw ArchiveError("a sparse map beyond all bounds");
    if (!parse_more_extents(block_, current_)) start_data();
  }
}

void Extractor::header_block() {
  if (is_zero(block_)) {
    // Two blocks of zeros are the end mark.
    if (zero_seen_) state_ = State::kEnd;
    zero_seen_ = true;
    return;
  }
  if (zero_seen_) throw ArchiveError("a damaged archive: a member behind a block of zeros");
  Header header = parse_header(block_);
  begun_ = true;
  if (std::strchr("xXgLK", header.type) != nullptr) {
    meta(header);
    return;
  }
  apply_records(global_, header);
  if (!long_name_.empty()) header.name = long_name_;
  if (!long_link_.empty()) header.link = long_link_;
  if (header.type == '5' && header.name.empty()) throw ArchiveError("a member without a name");
  apply_records(local_, header);
  local_.clear();
  long_name_.clear();
  long_link_.clear();
  member(std::move(header));
}

void Extractor::meta(const Header& header) {
  if (header.size > kLargestMeta)
    throw ArchiveError("an extended header or name beyond all bounds");
  meta_type_ = header.type;
  meta_.clear();
  left_ = header.size;
  padding_ = padding_of(header.size);
  state_ = State::kMeta;
  if (left_ == 0) end_meta();
}

void Extractor::end_meta() {
  switch (meta_type_) {
    case 'g':
      parse_global_records(meta_, global_);
      break;
    case 'L':
      long_name_ = meta_.substr(0, meta_.find('\0'));
      break;
    case 'K':
      long_link_ = meta_.substr(0, meta_.find('\0'));
      break;
    default:
      local_.clear();
      parse_records(meta_, local_);
  }
  state_ = padding_ ? State::kPadding : State::kHeader;
}

void Extractor::member(Header header) {
  if (header.type == 'V') {  // GNU: the name of the volume
    current_ = std::move(header);
    left_ = 0;
    padding_ = 0;
    state_ = State::kHeader;
    return;
  }
  if (header.name.empty()) throw ArchiveError("a member without a name");
  if (std::strchr("01234567D", header.type) == nullptr) {
    throw ArchiveError(header.name + ": a kind of member that isn't known");
  }
  if (++entries_ > max_entries_) {
    throw ArchiveError("more than " + std::to_string(max_entries_) +
                       " entries; PYMINICON_IMAGE_MAX_ENTRIES raises the limit");
  }
  if (has_data(header) && header.name.ends_with('/')) header.type = '5';
  // Links and devices have no data, whatever old tars wrote into their size. (GNU's 'D' does.)
  if (!has_data(header) && header.type != 'D') header.size = 0;
  file_ = tree_.add(header);
  left_ = header.size;
  padding_ = padding_of(header.size);
  current_ = std::move(header);
  map_.clear();
  map_text_.clear();
  if (current_.sparse && current_.map_continues) {
    state_ = State::kOldMap;
  } else if (current_.sparse && current_.map_in_data) {
    current_.extents.clear();
    state_ = State::kNewMap;
  } else {
    start_data();
  }
}

// PAX 1.0: the count of extents, then offsets and sizes, a line each, filled up to whole blocks.
void Extractor::new_map_block() {
  if (left_ < kBlock) throw ArchiveError(current_.name + ": a sparse map that doesn't end");
  left_ -= kBlock;
  map_text_.append(reinterpret_cast<const char*>(block_.data()), kBlock);
  size_t at = 0;
  for (size_t end; (end = map_text_.find('\n', at)) != std::string::npos; at = end + 1) {
    map_.push_back(parse_decimal(std::string_view(map_text_).substr(at, end - at), "sparse map"));
    if (map_[0] > kMostExtents)
      throw ArchiveError(current_.name + ": a sparse map beyond all bounds");
    if (map_.size() == 1 + 2 * map_[0]) break;
  }
  map_text_.erase(0, at);
  if (map_.empty() || map_.size() < 1 + 2 * map_[0]) {
    if (map_text_.size() > kBlock)
      throw ArchiveError(current_.name + ": a sparse map that is damaged");
    return;
  }
  for (size_t i = 1; i < map_.size(); i += 2) current_.extents.push_back({map_[i], map_[i + 1]});
  start_data();
}

void Extractor::start_data() {
  extent_ = 0;
  in_extent_ = 0;
  if (current_.sparse) {
    // An empty piece at the end only says how long the file is.
    std::erase_if(current_.extents, [](const Extent& extent) { return extent.size == 0; });
    check_sparse(current_, left_);
    if (file_ && ftruncate(file_.get(), static_cast<off_t>(current_.real_size)) != 0) {
      throw failed(current_.name, errno);
    }
  }
  state_ = State::kData;
  if (left_ == 0) data_done();
}

void Extractor::data_done() {
  if (file_) tree_.seal(current_, file_);
  file_.reset();
  state_ = padding_ ? State::kPadding : State::kHeader;
}

void Extractor::write(std::span<const unsigned char> data) {
  while (file_ && !data.empty()) {
    size_t size = data.size();
    ssize_t written;
    if (current_.sparse) {
      const Extent& extent = current_.extents.at(extent_);
      size = std::min<uint64_t>(size, extent.size - in_extent_);
      written =
          pwrite(file_.get(), data.data(), size, static_cast<off_t>(extent.offset + in_extent_));
    } else {
      written = ::write(file_.get(), data.data(), size);
    }
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) throw failed(current_.name, errno);
    data = data.subspan(static_cast<size_t>(written));
    in_extent_ += static_cast<uint64_t>(written);
    if (current_.sparse && in_extent_ == current_.extents[extent_].size) {
      ++extent_;
      in_extent_ = 0;
    }
  }
}

void Extractor::finish() {
  // Without the end mark only the caller can know, by a digest, whether this is all. Some tools
  // leave the last member's padding out with it.
  if (state_ != State::kEnd && ((state_ != State::kHeader && state_ != State::kPadding) ||
                                filled_ != 0 || !local_.empty() || !long_name_.empty())) {
    throw ArchiveError(begun_ ? "the archive ends early" : "not a tar archive");
  }
  tree_.finish();
}

}  // namespace pyminicon::archive
