"""For PYTHONPATH: no process connects, looks a name up, sends or listens beyond loopback; what it tried is noted.

Python runs this at the start of every process. LOOPBACK_LOG names a folder: a file for each process, its first line
the command, every further line a call that was refused.
"""

import errno
import ipaddress
import os
import sys

LOG = os.path.join(os.environ["LOOPBACK_LOG"], str(os.getpid()))
ADDRESS = {  # audit event -> which of its arguments holds the address
    "socket.bind": 1,
    "socket.connect": 1,
    "socket.getaddrinfo": 0,
    "socket.gethostbyaddr": 0,
    "socket.gethostbyname": 0,
    "socket.sendmsg": 1,
    "socket.sendto": 1,
}


def _refuse(event: str, arguments: tuple) -> None:
    if event in ADDRESS and not _stays_here(address := arguments[ADDRESS[event]]):
        _write(f"{event} {address}")
        raise ConnectionRefusedError(errno.ECONNREFUSED, f"{event} {address}: only loopback is allowed here")


def _stays_here(address: object) -> bool:
    """Of a file on this machine, or of loopback; None is sent along a connection that was looked at."""
    host = address[0] if isinstance(address, tuple) else address
    if isinstance(host, bytes):
        host = host.decode(errors="replace")
    if host in (None, "localhost") or (isinstance(address, str) and address.startswith(("/", "\0"))):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _write(line: str) -> None:
    with open(LOG, "a") as log:
        log.write(line + "\n")


_write(" ".join(" ".join(sys.orig_argv).split()))
sys.addaudithook(_refuse)
