"""The address that a server command listens on."""

import socket

from compliance.errors import InvalidInputError


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; 0 takes a free port."""
    try:
        return socket.create_server((host, port), backlog=2048)
    except OSError:
        message = f"{host} port {port} cannot be listened on; choose another with --port or --host"
        raise InvalidInputError(message, code="port-taken") from None
