"""A process that ends with its parent, however that ended: `kill -9` lets nobody end its children."""

import os
import signal
import threading
import time
from contextlib import suppress

import psutil

EVERY = 1.0  # seconds between two looks
PATIENCE = 6.0  # seconds between the interrupt and the kill
SHELLS = ("sh", "bash", "dash", "zsh", "fish")


def exit_with_parent(whole_group: bool = False) -> None:
    """End this process within a few seconds after its parent: the interrupt of Ctrl-C, and after `PATIENCE` a kill.

    Args:
        whole_group: for this process and all others of its process group.
    """
    threading.Thread(target=_end_after, args=(parents(), whole_group), daemon=True).start()


def parents() -> list[psutil.Process]:
    """The parent; where that is a shell, which waits for its command whatever happens above, its parent too."""
    parents = []
    for ancestor in psutil.Process().parents():
        parents.append(ancestor)
        with suppress(psutil.NoSuchProcess):  # it has just ended, which is noticed at the first look
            if ancestor.name() in SHELLS:
                continue
        break
    return parents


def _end_after(parents: list[psutil.Process], whole_group: bool) -> None:
    while all(map(alive, parents)):
        time.sleep(EVERY)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE + EVERY)  # ends this one if Python, ending, stops this thread first
    for number in (signal.SIGINT, signal.SIGKILL):
        if whole_group:
            os.killpg(os.getpgrp(), number)
        else:
            os.kill(os.getpid(), number)
        time.sleep(PATIENCE)


def alive(process: psutil.Process) -> bool:
    """Whether it is there and not dead: one that nobody has waited for yet is still listed."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
