#include "parent/id_maps.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>

#include <cerrno>
#include <sstream>

#include "parent/failure.h"
#include "parent/fd.h"

extern char** environ;

namespace pyminicon::parent {
namespace {

void write_map(int pid, const char* name, const std::string& text) {
  const std::string path = "/proc/" + std::to_string(pid) + "/" + name;
  const Fd fd(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd || ::write(fd.get(), text.data(), text.size()) < 0) {
    throw LaunchFailure(errno, Stage::kUserns, name);
  }
}

// "0 100000 65536\n" lines become the tool's arguments.
void run_mapper(const std::vector<std::string>& command, int pid) {
  std::vector<std::string> words{command[0], std::to_string(pid)};
  words.insert(words.end(), command.begin() + 1, command.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  pid_t child = -1;
  if (const int error = posix_spawn(&child, argv[0], nullptr, nullptr, argv.data(), environ)) {
    throw LaunchFailure(error, Stage::kUserns, command[0]);
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (status != 0) {
    throw LaunchFailure(EPERM, Stage::kUserns, command[0],
                        "the range must be the caller's in /etc/subuid and /etc/subgid");
  }
}

}  // namespace

// "0 100000 65536\n1000 ...": the id outside that 0 stands for.
static uint32_t outside_of_zero(const std::string& map) {
  std::istringstream lines(map);
  uint32_t inside, outside, count;
  while (lines >> inside >> outside >> count) {
    if (inside == 0) return outside;
  }
  return 0;
}

void give_to_root_of(const PlanSpec& spec, const std::string& directory) {
  const uint32_t uid = outside_of_zero(*spec.uid_map), gid = outside_of_zero(*spec.gid_map);
  if (chown(directory.c_str(), uid, gid) < 0) {
    throw LaunchFailure(errno, Stage::kPrepare, directory);
  }
}

void write_id_maps(const PlanSpec& spec, int pid) {
  if (spec.uid_mapper.empty()) {
    write_map(pid, "gid_map", *spec.gid_map);
    write_map(pid, "uid_map", *spec.uid_map);
  } else {
    run_mapper(spec.gid_mapper, pid);
    run_mapper(spec.uid_mapper, pid);
  }
}

}  // namespace pyminicon::parent
