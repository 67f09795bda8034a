"""Experiments side by side: the default one is the project itself, the others are folders in `experiments/`.

Such a folder is a project in small, with the same relative paths: its own `params.yaml`, `dvc.lock`, results and
reports. Its `dvc.yaml` is a copy of the project's (DVC does not follow a link in an earlier commit), and the code that
its stages run and depend on is linked. So a stage has the same command and the same paths in every experiment, and
DVC's run-cache gives to one what another has made in the same way.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

from stages.runtime import layout
from stages.runtime.atomic_write import atomic_write
from stages.runtime.errors import UserError

DEFAULT = "default"
DAG = Path("dvc.yaml")
LINKED = ("models", "stages")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+-]*")


class ExperimentError(UserError):
    """There is no such experiment, or there can be none of that name; the message says which there are."""


def folder(name: str) -> Path:
    """The folder of an experiment, relative to the project's."""
    return Path() if name == DEFAULT else layout.EXPERIMENTS / name


def place(name: str) -> Path:
    """The same folder, relative to the current one."""
    return Path(os.path.relpath(layout.root() / folder(name)))


def names() -> list[str]:
    """The experiments of the project, the default one first."""
    found = (layout.root() / layout.EXPERIMENTS).glob(f"*/{layout.PARAMS}")
    return [DEFAULT, *sorted(path.parent.name for path in found if NAME.fullmatch(path.parent.name))]


def current() -> str:
    """The experiment whose folder is the current one."""
    place = Path(os.path.relpath(Path.cwd(), layout.root().resolve()))
    return place.name if place.parent == layout.EXPERIMENTS else DEFAULT


def check(name: str) -> None:
    """Raises ExperimentError where there is no such experiment."""
    if name not in (known := names()):
        raise ExperimentError(
            f"no experiment {name!r}; there are: {', '.join(known)}. `make experiment NAME={name}` makes it"
        )


def enter(name: str) -> None:
    """Make its folder the current one. Raises ExperimentError as `check`."""
    check(name)
    os.chdir(place(name))


def dvc(command: str, *stages: str, of: str | None = None) -> str:
    """A command of DVC on stages of an experiment, the current one by default, as it is given in the project's folder.

    `dvc("repro -f -s", "report")` may be `dvc repro -f -s experiments/NAME/dvc.yaml:report`.
    """
    name = of or current()
    dag = "" if name == DEFAULT else f"{folder(name) / DAG}:"
    return " ".join(["dvc", command, *(f"{dag}{stage}" for stage in stages)])


def add_option(parser: argparse.ArgumentParser) -> None:
    """`--experiment NAME`, which makes that experiment's folder the current one when it is parsed."""
    parser.add_argument(
        "--experiment",
        action=_Enter,
        default=argparse.SUPPRESS,
        metavar="NAME",
        help=f"one in {layout.EXPERIMENTS}/ (default: that of the current folder)",
    )


class _Enter(argparse.Action):
    def __call__(self, parser, namespace, values, option_string=None):
        try:
            enter(str(values))
        except ExperimentError as error:
            parser.error(str(error))


def text_from(model: str, name: str) -> str:
    """A `params.yaml` for a new experiment that begins as another is; the current folder is the project's.

    Raises:
        ExperimentError: there is no such experiment.
    """
    check(model)
    text = (folder(model) / layout.PARAMS).read_text(encoding="utf-8")
    if model == DEFAULT:
        text = "".join(re.findall(r"^experiment:.*?(?=^[^\s#]|\Z)", text, re.MULTILINE | re.DOTALL))
    own = re.sub(r"\A(#.*\n)*", "", text).strip()
    return (
        f"# Experiment {name}. What is not here is as in ../../{layout.PARAMS}, with its comments.\n"
        f"# `python -m stages.params --experiment {name}` shows what differs.\n\n{own}\n"
    )


def check_new(name: str) -> None:
    """Raises ExperimentError where no experiment can have this name."""
    if name == DEFAULT:
        raise ExperimentError(f"the experiment {DEFAULT!r} is the project itself: choose another name")
    if not NAME.fullmatch(name):
        raise ExperimentError(f"no experiment can have the name {name!r}: expected letters, digits, _, + and -")
    if alike := [other for other in names() if other != name and other.lower() == name.lower()]:
        raise ExperimentError(f"an experiment {alike[0]!r} exists, which some file systems take for {name!r}")


def make(name: str, text: str) -> None:
    """Write an experiment's `params.yaml`, and all else that makes its folder one. The current folder is the project's.

    Raises:
        ExperimentError: the name cannot be used.
    """
    check_new(name)
    place = folder(name)
    place.mkdir(parents=True, exist_ok=True)
    with atomic_write(place / layout.PARAMS) as partial:
        partial.write_text(text, encoding="utf-8", newline="")
    bring_into_step(name)


def bring_into_step(name: str) -> list[str]:
    """Give an experiment the project's code and DAG. What of it was not so; the current folder is the project's."""
    place, changed = folder(name), []
    if name == DEFAULT:
        return changed
    for link in LINKED:
        target = Path("../..", link)
        if not (place / link).is_symlink() or (place / link).readlink() != target:
            (place / link).unlink(missing_ok=True)
            (place / link).symlink_to(target)
            changed.append(link)
    if not is_in_step(place):
        with atomic_write(place / DAG) as partial:
            shutil.copy(DAG, partial)
        changed.append(str(DAG))
    return changed


def is_in_step(place: Path = Path()) -> bool:
    """Whether the `dvc.yaml` in a folder is the project's."""
    copy, original = place / DAG, layout.root() / DAG
    return copy.exists() and copy.read_bytes() == original.read_bytes()


def links() -> str:
    """What the report of the current experiment says of others, as JSON.

    `experiment` is its own name. `reports` are `name` and `about` of the others whose report git tracks, or, without
    git, whose report is there; empty for another experiment than the default one, whose report links to the others.
    """
    own = current()
    reports = [{"name": name, "about": _about(name)} for name in _reported()] if own == DEFAULT else []
    return json.dumps({"experiment": own, "reports": reports}, indent=1, ensure_ascii=False) + "\n"


def _reported() -> list[str]:
    pattern = f"{layout.EXPERIMENTS}/*/{layout.PAGE}"
    command = ["git", "ls-files", "-z", "--", f":(glob){pattern}"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
    except (OSError, subprocess.CalledProcessError):
        found = list(map(str, Path().glob(pattern)))
    return sorted(Path(path).parts[1] for path in found if path)


def _about(name: str) -> str:
    """The heading of its README.md; empty where it has none."""
    readme = folder(name) / "README.md"
    lines = readme.read_text(encoding="utf-8").splitlines() if readme.exists() else []
    return lines[0].removeprefix("#").strip() if lines else ""
