"""A dataset with the further datasets that its models are scored on, each as one more split.

Two datasets may use the same numbers as ids, so those of a further dataset are moved into a range of their own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from stages.data import prepared
from stages.data.prepared import SPACE, PreparedDataset
from stages.runtime import layout

RANGE = 1000 * SPACE  # ids of the further dataset at place n, from 1 on, start at n * RANGE; `id % RANGE` is its own
IDS = ("sent_id", "ref_id", "ann_id", "image_id", "given")
OF_SIZE = "images of "  # begins what a prepared dataset says of its own splits, which are not split here


@dataclass(frozen=True)
class ScoredOn(PreparedDataset):
    """A prepared dataset with further ones: their expressions are splits of their names.

    Attributes:
        further: the names.
    """

    further: tuple[str, ...] = ()

    @property
    def evaluation_splits(self) -> list[str]:
        """Those of the dataset itself, then the further datasets."""
        own = self.expressions[~self.expressions["split"].isin(self.further)]
        return [*PreparedDataset(own, self.instances, self.summary).evaluation_splits, *self.further]

    @property
    def _mixed(self) -> bool:
        return True


def read(name: str, further: Sequence[str]) -> PreparedDataset:
    """A prepared dataset; with further ones, its summary has their numbers, warnings and notes too.

    `further` in the summary has source and fingerprint of each.

    Raises:
        FileNotFoundError: one is not prepared; the message has the command that prepares it.
    """
    own = prepared.read(layout.prepared(name))
    if not further:
        return own
    parts = [own, *(_moved(other, place) for place, other in enumerate(further, start=1))]
    return ScoredOn(
        expressions=pd.concat([part.expressions for part in parts], ignore_index=True),
        instances=pd.concat([part.instances for part in parts]),
        summary=_summary(own.summary, {other: part.summary for other, part in zip(further, parts[1:], strict=True)}),
        boxes=pd.concat([part.boxes for part in parts], ignore_index=True),
        further=tuple(further),
    )


def moved(table: pd.DataFrame, place: int) -> pd.DataFrame:
    """A table whose ids are those of the further dataset at a place, from 1 on."""
    return table.assign(**{column: table[column] + place * RANGE for column in IDS if column in table})


def _moved(name: str, place: int) -> PreparedDataset:
    dataset = prepared.read(layout.prepared(name), stage="prepare_on")
    return PreparedDataset(
        expressions=moved(dataset.expressions, place).assign(split=name),
        instances=moved(dataset.instances.reset_index(), place).set_index("ann_id"),
        summary=dataset.summary,
        boxes=moved(dataset.boxes, place),
    )


def _summary(own: dict, further: dict[str, dict]) -> dict:
    told = {
        kind: [
            *own.get(kind, []),
            *(
                f"{name}: {line}"
                for name, summary in further.items()
                for line in summary.get(kind, [])
                if not line.startswith(OF_SIZE)
            ),
        ]
        for kind in ("warnings", "notes")
    }
    of_each = {
        name: {"source": summary.get("source", {}), "fingerprint": summary.get("fingerprint", "not recorded")}
        for name, summary in further.items()
    }
    return {**own, **told, "further": of_each}
