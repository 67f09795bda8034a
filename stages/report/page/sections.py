"""What the report shows of one dataset besides its main tables: figures, tables of diagnoses, galleries."""

from dataclasses import dataclass

import pandas as pd

from stages.attention import tiles
from stages.attention.tiles import AttentionTiles
from stages.report import diagnoses, sweeps
from stages.report.dataset_results import DatasetResults
from stages.report.diagnoses import Diagnoses
from stages.report.figures import (
    alignment_plots,
    attention,
    calibration_curves,
    differences,
    embedding_maps,
    factorial_plots,
    gallery,
    learning_curves,
    profile_plots,
    slice_plots,
    sweep_plots,
)
from stages.report.figures.figure import Figure
from stages.report.figures.gallery import Gallery
from stages.report.figures.slice_plots import Slices
from stages.report.tables import captions, diagnosis_tables, sweep_tables
from stages.report.tables.table import Table
from stages.runtime.params import Params
from stages.statistics import alignment
from stages.statistics.slices import FAMILIES

CLOSE_UPS = 3  # expressions of which the report shows embeddings and attention
IMAGE_WIDTH = 192  # pixels, of an image under the attention


@dataclass(frozen=True)
class DatasetSection:
    """What the report shows of one dataset; a list is empty where there is nothing to show.

    Attributes:
        differences: the main figure.
        profile: the share of expressions whose IoU is above a threshold.
        factorial: means of every VLBA with every contrast.
        sweeps: figure and table of each sweep.
        slices: where it helps.
        alignment, alignment_table: do pixels align with the center?
        calibration, calibration_table: are probabilities right?
        embeddings: maps of pixel embeddings around the center.
        words: which pixels words gather and which words pixels read, for each expression, for the page.
        attention: the same for the first expression alone, as a figure for papers.
        curves: learning curves.
        galleries: predictions; none where `report.images` is false, nor `words` and `attention`.
    """

    differences: list[Figure]
    profile: Figure
    factorial: list[Figure]
    sweeps: list[tuple[Figure, Table]]
    slices: list[Figure]
    alignment: Figure
    alignment_table: Table
    calibration: Figure
    calibration_table: Table
    embeddings: Figure
    words: list[AttentionTiles]
    attention: list[Figure]
    curves: Figure
    galleries: list[Gallery]

    @property
    def figures(self) -> list[Figure]:
        """Every figure that becomes a file, in the order of the page."""
        swept = [figure for figure, _ in self.sweeps]
        diagnosed = [self.alignment, self.calibration, self.embeddings, *self.attention]
        return [*self.differences, self.profile, *self.factorial, *swept, *self.slices, *diagnosed, self.curves]


def gather(results: DatasetResults, params: Params) -> DatasetSection:
    """Everything that is shown of one dataset.

    Raises:
        ReportError: an input is missing, or an image cannot be read.
    """
    metric, comparison, first = results.metric, in_listed_order(results), results.splits[0]
    found = diagnoses.read(results.name, results.scored_seeds, results.shown, results.shown_seed)
    aligned = alignment.summarise(found.alignment)
    words = _words(results, found) if params.report.images else []
    return DatasetSection(
        differences=_differences(results, comparison, metric),
        profile=profile_plots.figure(
            results.profiles,
            results.systems,
            [name for name in dict.fromkeys([results.reference, results.highlight]) if name in results.scored],
            results.over,
            {split: captions.marked(results, split) for split in results.splits},
        ),
        factorial=[factorial_plots.figure(results.factorial, comparison, metric, results.over)]
        if results.factorial
        else [],
        sweeps=[
            (
                sweep_plots.figure(sweep, comparison, results.reference, metric, number, results.over),
                sweep_tables.table(results, sweep, metric),
            )
            for number, sweep in enumerate(sweeps.find(params), start=1)
        ],
        slices=_slices(results),
        alignment=alignment_plots.figure(aligned, results.variants, first, results.over),
        alignment_table=diagnosis_tables.of_alignment(results, aligned),
        calibration=calibration_curves.figure(found.calibration, found.thresholds, results.variants, first, "mIoU"),
        calibration_table=diagnosis_tables.of_calibration(results, found.summaries, first),
        embeddings=embedding_maps.figure(
            found.embeddings, {name: rows.head(CLOSE_UPS) for name, rows in found.samples.items()}
        ),
        words=words,
        attention=[attention.figure([each for each in words if each.sent_id == words[0].sent_id], results.highlight)]
        if words
        else [],
        curves=learning_curves.figure(results.histories, results.variants, results.seeds),
        galleries=gallery.galleries(results) if params.report.images else [],
    )


def in_listed_order(results: DatasetResults) -> pd.DataFrame:
    """The comparison as columns, sorted by variant and then by split, both in the listed order."""
    rows = results.comparison.reset_index()
    places = {name: place for names in (results.systems, results.splits) for place, name in enumerate(names)}
    order = rows[["variant", "split"]].apply(lambda column: column.map(places))
    return rows.loc[order.sort_values(["variant", "split"], kind="stable").index].reset_index(drop=True)


def _differences(results: DatasetResults, comparison: pd.DataFrame, metric: str) -> list[Figure]:
    if len(results.systems) == 1:
        return []
    titles = {split: captions.marked(results, split) for split in results.splits}
    return [differences.figure(comparison, results.reference, metric, results.over, titles, list(results.others))]


def _slices(results: DatasetResults) -> list[Figure]:
    split, table = results.splits[0], results.slices
    if table.empty:
        return []
    of_split = table[table["split"] == split].reset_index(drop=True)
    found = Slices(of_split, FAMILIES, results.systems, split, results.metric, results.over)
    means = slice_plots.means(found, list(results.scores))
    if len(results.shown) == 1:
        return [means]
    return [slice_plots.differences(found, results.highlight, results.reference), means]


def _words(results: DatasetResults, found: Diagnoses) -> list[AttentionTiles]:
    """Attention of the highlighted variant; empty where it has none."""
    table, words = found.attention[results.highlight], []
    for sample in found.samples[results.highlight].head(CLOSE_UPS).itertuples():
        image, truth = gallery.image_and_mask(results, sample.ann_id, IMAGE_WIDTH)
        words += tiles.tiles(table, sample.text, sample.sent_id, image, truth, results.protocol.fit)
    return words
