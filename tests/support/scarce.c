// Refuses the Nth thing that a program asks the kernel for: a descriptor (EMFILE), a process or
// thread (EAGAIN) or memory (ENOMEM).
//
//   scarce COMMAND...
//
// The program finds the number of a socket in SCARCE_FD. A message "N" on it arms, and is answered
// "armed"; "0" disarms, and is answered "NAME COUNT": the call that was refused (or "none") and how
// many there were. What counts are the program's own calls and those of the launcher's helper, not
// those of what is run in a container.
#define _GNU_SOURCE
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SYS_openat2
#define SYS_openat2 437
#endif

static const struct Call {
  long number;
  int error;
  const char* name;
} calls[] = {
    {SYS_openat, EMFILE, "openat"},
    {SYS_openat2, EMFILE, "openat2"},
    {SYS_pipe2, EMFILE, "pipe2"},
    {SYS_socket, EMFILE, "socket"},
    {SYS_socketpair, EMFILE, "socketpair"},
    {SYS_accept4, EMFILE, "accept"},
    {SYS_eventfd2, EMFILE, "eventfd"},
    {SYS_signalfd4, EMFILE, "signalfd"},
    {SYS_memfd_create, EMFILE, "memfd_create"},
    {SYS_epoll_create1, EMFILE, "epoll_create"},
    {SYS_dup, EMFILE, "dup"},
    {434, EMFILE, "pidfd_open"},
    {428, EMFILE, "open_tree"},
    {444, EMFILE, "landlock_create_ruleset"},
    {435, EAGAIN, "clone3"},
    {SYS_clone, EAGAIN, "clone"},
    {SYS_mmap, ENOMEM, "mmap"},
};
#define CALLS (sizeof calls / sizeof calls[0])

static int filter(void) {
  struct sock_filter program[2 + 2 * CALLS];
  size_t at = 0;
  program[at++] =
      (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
  for (size_t i = 0; i < CALLS; ++i) {
    program[at++] =
        (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)calls[i].number, 0, 1);
    program[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF);
  }
  program[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  struct sock_fprog whole = {(unsigned short)at, program};
  if (geteuid() != 0) prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  // Or a signal would interrupt calls that the program takes for uninterruptible.
  const unsigned killable = 1 << 5;  // SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, Linux 5.19
  const unsigned listener = SECCOMP_FILTER_FLAG_NEW_LISTENER;
  const int made = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, listener | killable, &whole);
  return made >= 0 || errno != EINVAL
             ? made
             : (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, listener, &whole);
}

static void pass(int socket, int fd) {
  char control[CMSG_SPACE(sizeof fd)] = {0}, byte = 0;
  struct iovec data = {&byte, 1};
  struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control};
  message.msg_controllen = sizeof control;
  struct cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof fd);
  memcpy(CMSG_DATA(header), &fd, sizeof fd);
  if (sendmsg(socket, &message, 0) < 0) exit(125);
}

static int take(int socket) {
  char control[CMSG_SPACE(sizeof(int))], byte;
  struct iovec data = {&byte, 1};
  struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control};
  message.msg_controllen = sizeof control;
  int fd = -1;
  if (recvmsg(socket, &message, 0) == 1) memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
  return fd;
}

static char own[4096];  // the program's executable

static int counts(pid_t pid) {
  char path[64], exe[4096];
  snprintf(path, sizeof path, "/proc/%d/exe", pid);
  const ssize_t size = readlink(path, exe, sizeof exe - 1);
  if (size <= 0) return 0;
  exe[size] = 0;
  if (own[0] == 0) strcpy(own, exe);
  return strcmp(exe, own) == 0 || strstr(exe, "memfd:pyminicon") != NULL;
}

int main(int argc, char** argv) {
  int control[2];
  if (argc < 2 || socketpair(AF_UNIX, SOCK_SEQPACKET, 0, control) < 0) return 125;
  const pid_t program = fork();
  if (program == 0) {
    close(control[0]);
    const int listener = filter();
    if (listener < 0) _exit(126);
    pass(control[1], listener);
    close(listener);
    char number[12];
    snprintf(number, sizeof number, "%d", control[1]);
    setenv("SCARCE_FD", number, 1);
    execvp(argv[1], argv + 1);
    _exit(127);
  }
  close(control[1]);
  const int listener = take(control[0]);
  if (listener < 0) return 126;
  long left = 0, count = 0;
  const char* refused = "none";
  for (;;) {
    struct pollfd watched[] = {{control[0], POLLIN, 0}, {listener, POLLIN, 0}};
    poll(watched, 2, -1);
    if (watched[1].revents & POLLIN) {
      struct seccomp_notif asked;
      memset(&asked, 0, sizeof asked);
      if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &asked) < 0) continue;
      struct seccomp_notif_resp answer = {asked.id, 0, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE};
      if (left > 0 && counts((pid_t)asked.pid) && ++count == left) {
        for (size_t i = 0; i < CALLS; ++i) {
          if (calls[i].number != asked.data.nr) continue;
          refused = calls[i].name;
          answer.error = -calls[i].error;
          answer.flags = 0;
        }
      }
      ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
    } else if (watched[0].revents != 0) {
      char line[64];
      const ssize_t got = recv(control[0], line, sizeof line - 1, 0);
      if (got <= 0) break;
      line[got] = 0;
      const long number = atol(line);
      if (number == 0) {
        snprintf(line, sizeof line, "%s %ld", refused, count);
      } else {
        counts((pid_t)program);
        strcpy(line, "armed");
        refused = "none";
        count = 0;
      }
      left = number;
      send(control[0], line, strlen(line), MSG_NOSIGNAL);
    }
  }
  // Whoever is left under the filter gets ENOSYS for these calls from now on.
  close(listener);
  int status = 0;
  waitpid(program, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
