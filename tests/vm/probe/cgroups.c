// cgroup v2: which files there are, and who may move where.
#include "probe.h"

static char own[512];

static void files(void) {
  const char* const names[] = {"cgroup.kill",
                               "cgroup.freeze",
                               "memory.peak",
                               "memory.swap.max",
                               "memory.swap.peak",
                               "memory.oom.group",
                               "memory.reclaim",
                               "memory.zswap.max",
                               "pids.max",
                               "pids.peak",
                               "cpu.max",
                               "cpu.weight",
                               "cpu.weight.nice",
                               "cpuset.cpus",
                               "cpuset.mems",
                               "io.weight",
                               "io.bfq.weight",
                               "io.max",
                               "io.stat",
                               "cpu.stat",
                               "memory.events.local",
                               NULL};
  char missing[512] = "", path[600];
  for (const char* const* name = names; *name; name++) {
    snprintf(path, sizeof path, "%s/%s", own, *name);
    if (access(path, F_OK)) strcat(strcat(missing, " "), *name);
  }
  say("cgroup v2: files that are missing", "%s", *missing ? missing : "none");
  snprintf(path, sizeof path, "%s/memory.peak", own);
  int peak = open(path, O_WRONLY | O_CLOEXEC);
  say("  memory.peak can be opened for writing (reset)", "%s", verdict(peak));
  char text[1024];
  snprintf(path, sizeof path, "%s/cpu.stat", own);
  read_file(path, text, sizeof text);
  for (char* c = text; *c; c++)
    if (*c == '\n') *c = ' ';
  say("  cpu.stat", "%s", text);
}

static void write_answer(const char* file, const char* text) {
  char path[600], name[160];
  snprintf(path, sizeof path, "%s/%s", own, file);
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  long done = fd < 0 ? -1 : write(fd, text, strlen(text));
  snprintf(name, sizeof name, "  write %s to %s", text, file);
  say(name, "%s", verdict(done));
}

void probe_cgroups(void) {
  const char* parent = getenv("PROBE_CGROUP");
  snprintf(own, sizeof own, "%s/probe-files", parent ? parent : "/sys/fs/cgroup");
  if (mkdir(own, 0755) && errno != EEXIST) {
    say("cgroup v2: mkdir", "%s", verdict(-1));
    return;
  }
  files();
  const char* const writes[][2] = {
      {"memory.max", "4096"},      {"memory.max", "64K"},          {"memory.max", "-1"},
      {"memory.swap.max", "0"},    {"cpu.max", "100 100000"},      {"cpu.max", "1000 100000"},
      {"cpu.max", "1000 1000000"}, {"cpu.max", "1500000 1000000"}, {"pids.max", "0"},
      {"cpuset.cpus", "99"},       {"cpuset.cpus", "0"},           {"io.weight", "200"},
      {"io.bfq.weight", "200"},    {"cpu.weight", "10000"},        {"cpu.weight", "10001"}};
  for (size_t i = 0; i < sizeof writes / sizeof *writes; i++)
    write_answer(writes[i][0], writes[i][1]);
  rmdir(own);
}
