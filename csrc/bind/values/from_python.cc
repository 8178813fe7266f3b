#include "bind/values/from_python.h"

#include <set>

#include "bind/values/gil.h"
#include "parent/launch/launch.h"
#include "parent/launch/memory_mode.h"
#include "parent/plan/placeholder_id.h"
#include "parent/plan/socket_filter.h"
#include "seccomp_default.h"  // made by the build: kDefaultSeccomp

namespace pyminicon::bind {

using parent::OpSpec;
using parent::PlanSpec;

std::string bytes_of(py::handle value) {
  if (PyBytes_Check(value.ptr())) {
    return {PyBytes_AS_STRING(value.ptr()), static_cast<size_t>(PyBytes_GET_SIZE(value.ptr()))};
  }
  if (PyUnicode_Check(value.ptr()) && PyUnicode_IS_COMPACT_ASCII(value.ptr())) {
    return {static_cast<const char*>(PyUnicode_DATA(value.ptr())),
            static_cast<size_t>(PyUnicode_GET_LENGTH(value.ptr()))};
  }
  // Names on Linux are bytes: surrogates carry what isn't UTF-8 (PEP 383).
  const auto encoded = py::reinterpret_steal<py::bytes>(PyUnicode_EncodeFSDefault(value.ptr()));
  if (!encoded) throw py::error_already_set();
  return encoded;
}

std::optional<std::string> optional_bytes(py::handle value) {
  if (value.is_none()) return std::nullopt;
  return bytes_of(value);
}

std::vector<std::string> list_of_bytes(py::handle value) {
  std::vector<std::string> all;
  for (py::handle item : value) all.push_back(bytes_of(item));
  return all;
}

namespace {

// A file's bytes, or a tuple of pieces: the container's own id comes between each two of them.
void read_data(py::handle data, OpSpec& op) {
  if (!py::isinstance<py::tuple>(data)) {
    op.data = optional_bytes(data);
    return;
  }
  const auto pieces = py::reinterpret_borrow<py::tuple>(data);
  op.data = bytes_of(pieces[0]);
  for (size_t i = 1; i < pieces.size(); i++) {
    parent::leave_room_for_id(*op.data, op.id_at);
    *op.data += bytes_of(pieces[i]);
  }
}

// (kind, flags, source, target, data, mode, uid, gid, held)
std::vector<OpSpec> ops_of(py::handle value) {
  std::vector<OpSpec> all;
  for (py::handle item : value) {
    const auto row = py::reinterpret_borrow<py::tuple>(item);
    OpSpec op;
    op.kind = static_cast<OpKind>(row[0].cast<uint32_t>());
    op.flags = row[1].cast<uint32_t>();
    op.source = optional_bytes(row[2]);
    op.target = optional_bytes(row[3]);
    read_data(row[4], op);
    op.mode = row[5].cast<uint32_t>();
    op.uid = row[6].cast<uint32_t>();
    op.gid = row[7].cast<uint32_t>();
    op.held = row[8].cast<int>();
    all.push_back(std::move(op));
  }
  return all;
}

}  // namespace

parent::CgroupSpec cgroup_of(py::handle value) {
  const auto row = py::reinterpret_borrow<py::tuple>(value);
  parent::CgroupSpec spec;
  spec.prefix = bytes_of(row[0]);
  for (py::handle item : row[1]) {
    const auto entry = py::reinterpret_borrow<py::tuple>(item);
    spec.directories.push_back(
        {bytes_of(entry[0]), bytes_of(entry[1]), entry[2].cast<uint32_t>(), entry[3].cast<bool>()});
  }
  for (py::handle item : row[2]) {
    const auto entry = py::reinterpret_borrow<py::tuple>(item);
    spec.writes.push_back(
        {entry[0].cast<uint32_t>(), bytes_of(entry[1]), bytes_of(entry[2]), entry[3].cast<bool>()});
  }
  spec.remedy = bytes_of(row[3]);
  spec.watch_oom = row[4].cast<bool>();
  spec.shared_memory_is_unsafe = row[5].cast<bool>();
  spec.late_freezer = bytes_of(row[6]);
  spec.late_freezer_v2 = row[7].cast<bool>();
  spec.by_launcher = row[8].cast<bool>();
  return spec;
}

namespace {

// (path, whether links are followed, whether it must be the same file, os.stat_result or None)
std::vector<parent::Fingerprint> fingerprints_of(py::handle value) {
  std::vector<parent::Fingerprint> all;
  for (py::handle item : value) {
    const auto row = py::reinterpret_borrow<py::tuple>(item);
    parent::Fingerprint seen;
    seen.path = bytes_of(row[0]);
    seen.follow = row[1].cast<bool>();
    const py::object about = row[3];
    seen.there = !about.is_none();
    if (seen.there) {
      seen.mode = about.attr("st_mode").cast<uint32_t>();
      seen.uid = about.attr("st_uid").cast<uint32_t>();
      seen.gid = about.attr("st_gid").cast<uint32_t>();
      seen.rdev = about.attr("st_rdev").cast<uint64_t>();
    }
    if (row[2].cast<bool>()) {
      seen.device = about.attr("st_dev").cast<uint64_t>();
      seen.inode = about.attr("st_ino").cast<uint64_t>();
    }
    all.push_back(std::move(seen));
  }
  return all;
}

// A dict with the fields' names: what isn't in it keeps PlanSpec's default.
class Fields {
 public:
  explicit Fields(const py::dict& dict) : dict_(dict) {}

