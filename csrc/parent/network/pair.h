// Two connected sockets, each of which gets what the other says.
#pragma once

#include <cstdint>
#include <vector>

namespace pyminicon::parent {

// In what the bytes lie on their way. As long as none do a direction has none.
class Pipes {
 public:
  struct Ends {
    int read = -1, write = -1;
  };
  ~Pipes();
  bool take(Ends& ends);
  void give(Ends& ends);  // empty
  static void drop(Ends& ends);

 private:
  std::vector<Ends> free_;
};

class Pair {
 public:
  // They are the pair's from now on.
  Pair(int one, int other);
  ~Pair();
  Pair(const Pair&) = delete;
  Pair& operator=(const Pair&) = delete;

  enum class State { kWaits, kGoesOn, kStarved, kEnded };
  // Carries what there is, for a while. kGoesOn: there is more, and no event will tell of it.
  // kStarved: likewise, for want of a pipe.
  State carry(Pipes& pipes);
  int socket(int which) const { return sockets_[which]; }

 private:
  struct Direction {
    Pipes::Ends pipe;
    uint32_t held = 0;  // bytes in it
    bool ended = false, told = false;
  };
  enum class Step { kMoved, kBlocked, kStarved, kBroken };
  Step move(Direction& direction, int from, int to, Pipes& pipes);
  Step fill(Direction& direction, int from, Pipes& pipes);

  int sockets_[2];
  Direction directions_[2];
  bool broken_ = false;
};

}  // namespace pyminicon::parent
