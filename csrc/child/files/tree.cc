// A tree that a stranger made and goes on changing. Going up by ".." would lead elsewhere once a
// directory was moved, so the way up is kept as descriptors; and because a tree can be deeper than
// there are descriptors, what lies too deep is moved to the top first.
#include "child/files/tree.h"

#include "base/directory.h"
#include "base/kernel.h"
#include "base/syscall.h"
#include "child/fd.h"

namespace pyminicon::child {
namespace {

constexpr int kRemoveDir = 0x200;  // AT_REMOVEDIR
constexpr int kDeepest = 16;
constexpr uint32_t kPiece = 2048;  // names, some milliseconds

class Remover {
 public:
  Remover(int top, char* buffer, uint32_t size) : top_(top), buffer_(buffer), size_(size) {}

  // 0: `dir` is empty. 1: the piece is done, there may be more.
  long empty(int dir, int depth) {
    for (;;) {
      const long again = sys::call(SYS_lseek, dir, 0, 0);
      if (again < 0) return again;
      const long got = sys::call(SYS_getdents64, dir, sys::arg(buffer_), size_);
      if (got < 0) return got;
      bool nothing = true;
      for (long at = 0; at < got;) {
        const auto* entry = reinterpret_cast<const DirectoryEntry*>(buffer_ + at);
        at += entry->size;
        if (entry->is_dots()) continue;
        nothing = false;
        if (++done_ > kPiece) return 1;
        const long r = remove(dir, *entry, depth);
        if (r < 0) return r;
        if (r > 0) break;  // the buffer was used for what lies deeper
      }
      if (nothing) return 0;
      if (done_ > kPiece) return 1;
    }
  }

 private:
  // 0: gone. 1: it was a directory with something in it, of which a piece is gone.
  long remove(int dir, const DirectoryEntry& entry, int depth) {
    char name[256];
    uint32_t i = 0;
    for (; entry.name[i] != 0 && i + 1 < sizeof name; ++i) name[i] = entry.name[i];
    name[i] = 0;
    constexpr unsigned char kDirectory = 4, kUnknown = 0;
    long r = -EISDIR;
    if (entry.type != kDirectory) r = sys::call(SYS_unlinkat, dir, sys::arg(name), 0);
    if (r != -EISDIR && (r != -EPERM || entry.type != kUnknown)) return r == -ENOENT ? 0 : r;
    r = sys::call(SYS_unlinkat, dir, sys::arg(name), kRemoveDir);
    if (r != -ENOTEMPTY && r != -EEXIST) return r == -ENOENT ? 0 : r;
    if (depth == kDeepest) return lift(dir, name);
    const Root beneath{dir, kernel::kResolveNoSymlinks | kernel::kResolveNoXdev};
    const Fd inner(open_name(beneath, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    if (inner.failed()) return inner.get() == -ENOENT ? 1 : inner.get();
    if (r = empty(inner.get(), depth + 1); r < 0) return r;
    if (r == 0) sys::call(SYS_unlinkat, dir, sys::arg(name), kRemoveDir);
    return 1;
  }

  // A name that nobody has: the inode's number would do but for a stranger who foresees it.
  long lift(int dir, const char* name) {
    char to[] = ".pyminicon-rmtree-000000";
    for (uint32_t tries = 0; tries < 1000000; ++tries) {
      uint32_t number = lifted_++;
      for (uint32_t at = sizeof to - 2; at > sizeof to - 8; --at, number /= 10) {
        to[at] = static_cast<char>('0' + number % 10);
      }
      constexpr unsigned kNoReplace = 1;
      const long r = sys::call(SYS_renameat2, dir, sys::arg(name), top_, sys::arg(to), kNoReplace);
      if (r != -EEXIST) return r == 0 || r == -ENOENT ? 1 : r;
    }
    return -EEXIST;
  }

  const int top_;
  char* const buffer_;
  const uint32_t size_;
  uint32_t done_ = 0, lifted_ = 0;
};

}  // namespace

long remove_some(const Root& root, char* name, char* buffer, uint32_t size) {
  const char* last = nullptr;
  const Fd parent(open_parent(root, name, &last));
  if (parent.failed()) return parent.get();
  const Root here{parent.get(), 0};
  const Fd top(open_name(here, last, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  if (top.failed()) return top.get();
  const long r = Remover(top.get(), buffer, size).empty(top.get(), 0);
  if (r != 0) return r;
  const long gone = sys::call(SYS_unlinkat, parent.get(), sys::arg(last), kRemoveDir);
  return gone == -ENOTEMPTY || gone == -EEXIST ? 1 : gone;
}

}  // namespace pyminicon::child
