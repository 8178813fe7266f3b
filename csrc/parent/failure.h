// A launch that failed, on its way up to Python: bind turns it into pyminicon.LaunchError.
#pragma once

#include <exception>
#include <string>
#include <utility>

#include "base/stage.h"

namespace pyminicon::parent {

class LaunchFailure : public std::exception {
 public:
  LaunchFailure(int number, Stage step, std::string about, std::string remedy = {})
      : error(number), stage(step), subject(std::move(about)), hint(std::move(remedy)) {}
  const char* what() const noexcept override { return subject.c_str(); }

  int error;            // errno, positive
  Stage stage;          // which step of the launch
  std::string subject;  // the path, name or value it was about
  std::string hint;     // likely cause and remedy, or empty
};

}  // namespace pyminicon::parent