  py::handle get(const char* name) const {
    asked_.insert(name);
    return PyDict_GetItemString(dict_.ptr(), name);
  }
  // A name that nobody asks for is a misspelt one, and the protection that it meant would be left
  // out in silence.
  void insist_on_known_names() const {
    for (const auto& [key, value] : dict_) {
      const std::string name = bytes_of(key);
      if (!asked_.contains(name)) throw py::key_error("a plan has no field " + name);
    }
  }
  template <typename T>
  void value(const char* name, T& into) const {
    if (const py::handle found = get(name)) into = found.cast<T>();
  }
  void text(const char* name, std::optional<std::string>& into) const {
    if (const py::handle found = get(name)) into = optional_bytes(found);
  }
  void list(const char* name, std::vector<std::string>& into) const {
    if (const py::handle found = get(name)) into = list_of_bytes(found);
  }

 private:
  const py::dict& dict_;
  mutable std::set<std::string, std::less<>> asked_;
};

void read_ids(const Fields& fields, PlanSpec& spec) {
  fields.text("own_uid_map", spec.own_uid_map);
  fields.text("own_gid_map", spec.own_gid_map);
  fields.text("uid_map", spec.uid_map);
  fields.text("gid_map", spec.gid_map);
  fields.list("uid_mapper", spec.uid_mapper);
  fields.list("gid_mapper", spec.gid_mapper);
  fields.value("become_root", spec.become_root);
  fields.value("change_user", spec.change_user);
  fields.value("set_groups", spec.set_groups);
  fields.value("uid", spec.uid);
  fields.value("gid", spec.gid);
  if (const py::handle groups = fields.get("groups")) {
    for (py::handle group : groups) spec.groups.push_back(group.cast<uint32_t>());
  }
}

void read_root(const Fields& fields, PlanSpec& spec) {
  uint32_t kind = static_cast<uint32_t>(spec.root);
  fields.value("root", kind);
  spec.root = static_cast<RootKind>(kind);
  fields.value("read_only", spec.read_only);
  fields.value("allow_setuid", spec.allow_setuid);
  fields.list("layers", spec.layers);
  fields.text("scratch_tmpfs", spec.scratch_tmpfs);
  fields.text("disk_parent", spec.disk_parent);
  fields.text("overlay_options", spec.overlay_options);
  if (const py::handle ops = fields.get("skeleton")) spec.skeleton = ops_of(ops);
  if (const py::handle ops = fields.get("mounts")) spec.mounts = ops_of(ops);
}

void read_privileges(const Fields& fields, PlanSpec& spec) {
  if (const py::handle rows = fields.get("rlimits")) {
    for (py::handle item : rows) {
      const auto row = py::reinterpret_borrow<py::tuple>(item);
      spec.rlimits.push_back(
          {row[0].cast<uint32_t>(), 0, row[1].cast<uint64_t>(), row[2].cast<uint64_t>()});
    }
  }
  fields.value("umask", spec.umask);
  fields.value("capabilities", spec.capabilities);
  fields.value("no_new_privs", spec.no_new_privs);
  fields.value("new_keyring", spec.new_keyring);
  fields.value("own_seccomp", spec.own_seccomp);
  const py::handle seccomp = fields.get("seccomp");
  if (!seccomp) throw py::key_error("a plan says whether it has a filter: seccomp");
  if (seccomp.is(py::bool_(true))) {  // the default profile, compiled when this module was
    spec.seccomp.assign(reinterpret_cast<const char*>(kDefaultSeccomp), sizeof kDefaultSeccomp);
  } else if (!seccomp.is_none()) {
    spec.seccomp = bytes_of(seccomp);
  }
  if (const py::handle init = fields.get("init_seccomp")) spec.init_seccomp = bytes_of(init);
  bool only_unix_sockets = false;
  fields.value("only_unix_sockets", only_unix_sockets);
  if (only_unix_sockets) spec.seccomp = without_sockets(spec.seccomp);
  spec.has_seccomp = !spec.seccomp.empty();
}

}  // namespace

std::shared_ptr<PlanSpec> make_plan(const py::dict& dict) {
  auto spec = std::make_shared<PlanSpec>();
  const Fields fields(dict);
  fields.value("namespaces", spec->namespaces);
  read_ids(fields, *spec);
  fields.text("hostname", spec->hostname);
  fields.value("hostname_is_id", spec->hostname_is_id);
  fields.value("loopback", spec->loopback);
  if (const py::handle rows = fields.get("sysctls")) {
    for (py::handle item : rows) {
      const auto row = py::reinterpret_borrow<py::tuple>(item);
      spec->sysctls.push_back({bytes_of(row[0]), bytes_of(row[1]), row[2].cast<bool>()});
    }
  }
  fields.value("usual_settings", spec->usual_settings);
  fields.list("pasta", spec->pasta);
  fields.value("private_clock", spec->private_clock);
  read_root(fields, *spec);
  read_privileges(fields, *spec);
  fields.value("init", spec->init);
  fields.value("init_barrier", spec->init_barrier);
  fields.value("separate_memory", spec->separate_memory);
  fields.value("foreign_program", spec->foreign_program);
  fields.value("may_landlock", spec->may_landlock);
  fields.value("hand_out", spec->hand_out);
  fields.value("can_park_ready", spec->can_park_ready);
  fields.value("kill_by_cgroup", spec->kill_by_cgroup);
  fields.value("memory_limit", spec->memory_limit);
  const py::handle cgroup = fields.get("cgroup");
  if (cgroup && !cgroup.is_none()) spec->cgroup = cgroup_of(cgroup);
  fields.value("placeholder_id", spec->placeholder_id);
  if (const py::handle seen = fields.get("fingerprints")) {
    spec->fingerprints =
        std::make_shared<const std::vector<parent::Fingerprint>>(fingerprints_of(seen));
  }
  fields.insist_on_known_names();
  const NoGil nogil;
  parent::look_at_file_systems(*spec);
  return spec;
}

parent::ExecSpec make_exec(const py::tuple& exec_spec) {
  parent::ExecSpec exec;
  exec.candidates = list_of_bytes(exec_spec[0]);
  exec.argv = list_of_bytes(exec_spec[1]);
  exec.env = list_of_bytes(exec_spec[2]);
  exec.cwd = bytes_of(exec_spec[3]);
  return exec;
}

std::shared_ptr<PlanSpec> limited(const PlanSpec& plan, py::handle cgroup, uint64_t memory) {
  auto spec = std::make_shared<PlanSpec>(plan);
  spec->cgroup = cgroup_of(cgroup);
  spec->memory_limit = memory;
  return spec;
}

int64_t deadline_in(Seconds seconds, int64_t from) {
  if (!seconds) return parent::kNever;
  const double wait = *seconds * 1e9;
  if (!(wait > 0)) return from;  // nor is there a time that is no number
  return wait > 9e18 ? parent::kNever : from + static_cast<int64_t>(wait);
}

void check_signals() {
  const Gil gil;
  if (PyErr_CheckSignals() != 0) throw py::error_already_set();
}

}  // namespace pyminicon::bind
