"""What a number rests on: how many images a split needs, and which splits chose nothing."""

FEWEST_IMAGES = 10  # of an interval: fewer say too little about other images
FEW_IMAGES = 50  # below it, intervals are rough, and a note says so


def is_val(split: str) -> bool:
    """Whether a split is `val`, or `refcoco+_val` in a mixture of sets."""
    return split.rpartition("_")[2] == "val"


def unseen(splits: list[str]) -> list[str]:
    """The splits that chose no epoch, so that their numbers are fair: all but val; of a set that has only val, that."""
    sets = [split.rpartition("_")[0] for split in splits]
    tested = {name for name, split in zip(sets, splits, strict=True) if not is_val(split)}
    return [split for name, split in zip(sets, splits, strict=True) if not (is_val(split) and name in tested)]
