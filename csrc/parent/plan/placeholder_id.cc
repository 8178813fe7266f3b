#include "parent/plan/placeholder_id.h"

#include <sys/random.h>

#include <cerrno>

#include "parent/failure.h"

namespace pyminicon::parent {
namespace {

constexpr size_t kIdBytes = 6;

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

void leave_room_for_id(std::string& text, std::vector<uint32_t>& places) {
  places.push_back(static_cast<uint32_t>(text.size()));
  text.append(2 * kIdBytes, '-');
}

void name_in(ExecSpec& exec, const PlanSpec& spec, const std::string& id) {
  const std::string name = "HOSTNAME=";
  for (std::string& variable : exec.env) {
    if (variable == name + spec.placeholder_id) variable = name + id;
  }
}

}  // namespace pyminicon::parent
