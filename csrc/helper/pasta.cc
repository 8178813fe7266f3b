#include "helper/pasta.h"

#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "base/kernel.h"
#include "base/message.h"
#include "base/signals.h"
#include "base/syscall.h"

namespace pyminicon::helper {
namespace {

struct Talk {
  int container, report, started, words, pasta;
  bool up = false;
  char text[700] = {};
  unsigned long size = 0;
};

// The pid file is said to be written "once initialisation is done" (pasta(1)), in all versions:
// here it is a pipe. What is opened anew must belong to whoever opens it, so it is made here.
[[noreturn]] void exec_pasta(int netns, const int (&started)[2], const int (&words)[2],
                             const char* const* argv) {
  // By its stdin: newer versions close whatever lies above 2.
  sys::call(SYS_dup3, netns, 0, 0);
  sys::call(SYS_dup3, started[1], 1, 0);
  sys::call(SYS_dup3, words[1], 2, 0);
  sys::call(kernel::kSysCloseRange, 3, ~0U, kernel::kCloseRangeCloexec);
  // What a program ignores (Python: SIGPIPE) is inherited, and pasta of 2023 takes the answer
  // "ignored before" for a failure.
  reset_signal_actions();
  const uint64_t none = 0;
  sys::call(SYS_rt_sigprocmask, SIG_SETMASK, sys::arg(&none), 0, sizeof none);
  const char* const environment[] = {nullptr};
  const long error =
      sys::call(SYS_execve, sys::arg(argv[0]), sys::arg(argv), sys::arg(environment));
  const char word[] = {1, static_cast<char>(-error)};
  sys::write(2, word, sizeof word);
  sys::exit_group(127);
}

void say(Talk& talk, char what) {
  talk.text[0] = what;
  send_message(talk.report, talk.text, talk.size + 1, nullptr, 0, MSG_NOSIGNAL | MSG_DONTWAIT);
}

// There is no pasta, for want of something of our own.
[[noreturn]] void give_up(Talk& talk, long result) {
  talk.text[1] = static_cast<char>(-result);
  talk.size = 1;
  say(talk, 'k');
  sys::exit_group(1);
}

// False at their end. After the beginning they are read and dropped: a full pipe would hold it up.
bool hear(Talk& talk) {
  char dropped[512];
  char* to = talk.text + 1 + talk.size;
  unsigned long room = sizeof talk.text - 1 - talk.size;
  if (talk.up || room == 0) {
    to = dropped;
    room = sizeof dropped;
  }
  const long got = sys::read(talk.words, to, room);
  if (got > 0 && to != dropped) talk.size += static_cast<unsigned long>(got);
  return got > 0;
}

void tell_of_end(Talk& talk) {
  while (hear(talk)) {
  }
  const bool unborn = talk.size >= 2 && talk.text[1] == 1;
  if (!talk.up) say(talk, unborn ? 'x' : 'e');
}

[[noreturn]] void attend(Talk& talk) {
  for (;;) {
    pollfd watched[] = {{talk.container, POLLIN, 0},
                        {talk.report, POLLIN, 0},
                        {talk.started, POLLIN, 0},
                        {talk.words, POLLIN, 0},
                        {talk.pasta, POLLIN, 0}};
    sys::call(SYS_ppoll, sys::arg(watched), 5, 0, 0, 0);
    if (watched[0].revents != 0 || watched[1].revents != 0) sys::exit_group(0);
    if (watched[3].revents != 0 && !hear(talk)) talk.words = -1;
    if (watched[2].revents != 0) {
      char number[32];
      const long got = sys::read(talk.started, number, sizeof number);
      if (got <= 0) talk.started = -1;
      talk.up = talk.up || (got > 0 && number[0] > '0' && number[0] <= '9');
      if (!talk.up || got <= 0) continue;
      talk.started = -1;
      talk.size = 0;
      say(talk, 'r');
    } else if (watched[4].revents != 0) {
      tell_of_end(talk);
      sys::exit_group(1);
    }
  }
}

// Whoever stops this and kills the owner has stopped it no longer than until then.
void be_continued_at_owners_end(int report) {
  sys::fcntl(report, F_SETOWN, sys::call(SYS_getpid));
  sys::fcntl(report, 10 /* F_SETSIG */, SIGCONT);
  sys::fcntl(report, F_SETFL, sys::fcntl(report, F_GETFL) | O_ASYNC);
}

}  // namespace

void keep_pasta(int container, int netns, int report, const char* const* argv) {
  sys::prctl(PR_SET_NAME, sys::arg("pyminicon-pasta"));
  Talk talk{container, report, -1, -1, -1};
  long taken = 0;
  while (taken >= 0 && taken < 2) taken = sys::openat(AT_FDCWD, "/dev/null", O_RDWR);
  if (taken < 0) give_up(talk, taken);
  be_continued_at_owners_end(report);
  // Root of the user namespace, whatever the caller is called there: what pasta sets up takes it.
  // Where it has no root it has been given the capabilities (ambient).
  sys::call(SYS_setresgid, 0, 0, 0);
  sys::call(SYS_setresuid, 0, 0, 0);
  int started[2] = {-1, -1}, words[2] = {-1, -1};
  long made = sys::call(SYS_pipe2, sys::arg(started), O_CLOEXEC);
  if (made >= 0) made = sys::call(SYS_pipe2, sys::arg(words), O_CLOEXEC);
  if (made < 0) give_up(talk, made);
  int pidfd = -1;
  const long child = sys::call(SYS_clone, static_cast<long>(kernel::kClonePidfd | SIGCHLD), 0,
                               sys::arg(&pidfd), 0, 0);
  if (child < 0) give_up(talk, child);
  if (child == 0) exec_pasta(netns, started, words, argv);
  sys::close(netns);
  sys::close(started[1]);
  sys::close(words[1]);
  sys::fcntl(words[0], F_SETFL, O_NONBLOCK);  // some child of its may hold the other end
  talk.started = started[0];
  talk.words = words[0];
  talk.pasta = pidfd;
  attend(talk);
}

}  // namespace pyminicon::helper
