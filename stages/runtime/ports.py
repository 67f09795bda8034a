"""The port of a server on this machine, tried before its address is announced."""

import os
import socket
import sys

HOST = "127.0.0.1"


def exit_if_taken(port: int, command: str) -> None:
    """End the process where no server can listen on a port of `HOST`; the message says how `command` takes another."""
    try:
        socket.create_server((HOST, port)).close()  # tried as a server does: a port that was just left is free
    except (OSError, OverflowError) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else error
        sys.exit(f"error: port {port} cannot be used ({reason}): `{command} PORT=...` with another one")
