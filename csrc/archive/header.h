// One member's header: ustar, GNU and v7 blocks and PAX records, as checked values.
//
// POSIX.1-2017, pax, "ustar Interchange Format" and "pax Extended Header"; the GNU tar manual,
// "Basic Tar Format" and "Storing Sparse Files".
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pyminicon::archive {

constexpr size_t kBlock = 512;
using Block = std::array<unsigned char, kBlock>;

// Keys and values in the order of the archive: sparse maps repeat a key.
using Records = std::vector<std::pair<std::string, std::string>>;

// Of global headers only the last value of a key counts.
using GlobalRecords = std::map<std::string, std::string>;

// A piece of a sparse file: where it lies and how much of it is there.
struct Extent {
  uint64_t offset;
  uint64_t size;
};

struct Header {
  std::string name;
  std::string link;
  char type = '0';
  uint64_t size = 0;  // of the data that follows
  uint32_t mode = 0;
  uint64_t uid = 0;
  uint64_t gid = 0;
  int64_t mtime = 0;
  uint32_t mtime_ns = 0;
  uint32_t major = 0;
  uint32_t minor = 0;
  Records attributes;  // extended ones, by their names on Linux

  bool sparse = false;
  bool map_in_data = false;    // PAX 1.0: the map precedes the data
  bool map_continues = false;  // old GNU: blocks of map follow the header
  uint64_t real_size = 0;
  std::vector<Extent> extents;
};

bool is_zero(const Block& block);

// Throws ArchiveError for a block that is no header or holds numbers that can't be.
Header parse_header(const Block& block);

// One of the blocks that continue an old GNU map; whether another follows.
bool parse_more_extents(const Block& block, Header& header);

// The records of a PAX header that mean something here, appended to `records`; a later one of a key
// stands for the earlier.
void parse_records(std::string_view data, Records& records);

// The same of a global header, put over what earlier ones said. Throws ArchiveError when all
// together are more than anybody needs: every member that follows is given them.
void parse_global_records(std::string_view data, GlobalRecords& records);

// Puts records over what the header says.
void apply_records(const Records& records, Header& header);
void apply_records(const GlobalRecords& records, Header& header);

// Throws ArchiveError unless the map is in order, inside the file, and as long as the data.
void check_sparse(const Header& header, uint64_t data_size);

// A decimal number, all of it. Throws ArchiveError.
uint64_t parse_decimal(std::string_view text, const char* what);

}  // namespace pyminicon::archive
