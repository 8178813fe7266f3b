#include "archive/header.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <limits>

#include "archive/error.h"

namespace pyminicon::archive {
namespace {

// Far above what a file system holds, far below where sums overflow.
constexpr uint64_t kLargest = uint64_t{1} << 60;

std::string_view view(const Block& block, size_t at, size_t size) {
  return {reinterpret_cast<const char*>(block.data()) + at, size};
}

std::string text(const Block& block, size_t at, size_t size) {
  const auto field = view(block, at, size);
  return std::string(field.substr(0, field.find('\0')));
}

// Octal digits between spaces and NULs or, with the top bit set, a big-endian two's complement.
int64_t number(const Block& block, size_t at, size_t size, const char* what) {
  if (block[at] & 0x80) {
    uint64_t value = block[at] & 0x40 ? ~uint64_t{0} : 0;
    for (size_t i = 0; i < size; ++i) {
      const uint64_t byte =
          i == 0 ? (block[at] & 0x7f) | (block[at] & 0x40 ? 0x80 : 0) : block[at + i];
      const uint64_t top = value >> 55;
      if (top != 0 && top != 0x1ff)
        throw ArchiveError(std::string("a header with a ") + what + " beyond all bounds");
      value = value << 8 | byte;
    }
    return static_cast<int64_t>(value);
  }
  const auto field = view(block, at, size);
  const size_t start = std::min(field.find_first_not_of(' '), size);
  const size_t end = std::min(field.find_first_of(std::string_view(" \0", 2), start), size);
  int64_t value = 0;
  const auto [last, error] = std::from_chars(field.data() + start, field.data() + end, value, 8);
  if (end != start && (error != std::errc() || last != field.data() + end || value < 0)) {
    throw ArchiveError(std::string("a header whose ") + what + " isn't a number");
  }
  return value;
}

uint64_t positive(const Block& block, size_t at, size_t size, const char* what) {
  const int64_t value = number(block, at, size, what);
  if (value < 0 || static_cast<uint64_t>(value) > kLargest) {
    throw ArchiveError(std::string("a header with a ") + what + " beyond all bounds");
  }
  return static_cast<uint64_t>(value);
}

// The sum over the block with the field itself read as spaces. Some old tars summed signed chars.
void check_sum(const Block& block) {
  int64_t sum = 8L * ' ', with_sign = 8L * ' ';
  for (size_t i = 0; i < kBlock; ++i) {
    if (i >= 148 && i < 156) continue;
    sum += block[i];
    with_sign += static_cast<signed char>(block[i]);
  }
  int64_t said;
  try {
    said = number(block, 148, 8, "checksum");
  } catch (const ArchiveError&) {
    throw ArchiveError("not a tar archive, or a damaged one");
  }
  if (said != sum && said != with_sign) throw ArchiveError("not a tar archive, or a damaged one");
}

uint32_t narrow(uint64_t value, const char* what) {
  if (value > std::numeric_limits<uint32_t>::max()) {
    throw ArchiveError(std::string("a header with a ") + what + " beyond all bounds");
  }
  return static_cast<uint32_t>(value);
}

void add_extent(const Block& block, size_t at, Header& header) {
  // An unused slot is all zeros; so is the end mark of a file that ends in a hole, which needs
  // none.
  const uint64_t offset = positive(block, at, 12, "sparse map");
  const uint64_t size = positive(block, at + 12, 12, "sparse map");
  if (offset != 0 || size != 0) header.extents.push_back({offset, size});
}

void parse_old_sparse(const Block& block, Header& header) {
  header.sparse = true;
  for (size_t i = 0; i < 4; ++i) add_extent(block, 386 + 24 * i, header);
  header.map_continues = block[482] != 0;
  header.real_size = positive(block, 483, 12, "size");
}

// "1234567890.25": seconds and nanoseconds, before 1970 too.
void parse_time(std::string_view value, Header& header) {
  const size_t dot = std::min(value.find('.'), value.size());
  int64_t seconds = 0;
  const auto whole = value.substr(0, dot);
  const auto [last, error] = std::from_chars(whole.data(), whole.data() + whole.size(), seconds);
  if (error != std::errc() || last != whole.data() + whole.size()) {
    throw ArchiveError("a PAX header whose mtime isn't a number");
  }
  std::string digits(value.substr(std::min(dot + 1, value.size())));
  digits.resize(9, '0');
  auto fraction = static_cast<uint32_t>(parse_decimal(digits, "mtime"));
  if (whole.starts_with('-') && fraction != 0) {
    --seconds;
    fraction = 1'000'000'000 - fraction;
  }
  header.mtime = seconds;
  header.mtime_ns = fraction;
}

// "offset,size,offset,size": PAX 0.1.
void parse_map(std::string_view value, Header& header) {
  header.extents.clear();
  while (!value.empty()) {
    const size_t comma = value.find(',');
    if (comma == std::string_view::npos) throw ArchiveError("a sparse map of odd length");
    const size_t end = std::min(value.find(',', comma + 1), value.size());
    header.extents.push_back(
        {parse_decimal(value.substr(0, comma), "sparse map"),
         parse_decimal(value.substr(comma + 1, end - comma - 1), "sparse map")});
    value.remove_prefix(std::min(end + 1, value.size()));
  }
}

void apply_sparse(std::string_view key, const std::string& value, Header& header) {
  if (key == "major") {
    header.map_in_data = value == "1";
  } else if (key == "name") {
    header.name = value;
  } else if (key == "size" || key == "realsize") {
    header.real_size = parse_decimal(value, "sparse size");
  } else if (key == "map") {
    parse_map(value, header);
  } else if (key == "offset") {
    header.extents.push_back({parse_decimal(value, "sparse map"), 0});
  } else if (key == "numbytes") {
    if (header.extents.empty()) throw ArchiveError("a sparse map of odd length");
    header.extents.back().size = parse_decimal(value, "sparse map");
  }
  header.sparse = true;
}

constexpr std::string_view kSparse = "GNU.sparse.";
constexpr std::string_view kAttribute = "SCHILY.xattr.";
constexpr std::array<std::string_view, 6> kKeys = {"path", "linkpath", "size",
                                                   "uid",  "gid",      "mtime"};
// Tools write a comment or a few names and times for the whole archive.
constexpr size_t kMostGlobal = 1000;
constexpr size_t kLargestGlobal = 1 << 20;

bool means_something(std::string_view key) {
  return key.starts_with(kSparse) || key.starts_with(kAttribute) ||
         std::find(kKeys.begin(), kKeys.end(), key) != kKeys.end();
}

void apply(const std::string& key, const std::string& value, Header& header) {
  const std::string_view name = key;
  if (name.starts_with(kSparse)) {
    apply_sparse(name.substr(kSparse.size()), value, header);
  } else if (name.starts_with(kAttribute)) {
    header.attributes.emplace_back(name.substr(kAttribute.size()), value);
  } else if (key == "path") {
    header.name = value;
  } else if (key == "linkpath") {
    header.link = value;
  } else if (key == "size") {
    header.size = parse_decimal(value, "size");
  } else if (key == "uid") {
    header.uid = parse_decimal(value, "uid");
  } else if (key == "gid") {
    header.gid = parse_decimal(value, "gid");
  } else if (key == "mtime") {
    parse_time(value, header);
  }
}

}  // namespace

uint64_t parse_decimal(std::string_view value, const char* what) {
  uint64_t found = 0;
  const auto [last, error] = std::from_chars(value.data(), value.data() + value.size(), found);
  if (error != std::errc() || last != value.data() + value.size() || found > kLargest) {
    throw ArchiveError(std::string("a PAX header whose ") + what + " isn't a number");
  }
  return found;
}

bool is_zero(const Block& block) {
  return block[0] == 0 && std::memcmp(block.data(), block.data() + 1, kBlock - 1) == 0;
}

Header parse_header(const Block& block) {
  check_sum(block);
  Header header;
  header.name = text(block, 0, 100);
  header.mode = static_cast<uint32_t>(positive(block, 100, 8, "mode") & 07777);
  header.uid = positive(block, 108, 8, "uid");
  header.gid = positive(block, 116, 8, "gid");
  header.size = positive(block, 124, 12, "size");
  header.mtime = number(block, 136, 12, "mtime");
  header.type = block[156] == '\0' ? '0' : static_cast<char>(block[156]);
  header.link = text(block, 157, 100);
  if (view(block, 257, 5) == "ustar") {
    header.major = narrow(positive(block, 329, 8, "device number"), "device number");
    header.minor = narrow(positive(block, 337, 8, "device number"), "device number");
    // GNU ("ustar  ") uses the room of the prefix for other things.
    if (block[262] == '\0' && block[345] != '\0') {
      header.name = text(block, 345, 155) + "/" + header.name;
    }
  }
  if (header.type == 'S') {
    parse_old_sparse(block, header);
    header.type = '0';
  }
  // Before POSIX a directory was a file whose name ends in a slash.
  if (header.type == '0' && header.name.ends_with('/')) header.type = '5';
  return header;
}

bool parse_more_extents(const Block& block, Header& header) {
  for (size_t i = 0; i < 21; ++i) add_extent(block, 24 * i, header);
  return block[504] != 0;
}

void parse_records(std::string_view data, Records& records) {
  while (!data.empty() && data[0] != '\0') {
    // "LENGTH KEY=VALUE\n", the length counting itself.
    const size_t space = data.find(' ');
    size_t length = 0;
    if (space < 20) length = parse_decimal(data.substr(0, space), "length");
    if (space == std::string_view::npos || length < space + 3 || length > data.size() ||
        data[length - 1] != '\n') {
      throw ArchiveError("a PAX header that is damaged");
    }
    const auto record = data.substr(space + 1, length - space - 2);
    const size_t equals = record.find('=');
    if (equals == std::string_view::npos || equals == 0) {
      throw ArchiveError("a PAX header that is damaged");
    }
    const auto key = record.substr(0, equals);
    if (means_something(key)) records.emplace_back(key, record.substr(equals + 1));
    data.remove_prefix(length);
  }
}

void parse_global_records(std::string_view data, GlobalRecords& records) {
  Records found;
  parse_records(data, found);
  for (auto& [key, value] : found) {
    // A map of holes is one file's.
    if (!key.starts_with(kSparse)) records[key] = std::move(value);
  }
  size_t bytes = 0;
  for (const auto& [key, value] : records) bytes += key.size() + value.size();
  if (records.size() > kMostGlobal || bytes > kLargestGlobal) {
    throw ArchiveError("global headers of more than 1 MiB or 1000 records");
  }
}

namespace {

template <typename Any>
void apply_all(const Any& records, Header& header) {
  for (const auto& [key, value] : records) {
    // An empty value takes an earlier record back: the header's own stands, unless it is an
    // extended attribute, which may be empty.
    if (!value.empty() || key.starts_with(kAttribute)) apply(key, value, header);
  }
}

}  // namespace

void apply_records(const Records& records, Header& header) { apply_all(records, header); }

void apply_records(const GlobalRecords& records, Header& header) { apply_all(records, header); }

void check_sparse(const Header& header, uint64_t data_size) {
  uint64_t end = 0, sum = 0;
  for (const auto& [offset, size] : header.extents) {
    if (offset < end || offset > kLargest || size > kLargest) {
      throw ArchiveError(header.name + ": a sparse map out of order");
    }
    end = offset + size;
    sum += size;
  }
  if (end > header.real_size || sum != data_size) {
    throw ArchiveError(header.name + ": a sparse map that doesn't fit the file");
  }
}

}  // namespace pyminicon::archive
