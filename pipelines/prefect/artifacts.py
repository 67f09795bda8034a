"""What a flow run shows in Prefect's UI: how far it is, the comparison, and where to look. It runs without them too.

The keys of the artifacts are the same in every run, so that the UI has a history of each.
"""

import os
import platform
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from prefect import get_run_logger
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    update_progress_artifact,
)
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate

from pipelines.prefect.server import without_secrets
from stages.runtime import experiments, layout
from stages.runtime.experiments import DEFAULT

VIEW = re.compile(r"(?P<title>.+): (?P<address>https?://\S+)")  # a line of `python -m pipelines.sync --ui`


class StagesPage:
    """The state of every stage, as a percentage and as a table."""

    def __init__(self):
        self._shown: tuple[dict[str, str], str] = ({}, "")
        self._ids: tuple = ()

    def show(self, states: dict[str, str], done: int, summary: str) -> None:
        """Call it from one thread at a time. Does nothing where nothing is new.

        Args:
            states: stage -> its state in words.
            done: how many are up to date.
            summary: how far the run is, and how long it will take.
        """
        if (states, summary) == self._shown:
            return
        with _or_warn():
            percent = 100 * done / len(states)
            if self._ids:
                progress, table = self._ids
                update_progress_artifact(progress, percent, description=summary)
                if states != self._shown[0]:
                    get_client(sync_client=True).update_artifact(table, ArtifactUpdate(data=_table(states)))
            else:
                progress = create_progress_artifact(percent, key="progress", description=summary)
                table = create_markdown_artifact(_table(states), key="stages", description="the state of every stage")
                self._ids = (progress, table)
            self._shown = (states, summary)


def show_results(experiment: str) -> None:
    """The comparison of every dataset, as in the report of an experiment."""
    of, key = ("", "") if experiment == DEFAULT else (f" in experiment {experiment}", f"{_slug(experiment)}--")
    with _or_warn():
        for table in sorted((experiments.folder(experiment) / layout.REPORTS / "tables").glob("*.md")):
            create_markdown_artifact(
                table.read_text(encoding="utf-8"),
                key=f"comparison-{key}{_slug(table.stem)}",
                description=f"{table.stem}, compared{of}",
            )


def show_links(of: Iterable[str]) -> None:
    """Where MLflow and the reports of some experiments are, without passwords.

    Only what has an address for every browser is a link: a page that a server gives may not open a file of a disk.
    """
    with _or_warn():
        here = platform.node()
        if pages := mlflow_pages():
            create_link_artifact(pages, link_text="MLflow", key="mlflow", description="runs and models")
            mlflow = f"- MLflow: [{pages}]({pages}), with the reports as artifacts"
        else:
            mlflow = f"- MLflow: `make ui` on the machine `{here}`, in `{Path.cwd()}`"
        files = {name: (experiments.folder(name) / layout.PAGE).absolute() for name in of}
        reports = [
            f"- report{'' if name == DEFAULT else f' of {name}'}: the file `{file}` on the machine `{here}`"
            for name, file in files.items()
        ]
        create_markdown_artifact("\n".join([mlflow, *reports, ""]), key="links", description="where to look")


def mlflow_pages() -> str | None:
    """Where MLflow's pages are, without passwords; None where no server of MLflow is named."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    return without_secrets(uri) if uri.startswith(("http://", "https://")) else None


def show_views(experiment: str, lines: Sequence[str]) -> None:
    """Links to the views of an experiment in MLflow, from the lines of a sync that was told to print them."""
    views = [f"- [{found['title']}]({found['address']})" for line in lines if (found := VIEW.fullmatch(line))]
    key, of = ("views", "") if experiment == DEFAULT else (f"views-{_slug(experiment)}", f" of experiment {experiment}")
    if views:
        with _or_warn():
            create_markdown_artifact("\n".join([*views, ""]), key=key, description=f"views{of} in MLflow")


@contextmanager
def _or_warn() -> Iterator[None]:
    """An artifact that fails is a warning: the flow goes on."""
    try:
        yield
    except Exception as error:
        get_run_logger().warning("Prefect's page of this run lacks an artifact: %s: %s", type(error).__name__, error)


def _table(states: dict[str, str]) -> str:
    lines = [f"| {stage} | {state.replace('|', '/')} |" for stage, state in states.items()]
    return "\n".join(["| stage | state |", "| --- | --- |", *lines])


def _slug(name: str) -> str:
    """A name as Prefect allows it in a key. `refcoco` and `refcoco+` stay different."""
    return re.sub(r"[^a-z0-9]+", "-", name.replace("+", "-plus").lower()).strip("-")
