// Facts about csrc/archive: what an archive may say, in pieces of every size, damaged in every
// place.
//
// Run under ASan and UBSan this is the extractor's fuzzer too: it sees far more broken archives
// than the Python tests can afford.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <random>
#include <string>

#include "archive/error.h"
#include "archive/extractor.h"

using namespace pyminicon::archive;
namespace fs = std::filesystem;

namespace {

int failures = 0;

void check(bool holds, const char* what, int line) {
  if (holds) return;
  ++failures;
  std::printf("  FAILED line %d: %s\n", line, what);
}
#define CHECK(condition) check(condition, #condition, __LINE__)

// A directory of its own below the working one, gone with the object.
struct Place {
  Place() {
    char name[] = "/tmp/pyminicon-archive-XXXXXX";
    if (mkdtemp(name) == nullptr) std::abort();
    path = name;
    fs::create_directory(path / "root");
    fd = open((path / "root").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  }
  ~Place() {
    close(fd);
    fs::remove_all(path);
  }
  fs::path path;
  int fd;
};

void put(std::string& block, size_t at, const std::string& text) {
  block.replace(at, text.size(), text);
}

std::string octal(uint64_t value, int width) {
  char text[32];
  std::snprintf(text, sizeof text, "%0*llo", width, static_cast<unsigned long long>(value));
  return text;
}

void seal(std::string& block) {
  put(block, 148, "        ");
  unsigned sum = 0;
  for (const char byte : block) sum += static_cast<unsigned char>(byte);
  put(block, 148, octal(sum, 6) + '\0' + ' ');
}

std::string member(const std::string& name, char type, const std::string& data = "",
                   const std::string& link = "") {
  std::string block(512, '\0');
  put(block, 0, name.substr(0, 100));
  put(block, 100, octal(0644, 7));
  put(block, 108, octal(getuid(), 7));
  put(block, 116, octal(getgid(), 7));
  put(block, 124, octal(data.size(), 11));
  put(block, 136, octal(1'000'000'000, 11));
  block[156] = type;
  put(block, 157, link.substr(0, 100));
  put(block, 257,
      std::string("ustar\0"
                  "00",
                  8));
  seal(block);
  std::string padded = data;
  padded.resize((data.size() + 511) / 512 * 512, '\0');
  return block + padded;
}

std::string record(const std::string& key, const std::string& value) {
  const std::string rest = " " + key + "=" + value + "\n";
  size_t length = rest.size() + 1;
  while (std::to_string(length).size() + rest.size() != length) ++length;
  return std::to_string(length) + rest;
}

// The map of a sparse file in PAX 1.0: three bytes at 50000, the end at 100000.
std::string map_block() {
  std::string block = "2\n50000\n3\n100000\n0\n";
  block.resize(512, '\0');
  return block;
}

const std::string kEnd(1024, '\0');

std::string sample() {
  return member("dir/", '5') + member("dir/file", '0', std::string(700, 'x')) +
         member("dir/link", '2', "", "../../../etc") + member("dir/hard", '1', "", "dir/file") +
         member("PaxHeader", 'x', record("path", std::string(250, 'p')) + record("mtime", "-1.5")) +
         member("short", '0', "pax") + member("././@LongLink", 'L', std::string(200, 'l') + '\0') +
         member("short", '0', "gnu") + member("fifo", '6') + member("dir/.wh.gone", '0') +
         member("dir/.wh..wh..opq", '0') +
         member("PaxHeader", 'x',
                record("GNU.sparse.major", "1") + record("GNU.sparse.minor", "0") +
                    record("GNU.sparse.name", "sparse") + record("GNU.sparse.realsize", "100000")) +
         member("GNUSparseFile.0/sparse", '0', map_block() + "abc") + kEnd;
}

// What is wrong with the archive, "" when nothing is.
std::string extract(const std::string& data, size_t piece, int fd, uint64_t entries = 1000) {
  try {
    Extractor extractor(fd, Rules{.own = getuid() == 0}, entries);
    for (size_t at = 0; at < data.size(); at += piece) {
      const size_t size = std::min(piece, data.size() - at);
      extractor.feed({reinterpret_cast<const unsigned char*>(data.data()) + at, size});
    }
    extractor.finish();
    return extractor.complete() ? "" : "no end mark";
  } catch (const ArchiveError& error) {
    return error.what();
  }
}

std::string content(const fs::path& path) {
  std::FILE* file = std::fopen(path.c_str(), "rb");
  if (file == nullptr) return "(none)";
  std::string all(200'000, '\0');
  all.resize(std::fread(all.data(), 1, all.size(), file));
  std::fclose(file);
  return all;
}

void archives_arrive_whole_in_pieces_of_any_size() {
  for (const size_t piece : {1u, 7u, 511u, 512u, 513u, 4096u, 1u << 20}) {
    const Place place;
    CHECK(extract(sample(), piece, place.fd) == "");
    const fs::path root = place.path / "root";
    CHECK(content(root / "dir/file") == std::string(700, 'x'));
    CHECK(fs::hard_link_count(root / "dir/file") == 2);
    CHECK(fs::read_symlink(root / "dir/link") == "../../../etc");
    CHECK(content(root / std::string(250, 'p')) == "pax");
    CHECK(content(root / std::string(200, 'l')) == "gnu");
    const std::string sparse = content(root / "sparse");
    CHECK(sparse.size() == 100'000);
    CHECK(sparse.substr(50'000, 3) == "abc");
    struct stat status;
    CHECK(lstat((root / "dir/gone").c_str(), &status) == 0 && S_ISCHR(status.st_mode));
    CHECK(status.st_rdev == 0);
  }
}

void every_cut_is_noticed() {
  const std::string whole = sample();
  for (size_t size = 0; size + 512 < whole.size(); size += 171) {
    const Place place;
    CHECK(extract(whole.substr(0, size), 4096, place.fd) != "");
  }
}

void numbers_beyond_all_bounds_are_refused() {
  const Place place;
  for (const auto& [at, width] : {std::pair{124, 12}, {108, 8}, {136, 12}, {329, 8}}) {
    std::string data = member("a", at == 329 ? '3' : '0') + kEnd;
    for (int i = 0; i < width; ++i) data[at + i] = static_cast<char>(0xbf);
    std::string head = data.substr(0, 512);
    seal(head);
    CHECK(extract(head + data.substr(512), 4096, place.fd) != "");
  }
}

void more_entries_than_allowed_are_refused() {
  const Place place;
  CHECK(
      extract(member("a", '0') + member("b", '0') + kEnd, 4096, place.fd, 1).find("more than 1") ==
      0);
}

// Whatever is broken: an answer, no crash, and nothing beside the root.
void broken_archives_do_no_harm() {
  std::mt19937 random(20240229);
  const std::string whole = sample();
  const char* rounds = std::getenv("PYMINICON_FUZZ_ROUNDS");
  for (int round = 0; round < (rounds ? std::atoi(rounds) : 1000); ++round) {
    std::string broken = whole;
    for (auto i = random() % 6 + 1; i > 0; --i) {
      const size_t at = random() % broken.size();
      switch (random() % 4) {
        case 0:
          broken[at] = static_cast<char>(random());
          break;
        case 1:
          broken.erase(at, random() % 600);
          break;
        case 2:
          broken.insert(at, broken.substr(random() % broken.size(), random() % 600));
          break;
        default: {  // a broken header with a right checksum gets further
          const size_t block = at / 512 * 512;
          std::string head = broken.substr(block, 512);
          if (head.size() < 512) break;
          head[random() % 345] = static_cast<char>(random());
          seal(head);
          broken.replace(block, 512, head);
        }
      }
    }
    const Place place;
    extract(broken, random() % 2000 + 1, place.fd);
    size_t beside = 0;
    for ([[maybe_unused]] const auto& entry : fs::directory_iterator(place.path)) ++beside;
    CHECK(beside == 1);
    fs::permissions(place.path / "root", fs::perms::owner_all, fs::perm_options::add);
  }
}

}  // namespace

int main() {
  archives_arrive_whole_in_pieces_of_any_size();
  every_cut_is_noticed();
  numbers_beyond_all_bounds_are_refused();
  more_entries_than_allowed_are_refused();
  broken_archives_do_no_harm();
  std::printf("archive_test: %d failures\n", failures);
  return failures != 0;
}
