// A container whose init takes commands: what the caller holds of it, and of each command.
#pragma once

#include <atomic>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "base/command.h"
#include "parent/cgroup/cgroup.h"
#include "parent/files/fd.h"
#include "parent/plan/arena.h"
#include "parent/plan/spec.h"
#include "parent/process/patience.h"

namespace pyminicon::parent {

// A process inside that was forked ahead, by a worker of its own, and is in the cgroup of the
// command that comes next: what that would wait for otherwise has been waited for in a pause before
// it. To join a cgroup of v2 takes a grace period of the kernel's, 8 ms where little else happens.
struct Runner {
  Fd line;  // its command goes there, and nothing else
  Fd reply;
  uint32_t number = 0;
  Cgroup cgroup;
  int pid = 0;  // once it was told, as its pidfd
  Fd pidfd;
};

// The caller's ends of the sockets to init. Several threads may send at once: a message is whole.
class Living {
 public:
  Living(Fd commands, Fd control, CommandGround ground, bool lives)
      : lives_(lives),
        commands_(std::move(commands)),
        control_(std::move(control)),
        ground_(std::move(ground)) {}

  // Without a program of its own: it ends when it is told to.
  bool lives() const { return lives_; }
  // What a template's container is that has been told to run none.
  std::shared_ptr<Living> without_program(CommandGround ground) {
    return std::make_shared<Living>(std::move(commands_), std::move(control_), std::move(ground),
                                    true);
  }
  const CommandGround& ground() const { return ground_; }
  uint32_t next_number() { return ++number_; }

  // Sends a command that is laid out in `arena`, with its descriptors. Answers what heard_end() is
  // to be told when it has ended. Throws LaunchFailure (ESHUTDOWN where init has ended),
  // SetupTimeout.
  uint32_t send(Arena& arena, const std::vector<int>& fds, const Patience& patience);
  void heard_end(uint32_t turn);

  // The same with one that is nobody's turn: it may wait for as long as it likes.
  bool send_ahead(Arena& arena, const std::vector<int>& fds);
  // To a runner: false where it is gone, or where that isn't for one message.
  bool send_to(const Runner& runner, Arena& arena, const std::vector<int>& fds);
  // Whether there is none, and none that somebody is about to make.
  bool has_no_runner();
  // True: the caller is to make one, and then to keep it, or that there is none.
  bool begin_runner();
  void keep_runner(std::optional<Runner> runner);
  // The one that waits, for a command of `container`, where it has a cgroup; or nobody.
  std::optional<Runner> take_runner(const Cgroup* container, bool watch_oom);
  void let_go_of(Runner runner);
  // Of a command of which nobody inside has the reply any more: false only where it never began.
  bool has_begun(uint32_t number);

  void order(InitOrder what, uint32_t number);
  // The cgroup of a command that has ended; `unharmed`: nobody was killed in it. It is the next
  // one's where it can be, and removed elsewhere, when the last process has gone that is left in
  // it.
  void leave(Cgroup cgroup, bool unharmed);
  // One that lies elsewhere than the container's goes with the container all the same.
  void note_apart(const Cgroup& cgroup);
  Cgroup spare_group(const Cgroup& container, bool watch_oom);  // or none
  void remove_kept();
  void remove_spares();  // and the runner, for good: the container has ended
  void close();          // init ends, and all with it
  bool ended() const;

 private:
  struct Turn {
    uint32_t sent, turn;
    bool company;
  };
  Turn take_turn();
  void give_back(uint32_t turn);
  void send_whole(int socket, const void* bytes, size_t size, const std::vector<int>& fds,
                  const Patience& patience);

  const bool lives_;
  Fd commands_, control_;
  const CommandGround ground_;
  std::atomic<uint32_t> number_{0};
  Fd begun_;  // under lock_, once it was asked for
  std::mutex lock_;
  // Too much is charged to it for another command yet: the commands of a tight loop fill one after
  // the other, and the kernel empties them a grace period later.
  struct Resting {
    Cgroup cgroup;
    int64_t since;
  };
  Cgroup pop_spare();
  std::optional<Resting> pop_rested();
  bool rest(Cgroup& cgroup);
  void give_away(Cgroup cgroup);  // it is removed, now or when nobody is left in it
  bool removed(Cgroup& cgroup);
  std::optional<Runner> pop_runner();
  void dismiss_runner();            // for good
  std::deque<Cgroup> kept_;         // under lock_
  std::vector<Cgroup> spares_;      // under lock_
  std::deque<Resting> resting_;     // under lock_
  std::vector<std::string> apart_;  // under lock_
  bool over_ = false;               // under lock_: nobody takes one any more
  std::optional<Runner> runner_;    // under lock_
  bool makes_runner_ = false;       // under lock_: there is one, or it is being made
  bool no_runner_ = false;          // under lock_: all that is inside is being ended
  // Under lock_: how many commands were sent, and how many of those that may still run init hasn't
  // been told of as company of another. Each telling begins another turn.
  uint32_t sent_ = 0, untold_ = 0, turn_ = 0;
};

// The caller's end of one command: init is asked to end it, its worker tells what becomes of it
// through `reply`, which is readable when its first process has ended, and from then on.
class CommandEnd {
 public:
  CommandEnd(std::shared_ptr<Living> container, int reply, bool piped, uint32_t number)
      : container_(std::move(container)), reply_(reply), piped_(piped), number_(number) {}

  void begun(uint32_t turn) { turn_ = turn; }
  // By a runner, which is that process. Of one that isn't quiet `reply` stays here until the
  // beginning was heard of through the runner's line.
  void begun_by_runner(int pid, Fd pidfd, int line, Fd reply);
  Fd take_reply() { return std::move(own_reply_); }
  int pidfd() const { return pidfd_.get(); }  // of its first process

  // The first word, that it executes its program or can't; false: there will be none. It has ended
  // before, with its container or by a hand inside. Nothing: not yet.
  std::optional<bool> heard(CommandReply& word);

  void end(bool killed);  // all that descends from it, unless that has been killed; doesn't wait
  void leave(Cgroup cgroup, bool unharmed) { container_->leave(std::move(cgroup), unharmed); }
  void remind();  // once more: init may not have known it when it was told

  struct Ended {
    bool known = false;  // else it has gone with its container, or somebody has killed its worker
    int status = 0;      // as wait(2) tells it
    double user = 0, system = 0;
    int64_t lasted = 0;  // ns
  };
  // Of one that has ended: who was to be it, or to begin it, was killed before.
  bool never_began() const;
  // Why a quiet one couldn't begin; nothing: it did, or hasn't been heard of.
  const std::optional<CommandReply>& failure() const { return failure_; }

  // How it has ended, or nothing: it goes on. After end() that is the end of the last of its
  // processes, and the reply is readable once more then.
  std::optional<Ended> look();

 private:
  void hear_end();
  std::optional<bool> heard_of_runner(CommandReply& word);

  std::shared_ptr<Living> container_;
  std::optional<uint32_t> turn_;  // until its end was heard of
  int reply_;                     // Launched has it
  bool piped_;  // a quiet one's reply is a pipe: no descriptor comes with its words
  Fd pidfd_;
  int line_ = -1;  // to its runner, as long as own_reply_ is here: Launched has it
  Fd own_reply_;
  int pid_ = 0;
  bool taken_ = false;  // by its runner
  uint32_t number_;
  std::optional<CommandReply> failure_;
  bool asked_ = false;
  Ended end_;
};

}  // namespace pyminicon::parent
