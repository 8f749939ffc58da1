"""Servers that Beam opens in this process listen on this machine alone.

Beam says of each of them that it is at `localhost`, and opens it on every address of the machine (`[::]`), without a
password: whoever reaches the port can read what workers are sent, and send them code. Here its modules get a gRPC whose
servers are opened where Beam says that they are.
"""

from types import ModuleType
from typing import Any, Final

import grpc

_EVERYWHERE: Final = "[::]:"
_HERE: Final = "localhost:"


class _Loopback:
    """gRPC, but for its servers: they listen on the addresses of `localhost`."""

    def __getattr__(self, name: str) -> Any:
        return getattr(grpc, name)

    @staticmethod
    def server(*of_server: Any, **more: Any) -> grpc.Server:
        """Returns a server as gRPC does, which takes no address of every network."""
        server = grpc.server(*of_server, **more)
        listen = server.add_insecure_port
        server.add_insecure_port = lambda address: listen(address.replace(_EVERYWHERE, _HERE, 1))
        return server


def keep(*modules: ModuleType) -> None:
    """Gives modules of Beam that open servers this gRPC."""
    for module in modules:
        module.grpc = _Loopback()  # type: ignore[attr-defined]  # what they import by that name
