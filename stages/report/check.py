"""Is the report in the working tree the one that would be written? Also in a clone without DVC's outputs."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from stages.report import assemble, provenance
from stages.report.assemble import Files
from stages.report.dataset_numbers import MissingInputError, ReportError
from stages.runtime import dvc_internals, experiments, keys, layout, merge_conflicts
from stages.runtime.dvc_internals import DvcError
from stages.runtime.params import Params


def check(params: Params) -> tuple[list[str], str]:
    """What is stale, one line for each thing, and what was looked at.

    It always looks at the hashes of `dvc.lock` that the report records, and at DVC's own record of the report's files.
    Then it compares every file byte by byte; where outputs of other stages are absent, only the tables, made again from
    `reports/data`.
    """
    if conflicts := _merge_conflicts():
        return conflicts, f"the files of {layout.REPORTS}"
    stale = [*_stages(params), *_links(), *_recorded_outputs()]
    try:
        wanted, looked = assemble.of_results(params), "every file made again from the outputs of all stages"
    except (MissingInputError, FileNotFoundError) as absent:
        looked = f"tables made again from {layout.REPORTS / 'data'}, hashes compared; no more, as outputs are absent"
        try:
            wanted = assemble.of_kept_data(params)
        except ReportError as error:
            return [*stale, str(error)], looked
        return [*stale, *_differing(wanted, [layout.REPORTS / "tables"])], f"{looked} ({absent})"
    except ReportError as error:
        return [*stale, str(error)], "the outputs of all stages"
    return [*stale, *_differing(wanted, [layout.REPORTS / folder for folder in assemble.FOLDERS])], looked


def _merge_conflicts() -> list[str]:
    """The report's files that git left half merged."""
    files = (path for path in sorted(layout.REPORTS.rglob("*")) if path.is_file())
    return [f"{path} holds a merge conflict: {_command()}" for path in files if merge_conflicts.named(path)]


def _stages(params: Params) -> list[str]:
    """The stages whose entry in `dvc.lock` differs from the one that the report was made from."""
    record = provenance.recorded()
    if record is None:
        return [f"{layout.REPORTS / provenance.FILE} is missing: make it with {_command()}"]
    before, now = record["stages"], provenance.stage_hashes(params, keys.locked_entries())
    stale = []
    for stage in dict.fromkeys([*now, *before]):
        if stage not in now:
            stale.append(f"{stage}: the report was made with it, params.yaml does not list it: {_command()}")
        elif stage not in before:
            stale.append(f"{stage}: params.yaml lists it, the report was made without it: {_command()}")
        elif now[stage] == provenance.NO_ENTRY:
            stale.append(
                f"{stage}: it has no entry in {keys.LOCK}: {experiments.dvc('repro', stage)}, then {_by_force()}"
            )
        elif now[stage] != before[stage]:
            hashes = f"its entry in {keys.LOCK} is {now[stage]}, the report was made from {before[stage]}"
            stale.append(f"{stage}: {hashes}: {_by_force()}")
    return stale


def _links() -> list[str]:
    """Whether the page links to the reports of other experiments that git tracks now."""
    locked = keys.locked_entries().get("report", {}).get("deps", [])
    made_from = {dependency["path"]: dependency.get("md5") for dependency in locked}.get(str(layout.LINKS))
    if made_from in (None, hashlib.md5(experiments.links().encode()).hexdigest()):
        return []
    return [f"{layout.PAGE} links to other reports than those that git tracks in {layout.EXPERIMENTS}: {_command()}"]


def _recorded_outputs() -> list[str]:
    """The report's files that differ from what `dvc.lock` records; none where this is no DVC project."""
    try:
        changed = dvc_internals.changed_outputs("report")
    except DvcError:
        return []
    return [f"{path} is {state}, as {keys.LOCK} records it: {_command()}" for path, state in changed.items()]


def _differing(wanted: Files, folders: Iterable[Path]) -> list[str]:
    """Files that differ, that are missing, or that lie in one of the folders and should not."""
    stale = []
    for name, content in wanted.items():
        path = layout.REPORTS / name
        if not path.exists():
            stale.append(f"{path} is missing: {_command()}")
        elif path.read_bytes() != content:
            stale.append(f"{path} is not what would be written: {_by_force()}")
    kept = {layout.REPORTS / name for name in wanted}
    surplus = (path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file() and path not in kept)
    return stale + [f"{path} is of no listed dataset: {_command()}" for path in surplus]


def _command() -> str:
    return experiments.dvc("repro", "report")


def _by_force() -> str:
    return experiments.dvc("repro --force --single-item", "report")
