"""What a caller serves of one container's network, from before its launch to its end."""

from __future__ import annotations

import errno

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
    """Ports that are published, and the proxy. ``home``: the loop of whoever asks for it.

    LaunchError, stage publish, where a port can't be had: nothing has started then.
    """

    def __init__(self, spec: Spec, home: asyncio.AbstractEventLoop | None) -> None:
        #: Port inside: (address, port) outside.
        self.ports: dict[int, tuple[str, int]] = {}
        self._proxy: Proxy | None = None
        if spec.egress is None:
            self._gate = gate = _core.Gate(-1)
        else:
            from pyminicon.network import proxy

            self._gate = gate = _core.Gate(proxy.bell())
            self._proxy = proxy.Proxy(spec.egress, spec.egress_headers, gate, home)
        if not spec.publish:
            return
        try:
            outside = gate.publish(spec.publish)
        except OSError as error:
            self.end()
            if isinstance(error, errors.LaunchError):
                raise
            hint = "publish at port 0, which picks one" if error.errno == errno.EADDRINUSE else ""
            where = str(error.filename)
            raise errors.LaunchError(error.errno or errno.EINVAL, "publish", where, hint) from None
        for (address, _, inside), port in zip(spec.publish, outside, strict=True):
            self.ports[inside] = address, port

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
        if self._proxy is not None:
            self._proxy.forget()
        self._gate.end(_PATIENCE)
