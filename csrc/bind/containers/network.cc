#include "bind/containers/network.h"

#include <arpa/inet.h>
#include <sys/socket.h>

#include <cerrno>
#include <memory>
#include <string>
#include <tuple>

#include "bind/values/from_python.h"
#include "parent/failure.h"
#include "parent/network/inside.h"
#include "parent/network/relay.h"

namespace pyminicon::bind {
namespace {

parent::Fd pidfd_of(Handle& handle) {
  const parent::Launched& container = handle.container();
  if (!container.owned()) return {};  // nor is its lock: whoever had it isn't there after a fork
  const std::lock_guard lock(handle.guarded->lock);
  if (container.reaped || !container.pidfd) return {};
  return parent::Fd(fcntl(container.pidfd.get(), F_DUPFD_CLOEXEC, 3));
}

// A name inside may lie on a file system whose server doesn't answer: another thread goes there.
std::shared_ptr<parent::SocketMade> made_within(const parent::Patience& patience,
                                                const std::shared_ptr<parent::Fd>& target,
                                                const parent::Address& address, bool listens) {
  const auto made = std::make_shared<parent::SocketMade>();
  const auto work = [made, target, address, listens] {
    *made = parent::make_socket_inside(target->get(), address, listens);
  };
  if (address.bytes.ss_family != AF_UNIX) {
    work();
    return made;
  }
  if (parent::done_within(patience, work)) return made;
  const auto late = std::make_shared<parent::SocketMade>();
  late->error = ETIMEDOUT;
  late->was_there = true;
  return late;
}

uint16_t published(parent::Gate& gate, const std::string& host, uint16_t port, uint16_t inside) {
  const bool v6 = host.find(':') != std::string::npos;
  const int family = v6 ? AF_INET6 : AF_INET;
  char packed[sizeof(in6_addr)];
  if (inet_pton(family, host.c_str(), packed) != 1) throw py::value_error(host);
  const std::string address(packed, v6 ? sizeof(in6_addr) : sizeof(in_addr));
  const auto made = gate.publish(parent::address_of(family, address, port), inside);
  if (made.error == 0) return made.port;
  const std::string where = (v6 ? "[" + host + "]" : host) + ":" + std::to_string(port);
  errno = made.error;
  PyErr_SetFromErrnoWithFilename(PyExc_OSError, where.c_str());
  throw py::error_already_set();
}

// The ports that they have come to be at. OSError with the place that can't be had.
py::list publish(parent::Gate& gate, const py::sequence& wanted) {
  py::list found;
  for (const py::handle item : wanted) {
    const auto [host, port, inside] = item.cast<std::tuple<std::string, uint16_t, uint16_t>>();
    found.append(published(gate, host, port, inside));
  }
  return found;
}

// (socket, whether it is still to be connected). LaunchFailure ESHUTDOWN: the container has ended;
// OSError for what the socket itself couldn't do.
py::tuple socket_inside(Handle& handle, int family, const py::bytes& host, uint16_t port,
                        bool listens, Seconds timeout) {
  const parent::Address address = parent::address_of(family, bytes_of(host), port);
  const parent::Patience patience{deadline_in(timeout, parent::now_ns()), -1, check_signals};
  std::shared_ptr<parent::SocketMade> made;
  {
    const NoGil nogil;
    const auto target = std::make_shared<parent::Fd>(pidfd_of(handle));
    if (!*target) throw parent::LaunchFailure(ESHUTDOWN, Stage::kNetwork, "");
    made = made_within(patience, target, address, listens);
  }
  if (!made->was_there) {
    const int error = made->error == ESRCH ? ESHUTDOWN : made->error;
    throw parent::LaunchFailure(error, Stage::kNetwork, "the way into the container");
  }
  if (!made->fd) {
    errno = made->error;
    PyErr_SetFromErrno(PyExc_OSError);
    throw py::error_already_set();
  }
  return py::make_tuple(made->fd.release(), made->error == EINPROGRESS);
}

}  // namespace

void bind_network(py::module_& module, py::class_<Handle, Released<Handle>>& handle) {
  py::class_<parent::Gate, std::shared_ptr<parent::Gate>>(module, "Gate")
      .def(py::init([](int bell) {
        const NoGil nogil;
        return std::make_shared<parent::Gate>(bell);
      }))
      .def("publish", &publish)
      .def_property_readonly("number", &parent::Gate::number)
      .def_property_readonly("line", &parent::Gate::line)
      .def("carry", &parent::Gate::carry)
      .def("end", [](parent::Gate& gate, Seconds timeout) {
        const int64_t deadline = deadline_in(timeout, parent::now_ns());
        const NoGil nogil;
        gate.end(deadline);
      });
  handle.def("socket_inside", &socket_inside);
}

}  // namespace pyminicon::bind
