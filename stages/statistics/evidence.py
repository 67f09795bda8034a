"""What a number rests on: how many images a split needs, and which splits chose nothing."""

FEWEST_IMAGES = 20  # of an interval and a p-value; with fewer, intervals hold too rarely (docs/comparing.md)
FEW_IMAGES = 50  # below it, a note stands beside the numbers: only large differences can be supported


ONE_FILE = "one file of predictions: the interval covers other images, not other trainings"


def no_verdict(images: int, degrees: int) -> str:
    """Why no difference on so many images has a p-value; empty where it has one.

    Args:
        images: number of images that the variants were scored on.
        degrees: degrees of freedom of the spread between seeds.
    """
    needs = [f"{FEWEST_IMAGES} or more images (here {images})"] if images < FEWEST_IMAGES else []
    if not degrees:
        needs.append("two or more seeds that the variants share")
    if not needs:
        return ""
    covered = "" if images < FEWEST_IMAGES else "; the interval is of the images alone"
    return f"a verdict needs {' and '.join(needs)}{covered}"


def no_verdict_of_a_file(images: int) -> str:
    """Why no difference to a system that is known by one file of predictions has a p-value, on so many images."""
    if images < FEWEST_IMAGES:
        return f"one file of predictions, and fewer than {FEWEST_IMAGES} images (here {images})"
    return ONE_FILE


def is_val(split: str) -> bool:
    """Whether a split is `val`, or `refcoco+_val` in a mixture of sets."""
    return split.rpartition("_")[2] == "val"


def unseen(splits: list[str]) -> list[str]:
    """The splits that chose no epoch, so that their numbers are fair: all but val; of a set that has only val, that."""
    sets = [split.rpartition("_")[0] for split in splits]
    tested = {name for name, split in zip(sets, splits, strict=True) if not is_val(split)}
    return [split for name, split in zip(sets, splits, strict=True) if not (is_val(split) and name in tested)]
