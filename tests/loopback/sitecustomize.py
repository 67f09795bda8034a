"""On PYTHONPATH, this keeps every process from connecting, looking up names, sending or listening beyond loopback.

Python runs it at the start of every process. The folder LOOPBACK_LOG gets one file per process: its first line is the
command, and every further line a refused call.
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
    """Whether an address is a file on this machine or on loopback; None uses a connection that was checked before."""
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
