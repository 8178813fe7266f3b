// Launches beside the caller, an event loop: it asks, goes on, and takes what has been made later.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "bind/containers/handle.h"
#include "bind/values/from_python.h"
#include "bind/values/request.h"
#include "parent/pool/launch_pool.h"

namespace pyminicon::bind {

namespace py = pybind11;

struct Launch;  // one launch, from the request to its end

// A launch that was asked for. Whoever lets go of it ends what it has made or will have made.
class Pending {
 public:
  Pending(std::shared_ptr<parent::LaunchPool> pool, std::shared_ptr<Launch> launch);
  ~Pending();
  Pending(const Pending&) = delete;
  Pending& operator=(const Pending&) = delete;

  uint64_t number() const { return number_; }
  bool withdraw();
  bool over() const;
  // Once, when it is over: the container, or what launch() has thrown.
  Released<Handle> result();

 private:
  std::shared_ptr<parent::LaunchPool> pool_;
  std::shared_ptr<Launch> launch_;
  uint64_t number_;
};

// The launches of one loop.
class Launches {
 public:
  Released<Pending> begin(std::shared_ptr<parent::PlanSpec> spec, const Request& request);
  std::vector<uint64_t> finished() { return pool_->finished(); }
  int fd() const { return pool_->fd(); }
  void close() { pool_->close(); }

 private:
  std::shared_ptr<parent::LaunchPool> pool_ = std::make_shared<parent::LaunchPool>();
};

}  // namespace pyminicon::bind
