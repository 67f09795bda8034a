"""A server whose port is taken says so before it announces its address."""

import socket
import subprocess

import pytest

from stages.runtime.ports import HOST, exit_if_taken


def test_a_port_that_is_taken_ends_the_command_before_an_address_is_announced(root):
    with socket.create_server((HOST, 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(SystemExit, match=f"port {port} cannot be used .Address already in use.: `make demo PORT="):
            exit_if_taken(port, "make demo")
        recipe = (root / "Makefile").read_text().partition("\nui:")[2].partition("\n\n")[0].splitlines()[1:]
        first = recipe[0].strip().removeprefix("@").replace("$(PORT)", str(port))
        done = subprocess.run(["sh", "-c", first], cwd=root, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (1, "")
        assert f"error: port {port} cannot be used (Address already in use): `make ui PORT=" in done.stderr
        socket.create_connection((HOST, port)).close()  # its server listens as before
    exit_if_taken(port, "make demo")
    with pytest.raises(SystemExit, match="must be 0-65535"):
        exit_if_taken(65536, "make demo")
