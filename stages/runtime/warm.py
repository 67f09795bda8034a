"""Stages start from a process that has imported the libraries already, once for all stages of a flow or a `dvc repro`.

The imports of a stage (torch, transformers, MLflow, ...) take longer than the work of many stages. So the first stage
starts a process that imports what it needs, and forks; later stages fork from it again. That process holds none of the
code of the stages, so every stage has the code as it is on disk.

The process that DVC started stays and stands for the stage: it passes signals on, and ends as the stage ends. If it is
killed, the kernel kills the stage. The warm process ends with its owners: each is a flow, or else a DVC process.

A stage starts as any Python program where DVC has not started it; where the environment is another than that of the
warm process, since libraries read it when they are imported; where there is a GPU, since CUDA does not survive a fork;
and on other systems than Linux, whose libraries do not.
"""

import fcntl
import gc
import importlib
import io
import json
import os
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

import psutil

from stages.runtime import layout
from stages.runtime.parent import alive, parents

OWNER = "STAGES_OWNER"  # set by a flow: the process for whose life a warm one is kept
FORKED = "STAGES_FORKED"  # the process with this number is forked already
OF_ONE_STAGE = ("DVC_", "STAGES_", "PWD", "OLDPWD", "SHLVL", "_")  # variables that no library reads begin so
GPUS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
EVERY = 1.0  # seconds between two looks whether an owner is alive
PATIENCE = 60.0  # seconds for an answer of the warm process, which may be importing for another stage, or stopped
AGAIN = "Run the same command again"
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)

TABLES = ("pandas", "pyarrow.parquet", "mlflow.store.tracking.sqlalchemy_store", "dvc.repo", "pycocotools.mask")
MODELS = (
    *("torch", "accelerate", "transformers.modeling_utils", "transformers.processing_utils"),
    *(f"transformers.models.{name}" for name in ("auto.modeling_auto", "bert.modeling_bert", "dinov2.modeling_dinov2")),
    *(f"transformers.models.{name}" for name in ("resnet.modeling_resnet", "swin.modeling_swin")),
)
LIBRARIES = {  # stage -> what it imports, as far as that takes long
    "stages.train": MODELS + TABLES,
    "stages.evaluate": MODELS + TABLES,
    "stages.diagnose": (*MODELS, *TABLES, "sklearn.decomposition"),
    "stages.card": (*TABLES, "scipy.special"),
    "stages.ablate": (*TABLES, "scipy.special"),
    "stages.report": (*TABLES, "scipy.special"),
}


def hand_over() -> None:
    """Let the warm process run the stage, and end as the stage ends. Returns where the stage has to run here."""
    if (stage := _stage()) is None:
        return
    request = {
        "stage": stage,
        "arguments": sys.argv,
        "folder": os.getcwd(),
        "environment": dict(os.environ),
        "owner": int(os.environ.get(OWNER) or parents()[-1].pid),
    }
    before = {number: signal.getsignal(number) for number in (*PASSED_ON, signal.SIGTSTP)}
    is_open, held = os.pipe()  # when `held` is closed, by whatever ends this process, the kernel kills the stage
    with suppress(OSError), _connected(request["owner"]) as connection, connection.makefile("r") as answers:
        stand_in = _StandIn(connection)
        connection.settimeout(PATIENCE)  # the warm process may be stopped
        socket.send_fds(connection, [b"\n"], [0, 1, 2, is_open])
        connection.sendall(json.dumps(request).encode() + b"\n")
        if pid := answers.readline():
            connection.settimeout(None)
            stand_in.stand_for(int(pid), answers.readline)
    for number, handler in before.items():
        signal.signal(number, handler)
    os.close(is_open)
    os.close(held)


def _stage() -> str | None:
    """The stage that this process is, if it is to be handed over."""
    specification = sys.modules["__main__"].__spec__
    name = specification.name.removesuffix(".__main__") if specification else ""
    asked = name in LIBRARIES and "DVC_STAGE" in os.environ and os.environ.get(FORKED) != str(os.getpid())
    plain = not (sys.warnoptions or sys._xoptions or sys.gettrace() or sys.getprofile())
    able = sys.platform == "linux" and _folder().is_dir() and not any(map(os.path.exists, GPUS))
    return name if asked and plain and able and _can_be_waited_for() else None


