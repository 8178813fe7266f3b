// The files in which the kernel counts.
#pragma once

namespace pyminicon::parent {

constexpr char kMemoryV1[] = "memory.usage_in_bytes", kMemoryV2[] = "memory.current";
constexpr char kMemoryPeakV1[] = "memory.max_usage_in_bytes", kMemoryPeakV2[] = "memory.peak";
constexpr char kMemoryEventsV1[] = "memory.oom_control", kMemoryEventsV2[] = "memory.events";
constexpr char kCpuUsageV1[] = "cpuacct.usage", kCpuUserV1[] = "cpuacct.usage_user";
constexpr char kCpuSystemV1[] = "cpuacct.usage_sys", kCpuStatV2[] = "cpu.stat";
constexpr char kIoV1[] = "blkio.throttle.io_service_bytes_recursive", kIoV2[] = "io.stat";
constexpr char kPidsPeak[] = "pids.peak", kPidsNow[] = "pids.current";
constexpr char kCgroupEventsV2[] = "cgroup.events";
// What is written to to join.
constexpr char kTasksV1[] = "tasks", kProcessesV2[] = "cgroup.procs";

}  // namespace pyminicon::parent
