#include "parent/plan/placeholder_id.h"

#include <sys/random.h>

#include <cerrno>

#include "parent/process/failure.h"

namespace pyminicon::parent {
namespace {

constexpr size_t kIdBytes = 6;

std::vector<uint32_t> places_of(const std::string& id, const std::string& text) {
  std::vector<uint32_t> places;
  for (size_t at = 0; (at = text.find(id, at)) != std::string::npos; at += id.size()) {
    places.push_back(static_cast<uint32_t>(at));
  }
  return places;
}

// It is a host name as well: one of digits alone would be taken for an address (inet_aton(3)).
bool has_letter(const std::string& text) {
  return text.find_first_not_of("0123456789") != std::string::npos;
}

std::string random_id() {
  unsigned char bytes[kIdBytes];
  if (getrandom(bytes, sizeof bytes, 0) != sizeof bytes) {
    throw LaunchFailure(errno, Stage::kPrepare, "getrandom");
  }
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const unsigned char byte : bytes) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

}  // namespace

std::string new_id() {
  for (;;) {
    if (std::string id = random_id(); has_letter(id)) return id;
  }
}

void find_id(PlanSpec& spec) {
  if (spec.placeholder_id.size() != 2 * kIdBytes)
    return;  // only as many letters as it has fit in its place
  spec.hostname_id_at = places_of(spec.placeholder_id, spec.hostname.value_or(""));
  for (auto* ops : {&spec.skeleton, &spec.mounts}) {
    for (OpSpec& op : *ops) {
      if (op.kind == OpKind::kFile) op.id_at = places_of(spec.placeholder_id, op.data.value_or(""));
    }
  }
}

void name_in(ExecSpec& exec, const PlanSpec& spec, const std::string& id) {
  if (spec.placeholder_id.size() != id.size()) return;
  for (std::string& variable : exec.env) {
    for (const uint32_t at : places_of(spec.placeholder_id, variable))
      id.copy(&variable[at], id.size());
  }
}

}  // namespace pyminicon::parent