def _can_be_waited_for() -> bool:
    """Whether the kernel has descriptors of processes: Linux 5.3 or newer."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:
        return False
    return True


def _connected(owner: int) -> socket.socket:
    """A connection to the warm process, which is started where there is none. Raises OSError."""
    connection = socket.socket(socket.AF_UNIX)
    with (_folder() / "warm.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            connection.connect(_address())
        except ConnectionRefusedError:
            _start(owner)
            connection.connect(_address())
    _require_own(connection)
    return connection


def _folder() -> Path:
    return layout.root() / ".dvc" / "tmp"


def _address() -> str:
    """A name that Linux keeps for as long as the warm process of this folder lives; it is no file."""
    place = _folder().stat()
    return f"\0alignformer-{os.getuid()}-{place.st_dev}-{place.st_ino}"


def _require_own(connection: socket.socket) -> None:
    """Raises PermissionError where a process of another user, or of another container, is at the other end."""
    pid, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    if user != os.getuid() or not pid:
        raise PermissionError(f"process {pid} of user {user}")


def _start(owner: int) -> None:
    """Start the warm process, on a socket that listens already."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(_address())
        listening.listen()
        subprocess.Popen(
            [sys.executable, "-m", "stages.runtime.warm", str(listening.fileno()), str(owner)],
            pass_fds=[listening.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )


class _StandIn:
    """This process, which stands for a stage: it passes signals on, and ends as the stage ends."""

    def __init__(self, connection: socket.socket):
        self._connection = connection
        self._pid: int | None = None
        self._early: list[int] = []
        for number in PASSED_ON:
            signal.signal(number, self._pass_on)
        signal.signal(signal.SIGTSTP, self._pause)

    def stand_for(self, pid: int, end: Callable[[], str]) -> NoReturn:
        """Wait for the end of a stage.

        Args:
            end: waits, and returns the stage's exit code, a signal as a negative number; empty where nobody knows it.
        """
        self._pid = pid
        for number in self._early:
            self._pass_on(number)
        if not (code := end()):
            print(
                f"error: the warm process, from which stages are forked, was ended, and this stage with it. {AGAIN}",
                file=sys.stderr,
            )
            os._exit(1)
        if int(code) < 0:
            _end_by(-int(code))
        os._exit(int(code))

    def _pass_on(self, number: int, *_: object) -> None:
        if self._pid:
            with suppress(ProcessLookupError):
                os.kill(self._pid, number)
        elif select.select([self._connection], [], [], 0)[0]:  # the answer has come and is about to be read
            self._early.append(number)
        else:
            _end_by(number)

    def _pause(self, *_: object) -> None:  # Ctrl-Z
        if self._pid:
            self._pass_on(signal.SIGSTOP)
        signal.raise_signal(signal.SIGSTOP)
        if self._pid:
            self._pass_on(signal.SIGCONT)


def _end_by(number: int) -> None:
    """End this process by a signal."""
    with suppress(OSError):  # SIGKILL has no handler
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


class _Warm:
    """The warm process. It has one thread, and does one thing at a time."""

    def __init__(self, listening: socket.socket, owner: int):
        self._listening = listening
        self._environment = dict(os.environ)
        self._owners = {owner: psutil.Process(owner)}
        self._running: dict[int, tuple[int, socket.socket]] = {}  # descriptor of a stage -> process, connection

    def serve(self) -> Callable[[], None] | None:
        """Start stages until every owner has ended. In the process of a stage, returns what it has to do."""
        while self._running or any(map(alive, self._owners.values())):
            for ready in select.select([self._listening.fileno(), *self._running], [], [], EVERY)[0]:
                if ready == self._listening.fileno():
                    connection, _ = self._listening.accept()
                    if task := self._answer(connection):
                        return task
                else:
                    self._end(ready)
        return None

    def _answer(self, connection: socket.socket) -> Callable[[], None] | None:
        """Fork for a stage. Where that cannot be, the connection is closed, and the stage starts as any program."""
        connection.settimeout(PATIENCE)
        descriptors: list[int] = []
        try:
            _, descriptors, _, _ = socket.recv_fds(connection, 1, 4)
            _require_own(connection)
            with connection.makefile("r") as lines:
                request = json.loads(lines.readline())
            self._owners.setdefault(request["owner"], psutil.Process(request["owner"]))
            if _shared(request["environment"]) != _shared(self._environment):
                raise ValueError("libraries were imported in another environment")
            for library in LIBRARIES[request["stage"]]:
                with suppress(ImportError):  # the stage says what is wrong
                    importlib.import_module(library)
            gc.freeze()
            pid = os.fork()
        except Exception:  # whatever it is, the stage starts as any program, and may say it
            connection.close()
            pid = None
        if pid == 0:
            self._close()
            connection.close()
            return lambda: _become(descriptors=descriptors, **request)
        for descriptor in descriptors:
            os.close(descriptor)
        if pid:
            self._running[os.pidfd_open(pid)] = pid, connection
            with suppress(OSError):
                connection.sendall(f"{pid}\n".encode())
        return None

    def _end(self, descriptor: int) -> None:
        """Tell who stands for a stage how it ended, and leave nothing of it running."""
        pid, connection = self._running.pop(descriptor)
        os.close(descriptor)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        with connection, suppress(OSError):
            connection.sendall(f"{code}\n".encode())

    def _close(self) -> None:
        """In the process of a stage: let go of what is not its own."""
        self._listening.close()
        for descriptor, (_, connection) in self._running.items():
            os.close(descriptor)
            connection.close()


def _shared(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if not name.startswith(OF_ONE_STAGE)}


def _become(
    stage: str, arguments: list[str], folder: str, environment: dict[str, str], owner: int, descriptors: list[int]
) -> None:
    """In the process of a stage: be what `python -m STAGE` would be."""
    *standard, is_open = descriptors
    gc.enable()
    os.setpgid(0, 0)
    fcntl.fcntl(is_open, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(is_open, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(is_open, fcntl.F_SETFL, os.O_ASYNC)
    if select.select([is_open], [], [], 0)[0]:
        os._exit(1)
    for number, descriptor in enumerate(standard):
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdout = sys.__stdout__ = _text(1, line_buffering=os.isatty(1))
    sys.stderr = sys.__stderr__ = _text(2, line_buffering=True, errors="backslashreplace")
    os.chdir(folder)
    for name in os.environ.keys() - environment.keys():
        if name.startswith(OF_ONE_STAGE):  # others have been set by a library
            del os.environ[name]
    os.environ.update(environment, **{FORKED: str(os.getpid())})
    for name in list(sys.modules):
        if name.partition(".")[0] in ("stages", "models", "pipelines"):
            del sys.modules[name]
    sys.argv, sys.orig_argv, sys.path[0] = arguments, [sys.executable, "-m", stage, *arguments[1:]], folder
    importlib.invalidate_caches()
    sys.excepthook = _shown_from_the_stage_on
    runpy.run_module(stage, run_name="__main__", alter_sys=True)


def _shown_from_the_stage_on(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A traceback without the calls that lead to the stage."""
    while trace and trace.tb_next and trace.tb_frame.f_code.co_filename in (__file__, "<frozen runpy>"):
        trace = trace.tb_next
    sys.__excepthook__(kind, error.with_traceback(trace), trace)


def _text(descriptor: int, **how: Any) -> io.TextIOWrapper:
    """A stream as Python makes it when it starts."""
    return io.TextIOWrapper(io.BufferedWriter(io.FileIO(descriptor, "w", closefd=False)), **how)


def main() -> None:
    with socket.socket(fileno=int(sys.argv[1])) as listening:
        task = _Warm(listening, int(sys.argv[2])).serve()
    if task:
        task()


if __name__ == "__main__":
    gc.disable()  # the imports make objects that live as long as the process
    main()
