"""Evaluation protocols: the conventions under which published numbers were computed, as fields.

Numbers of two protocols are two quantities, also where they share a name: every file and table names its own.

- `original`, this project's own: the recipe's input, I and U at the original image size.
- `lavt`, `test.py` of yz93/LAVT-RIS: the true mask is stretched with the image, by nearest, and I and U are counted on
  that grid; where the union is empty the IoU is 0.
- `cris`, `inference` in `engine/engine.py` of DerrickWang005/CRIS.pytorch: probabilities are warped back to the
  original image bicubically and cut at 0.35; IoU = I / (U + 1e-6), so 0 where the union is empty; Pr@X counts IoU > X.
- `cgformer`, `inference` in `engine/engine.py` of SooLab/CGFormer: as `cris`, but stretched and cut at 0.5. There
  the centers of corner pixels are aligned; here, as everywhere in the project, the corners (under 0.1 points of mIoU).
- `rela`, `refer_evaluation.py` of henghuiding/ReLA: as `lavt`, but 1 where there is no target and none is predicted. An
  empty predicted mask is how this project's model says that there is none. ReLA draws the true polygons at 480 x 480;
  here the true mask is resized by nearest. Papers of that line call oIoU cIoU and mIoU gIoU.

Under each of them every expression is a sample.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Protocol:
    """How I and U are counted, and what is made of them.

    Attributes:
        fit: how the image is brought to the input size; None for the recipe's own.
        size: input size, pixels, height = width; None for the recipe's own.
        grid: where I and U are counted: at the original image size, or at the input's, the true mask brought there.
        interpolated: what is brought from the input's grid to the original one.
        interpolation: how.
        threshold: probability above which a pixel is inside.
        both_empty: IoU where predicted and true mask are empty.
        strict: Pr@X counts IoU > X; otherwise IoU >= X.
        headline: the metrics that stand in the main table; differences are of the first.
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


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol("original", both_empty=1.0),
        Protocol("lavt", fit="stretch", size=480, grid="input", headline=("oIoU",)),
        Protocol(
            "cris",
            fit="letterbox",
            size=416,
            interpolated="probabilities",
            interpolation="bicubic",
            threshold=0.35,
            strict=True,
            headline=("mIoU",),
        ),
        Protocol(
            "cgformer",
            fit="stretch",
            size=480,
            interpolated="probabilities",
            interpolation="bicubic",
            strict=True,
            headline=("oIoU", "mIoU"),
        ),
        Protocol("rela", fit="stretch", size=480, grid="input", both_empty=1.0, headline=("oIoU", "mIoU")),
    )
}
