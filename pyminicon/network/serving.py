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
        listeners: list[socket.socket] = []
        try:
            rows = []
            for address, outside, inside in spec.publish:
                listeners.append(_listener(address, outside))
                self.ports[inside] = listeners[-1].getsockname()[:2]
                rows.append((listeners[-1].fileno(), inside))
            self._gate = _core.Gate(rows)
            self._proxy: Proxy | None = None
            if spec.egress is not None:
                from pyminicon.network.proxy import Proxy

                self._proxy = Proxy(spec.egress, spec.egress_headers, self._gate, home)
        finally:
            for listener in listeners:
                listener.close()

    @property
    def gate(self) -> tuple[int, int]:
        """The way to here, as the launch is told: a socket, and the proxy's port inside or 0."""
        return self._gate.birth, 0 if self._proxy is None else PROXY_PORT

    @property
    def refused(self) -> list[Refusal]:
        return [] if self._proxy is None else list(self._proxy.refused)

    def ended(self) -> list[Refusal]:
        """Its end, and what was refused until then."""
        self.end()
        return self.refused

    def begun(self) -> None:
        """It has been launched."""
        self._gate.born()

    def end(self) -> None:
        """Nothing of it is there any more when this returns: its ports are free."""
        self._gate.end(_PATIENCE)


def _listener(address: str, port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if ":" in address:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.setblocking(False)
        made.bind((address, port))
        made.listen(4096)
        return made
    except OSError as error:
        made.close()
        name = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        hint = "publish at port 0, which picks one" if error.errno == errno.EADDRINUSE else ""
        raise errors.LaunchError(error.errno or errno.EINVAL, "publish", name, hint) from None
