"""End, stop and starve processes of a tiny experiment at chosen moments, and check what is left and what follows.

Each injection brings a copy of a tiny project to a moment, injures it, and checks it. No process may outlive its parent
by 10 s, and no output may be half written. The next start must resume from the last checkpoint, if there is one, and
end with the same dvc.lock and the same bytes of every output as an undisturbed run.

Writes `benchmarks/results/faults.csv`, one row per injection. The exit code is 1 if a check failed.
"""

import argparse
import csv
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

from benchmarks import table
from benchmarks.faults.injections import Injection, all_injections
from benchmarks.faults.place import Places
from benchmarks.faults.scene import InjectionError, Scene

RESULTS = Path("benchmarks/results/faults.csv")
COLUMNS = ("fault", "process", "signal", "when", "what happened", "checked by", "ok")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__.splitlines()[0])
    parser.add_argument(
        "words", nargs="*", help="only injections whose name contains one of these texts (default: all)"
    )
    parser.add_argument("--list", action="store_true", help="list the injections and exit")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="injections at a time (default: 1)")
    options = parser.parse_args()
    chosen = [item for word in options.words or [""] for item in all_injections() if word in item.name]
    if options.list:
        print("\n".join(item.name for item in chosen))
        return
    surroundings = table.surroundings("torch", "dvc", "prefect", "mlflow")
    failed = 0
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.jobs) as pool:
        places = Places(Path(folder) / "made")
        for done in as_completed([pool.submit(inject, item, places) for item in chosen]):
            row = done.result()
            failed += row["ok"] != "yes"
            print(
                f"{row['ok']:>3}  {' / '.join(row[name] for name in COLUMNS[:4])}\n     {row['what happened']}",
                flush=True,
            )
            record(row | surroundings)
    print(f"{len(chosen)} injections, {failed} with a check that failed")
    sys.exit(failed > 0)


def inject(item: Injection, places: Places) -> dict[str, str]:
    """Run one injection and return its row."""
    scene, begin = None, time.monotonic()
    with tempfile.TemporaryDirectory() as name, disk(Path(name) / "disk", item.disk) as there:
        if not there:
            return row(item, ["not injected: this needs the right to mount a file system"], [], "not run")
        try:
            scene = Scene(places, Path(name), item.state)
            item.inject(scene)
            return row(item, [*scene.happened, *scene.failed], scene.checked, "no" if scene.failed else "yes")
        except Exception as error:
            what = str(error) if isinstance(error, InjectionError) else traceback.format_exc()
            after = f"after {time.monotonic() - begin:.0f} s: {what}"
            return row(item, [*(scene.failed if scene else []), after], [], "not run")
        finally:
            if scene:
                scene.close()


@contextmanager
def disk(folder: Path, megabytes: int | None) -> Iterator[bool]:
    """Create a folder; with a size, mount a file system in memory on it. Yields False if mounting fails."""
    folder.mkdir()
    if not megabytes:
        yield True
        return
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "faults", str(folder)]
    try:
        there = subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        there = False
    try:
        yield there
    finally:
        if there:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def row(item: Injection, happened: list[str], checked: list[str], ok: str) -> dict[str, str]:
    described = {"fault": item.fault, "process": item.process, "signal": item.signal, "when": item.when}
    return {**described, "what happened": "; ".join(happened), "checked by": "; ".join(checked), "ok": ok}


def record(new: dict[str, str]) -> None:
    """Add a row; it replaces an earlier one of the same injection."""
    named = COLUMNS[:4]
    rows = []
    if RESULTS.exists():
        with RESULTS.open(newline="", encoding="utf-8") as file:
            rows = [old for old in csv.DictReader(file) if any(old[name] != new[name] for name in named)]
        RESULTS.unlink()
    order = {tuple(getattr(item, name) for name in named): place for place, item in enumerate(all_injections())}
    rows.append(new)
    rows.sort(key=lambda found: order.get(tuple(found[name] for name in named), len(order)))
    table.append(RESULTS, rows)


if __name__ == "__main__":
    main()
