"""What a command undoes, when it starts, of what its starter has set for it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.programs

ROOT = Path(__file__).resolve().parents[3]
START = "from stages.runtime import startup; startup.start()\n"

CHILD = """
import json, signal
ignored = [number for number in signal.Signals if signal.getsignal(number) == signal.SIG_IGN]
print(json.dumps([ignored, list(signal.pthread_sigmask(signal.SIG_BLOCK, []))]))
"""

ASKED = """
import json, httpx, requests, urllib.request
from websockets.proxy import get_proxy
from websockets.uri import parse_uri

def is_direct(host):
    url = f"http://{host}:4200/api"
    client = httpx.Client()
    return [
        client._transport_for_url(httpx.URL(url)) is client._transport,
        not requests.utils.get_environ_proxies(url),
        get_proxy(parse_uri(f"ws://{host}:4200/api/events/in")) is None,
    ]

print(json.dumps([is_direct(host) for host in ("127.0.0.1", "localhost", "inside.org", "outside.org")]))
"""


def run(script: str, *arguments: str, **options) -> str:
    return subprocess.check_output([sys.executable, "-c", START + script, *arguments], cwd=ROOT, text=True, **options)


def test_signals_that_a_shell_or_a_supervisor_ignores_or_blocks_are_heard():
    """SIGHUP stays ignored, as `nohup` wants it. With SIGCHLD ignored, Python takes every child for a success."""
    numbers = {signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGALRM, signal.SIGCHLD, signal.SIGHUP}

    def deaf():
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, numbers - {signal.SIGHUP})

    code = "import subprocess, sys; print(subprocess.call('false'), flush=True)\n"
    said = run(f"{code}subprocess.call([sys.executable, '-c', sys.argv[1]])", CHILD, preexec_fn=deaf)
    code, state = said.splitlines()
    ignored, blocked = json.loads(state)
    assert code == "1" and numbers & set(ignored) == {signal.SIGHUP} and blocked == []


@pytest.mark.parametrize(
    "variables",
    [
        {"HTTP_PROXY": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "inside.org"},
        {"http_proxy": "http://127.0.0.1:9", "no_proxy": " inside.org, 127.0.0.1,", "NO_PROXY": "not read"},
        {"ALL_PROXY": "http://127.0.0.1:9", "no_proxy": "inside.org"},
    ],
)
def test_servers_of_this_machine_are_asked_directly_and_the_users_own_exceptions_stay(variables):
    environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    asked = json.loads(run(ASKED, env={**environment, **variables}))
    assert asked[:3] == [[True] * 3] * 3
    assert not asked[3][0]


@pytest.mark.parametrize("variables", [{}, {"HTTP_PROXY": "http://127.0.0.1:9", "no_proxy": "*"}])
def test_nothing_is_set_where_no_proxy_is_or_none_is_used(variables):
    environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    code = "import json, os; print(json.dumps({k: v for k, v in os.environ.items() if 'proxy' in k.lower()}))"
    assert json.loads(run(code, env={**environment, **variables})) == variables


def test_a_name_that_the_terminal_cannot_show_is_printed_as_escapes():
    """An expression in another script, and the name of a file that is no UTF-8."""
    code = "print('\u8336', '\\udcff', 'cup')"
    assert run(code, env={**os.environ, "PYTHONIOENCODING": "latin-1"}) == "\\u8336 \\udcff cup\n"
