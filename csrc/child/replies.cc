#include "child/replies.h"

#include <sys/socket.h>

#include "base/syscall.h"

namespace pyminicon::child {
namespace {

template <typename Control>
void attach(msghdr& message, Control& control, int fd) {
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  *reinterpret_cast<int*>(CMSG_DATA(header)) = fd;
}

}  // namespace

long tell(int reply, const CommandReply& word, int pidfd) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  iovec data{const_cast<CommandReply*>(&word), sizeof word};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  if (pidfd >= 0) attach(message, control, pidfd);
  return sys::call(SYS_sendmsg, reply, sys::arg(&message), MSG_NOSIGNAL | MSG_DONTWAIT);
}

long tell_failure(int reply, Stage stage, int32_t index, int32_t error) {
  CommandReply word{};
  word.word = CommandWord::kFailed;
  word.stage = static_cast<uint32_t>(stage);
  word.index = index;
  word.error = error;
  return tell(reply, word, -1);
}

long tell_failure(int reply, const Report& report) {
  return tell_failure(reply, static_cast<Stage>(report.stage), report.index, report.error);
}

void tell_beginning(int reply, const Report& report, int32_t pid, int pidfd) {
  if (report.error != 0) {
    tell_failure(reply, report);
    return;
  }
  CommandReply word{};
  word.pid = pid;
  tell(reply, word, pidfd);
}

long hand_over(int worker, uint32_t quiet, int reply) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  iovec data{&quiet, sizeof quiet};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  attach(message, control, reply);
  return sys::call(SYS_sendmsg, worker, sys::arg(&message), MSG_NOSIGNAL);
}

}  // namespace pyminicon::child
