"""What a caller serves of one container's network, from before its launch to its end."""

from __future__ import annotations

import errno
import socket

from pyminicon import _core, errors
from pyminicon.options.network import PROXY_PORT

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio

    from pyminicon.network.proxy import Proxy
    from pyminicon.options import Spec
    from pyminicon.result import Refusal

_PATIENCE = 5.0  # seconds for all of it to be gone


class Serving:
    """Ports that are published, and the proxy. ``home``: the loop of who asks for it.

    LaunchError, stage publish, where a port can't be had: nothing has started then.
    """

    def __init__(self, spec: Spec, home: asyncio.AbstractEventLoop | None) -> None:
        #: Port inside: (address, port) outside.
        self.ports: dict[int, tuple[str, int]] = {}
        self._proxy: Proxy | None = None
        if spec.egress is None:
            self._gate = _core.Gate(-1)
        else:
            from pyminicon.network.proxy import Proxy, bell

            self._gate = _core.Gate(bell())
            self._proxy = Proxy(spec.egress, spec.egress_headers, self._gate, home)
        for address, outside, inside in spec.publish:
            self.ports[inside] = address, self._published(address, outside, inside)

    def _published(self, address: str, outside: int, inside: int) -> int:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            return self._gate.publish(family, socket.inet_pton(family, address), outside, inside)
        except OSError as error:
            self.end()
            name = f"[{address}]:{outside}" if ":" in address else f"{address}:{outside}"
            hint = "publish at port 0, which picks one" if error.errno == errno.EADDRINUSE else ""
            raise errors.LaunchError(error.errno or errno.EINVAL, "publish", name, hint) from None

    def asked(self, request: _core.Request) -> _core.Request:
        """The same request, for a container whose network is served by this."""
        request.gate = self._gate
        request.gate_port = 0 if self._proxy is None else PROXY_PORT
        return request

    @property
    def refused(self) -> list[Refusal]:
        return [] if self._proxy is None else list(self._proxy.refused)

    def ended(self) -> list[Refusal]:
        """Its end, and what was refused until then."""
        self.end()
        return self.refused

    def end(self) -> None:
        """Nothing of it is there any more when this returns: its ports are free."""
        self._gate.end(_PATIENCE)
