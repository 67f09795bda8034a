"""Evaluation protocols: the conventions under which published numbers were computed, as fields.

Numbers of two protocols are different quantities even where they share a name, so every file and table names its
protocol. I and U are the intersection and the union of predicted and true mask, in pixels.

- `original`, this project's own: the recipe's input, I and U at the original image size.
- `lavt`, `test.py` of yz93/LAVT-RIS: the true mask is stretched with the image, by Pillow's nearest neighbour, and I
  and U are counted on that grid; where the union is empty the IoU is 0.
- `caris`, `eval.py` of lsa1997/CARIS and, the same, of naver-ai/maskris: as `lavt` at 448 pixels.
- `cris`, `inference` in `engine/engine.py` of DerrickWang005/CRIS.pytorch: probabilities are warped back to the
  original image bicubically and cut at 0.35; IoU = I / (U + 1e-6), so 0 where the union is empty; Pr@X counts IoU > X.
- `cgformer`, `inference` in `engine/engine.py` of SooLab/CGFormer: as `cris`, but stretched and cut at 0.5.
- `rela`, `refer_evaluation.py` of henghuiding/ReLA: as `lavt`. Its IoU of 1 is for samples without a target, which the
  project's datasets have none of; a sample with a target has 0 where the union is empty. Papers of that line call oIoU
  cIoU and mIoU gIoU.

Under each of them every expression is a sample. `differs` says where the project counts otherwise than that code.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Protocol:
    """How I and U are counted, and which metrics are computed from them.

    Attributes:
        fit: how the image is brought to the input size; None for the recipe's own.
        size: input size, pixels, height = width; None for the recipe's own.
        grid: where I and U are counted: at the original image size, or at the input's, to which the true mask is
            brought.
        interpolated: what is brought from the input's grid to the original one.
        interpolation: how that is done.
        threshold: probability above which a pixel is inside.
        both_empty: IoU where predicted and true mask are empty.
        strict: Pr@X counts IoU > X; otherwise IoU >= X.
        headline: the metrics of the main table; variants are compared by the first.
        differs: sentences: where the project counts otherwise than the published code; empty where it does not.
    """

    name: str
    fit: Literal["stretch", "letterbox"] | None = None
    size: int | None = None
    grid: Literal["original", "input"] = "original"
    interpolated: Literal["logits", "probabilities"] = "logits"
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    threshold: float = 0.5
    both_empty: float = 0.0
    strict: bool = False
    headline: tuple[str, ...] = ("mIoU", "oIoU")
    differs: str = ""


OVERLAPS = (
    "Where polygons of one object overlap, the published code leaves these points out of the true mask; here they are "
    "part of it."
)

PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol("original", both_empty=1.0),
        Protocol("lavt", fit="stretch", size=480, grid="input", headline=("oIoU",), differs=OVERLAPS),
        Protocol(
            "caris",
            fit="stretch",
            size=448,
            grid="input",
            headline=("oIoU", "mIoU"),
            differs=f"{OVERLAPS} Two empty masks have no IoU in the published code; here it is 0.",
        ),
        Protocol(
            "cris",
            fit="letterbox",
            size=416,
            interpolated="probabilities",
            interpolation="bicubic",
            threshold=0.35,
            strict=True,
            headline=("mIoU",),
            differs="The published code rounds positions to 1/32 of a pixel as it warps; here nothing is rounded.",
        ),
        Protocol(
            "cgformer",
            fit="stretch",
            size=480,
            interpolated="probabilities",
            interpolation="bicubic",
            strict=True,
            headline=("oIoU", "mIoU"),
            differs="On the way back to the image, the published code aligns the centers of corner pixels; here their "
            "corners are aligned (under 0.1 points of mIoU).",
        ),
        Protocol(
            "rela",
            fit="stretch",
            size=480,
            grid="input",
            headline=("oIoU", "mIoU"),
            differs="The published code draws the true polygons at 480 x 480; here the true mask is resized to it by "
            "nearest neighbour.",
        ),
    )
}
