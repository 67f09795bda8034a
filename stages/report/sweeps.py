"""Sweeps: listed variants that differ in one number alone."""

from dataclasses import dataclass

from stages.runtime.params import Params

KEYS = {  # numeric key of a variant: its name on an axis
    "contrastive_weight": "weight of the contrastive loss",
    "temperature": "temperature of the contrast",
    "contrastive_border": "pixels on either side of the mask's edge left out of the contrast",
    "contrastive_memory": "samples of earlier batches in the contrast",
    "vlba_levels": "vision levels with attention, counted from the last",
}
FEWEST = 3  # values of a sweep


@dataclass(frozen=True)
class Sweep:
    """Variants that differ in one number alone.

    Attributes:
        key: the key of `params.yaml` in which they differ.
        variants: their names, by rising value; one without a value comes last.
        values: of each variant, None where it has none.
    """

    key: str
    variants: list[str]
    values: list[float | None]

    @property
    def labels(self) -> list[str]:
        """The values as text; a variant without `vlba_levels` has attention at all levels."""
        return ["all" if value is None else f"{value:g}" for value in self.values]


def find(params: Params) -> list[Sweep]:
    """Every sweep among the listed variants, by key and then in the listed order.

    Variants are a sweep over a key of `KEYS` if they agree in every other key and have at least `FEWEST` different
    values of this one. A sweep needs no declaration, and a variant may belong to several.
    """
    sweeps = []
    for key in KEYS:
        groups: dict[tuple, list[str]] = {}
        for name in params.experiment.variants:
            others = params.variants[name].model_dump(exclude={key})
            groups.setdefault(tuple(sorted(others.items(), key=lambda item: item[0])), []).append(name)
        for names in groups.values():
            values = {name: getattr(params.variants[name], key) for name in names}
            if len(set(values.values())) >= FEWEST:
                ordered = sorted(names, key=lambda name: (values[name] is None, values[name] or 0))
                sweeps.append(Sweep(key, ordered, [values[name] for name in ordered]))
    return sweeps
