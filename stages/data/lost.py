"""What the model does not get to see of a dataset, in words.

Expressions that are longer than the model reads are cut, in training and in evaluation. An object that is too small or
too thin may have no pixel left in its mask at the model's input size.
"""

from collections.abc import Mapping

CUT, VANISHED = "cut_expressions", "vanished_masks"  # keys of the `summary.json` of a diagnosis: split -> count


def sentences(counts: Mapping[str, Mapping[str, int]], tokens: int, size: int) -> list[str]:
    """One sentence for each kind of loss that there is.

    Args:
        counts: `CUT` and `VANISHED` -> split -> how many.
        tokens: how many the model reads.
        size: side of the model's input in pixels.
    """
    told = {
        CUT: f"Expressions of more than {tokens} tokens, whose end the model does not read",
        VANISHED: f"Masks without a pixel at the model's input size, {size} x {size}",
    }
    listed = {kind: [f"{count:,} in {split}" for split, count in counts[kind].items() if count] for kind in told}
    return [f"{told[kind]}: {', '.join(splits)}." for kind, splits in listed.items() if splits]
