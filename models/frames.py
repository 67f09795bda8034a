"""Frames: how an image of any size becomes the model's square input, and how a map over that square is mapped back.

`Stretch` is AlignFormer's own; `Letterbox` is that of CRIS.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

Interpolation = Literal["bilinear", "bicubic"]


@dataclass(frozen=True)
class Stretch:
    """The whole image stretched to `size` x `size` pixels.

    Values agree with `ViTImageProcessorPil` within 1e-5 and take a third of its time: Pillow resizes in both, but here
    one step scales and shifts.
    """

    size: int

    def pixels(self, image: Image.Image, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
        """An RGB image, resized bilinearly and normalised: (3, size, size) float32."""
        return _normalised(image.resize((self.size, self.size), Image.Resampling.BILINEAR), mean, std)

    def mask(self, mask: np.ndarray) -> np.ndarray:
        """A mask (height, width), bool -> (size, size), bool: the pixel under the center of each output pixel.

        Pillow resizes it, as in the code of LAVT and CARIS: a center on the border of two pixels takes the one that
        Pillow's rounding gives.
        """
        if mask.shape == (self.size, self.size):
            return mask
        resized = Image.fromarray(mask.view(np.uint8)).resize((self.size, self.size), Image.Resampling.NEAREST)
        return np.array(resized).view(bool)

    def restore(
        self, maps: torch.Tensor, target_size: tuple[int, int], mode: Interpolation = "bilinear"
    ) -> torch.Tensor:
        """A map (size, size) over the input -> (height, width) over the image; unchanged if both sizes are equal."""
        if tuple(target_size) == tuple(maps.shape):
            return maps
        return F.interpolate(maps[None, None], size=target_size, mode=mode, align_corners=False)[0, 0]


@dataclass(frozen=True)
class Letterbox:
    """The image scaled to fit into `size` x `size` pixels and centered, its proportions kept.

    As in CRIS (Wang et al., CVPR 2022), which warps by `cv2.warpAffine`: pixel x of the image lies at
    scale * x + bias of the input, both counted from the center of their first pixel; bicubic with a = -0.75, no
    smoothing before shrinking. The border is the mean colour, and 0 on the way back. Unlike `cv2.warpAffine`, this does
    not round positions to 1/32 of a pixel or values to whole numbers.
    """

    size: int

    def pixels(self, image: Image.Image, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
        """An RGB image, warped bicubically and normalised: (3, size, size) float32; the border is 0."""
        values = _normalised(image, mean, std)
        rows, columns = self._positions(image.height, image.width)
        black, white = (_normalised(Image.new("RGB", (1, 1), colour), mean, std) for colour in ("black", "white"))
        return _sampled(values, rows, columns, "bicubic").clamp(black, white)

    def mask(self, mask: np.ndarray) -> np.ndarray:
        """A mask (height, width), bool -> (size, size), bool: the nearest pixel, False on the border."""
        rows, columns = ((positions + 0.5).floor().long().numpy() for positions in self._positions(*mask.shape))
        inside = np.outer((rows >= 0) & (rows < mask.shape[0]), (columns >= 0) & (columns < mask.shape[1]))
        warped = mask[rows.clip(0, mask.shape[0] - 1)][:, columns.clip(0, mask.shape[1] - 1)]
        return warped & inside

    def restore(
        self, maps: torch.Tensor, target_size: tuple[int, int], mode: Interpolation = "bilinear"
    ) -> torch.Tensor:
        """A map (size, size) over the input -> (height, width) over the image, 0 outside the map."""
        scale, (top, left) = self._scale_and_bias(*target_size)
        rows, columns = (torch.arange(side, dtype=torch.float64) * scale for side in target_size)
        return _sampled(maps[None], rows + top, columns + left, mode)[0]

    def _scale_and_bias(self, height: int, width: int) -> tuple[float, tuple[float, float]]:
        scale = min(self.size / height, self.size / width)
        return scale, ((self.size - height * scale) / 2, (self.size - width * scale) / 2)

    def _positions(self, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Where the rows and columns of the input lie in the image, in pixels: (size,), (size,) float64."""
        scale, (top, left) = self._scale_and_bias(height, width)
        positions = torch.arange(self.size, dtype=torch.float64)
        return (positions - top) / scale, (positions - left) / scale


Frame = Stretch | Letterbox


def _normalised(image: Image.Image, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """(value / 255 - mean) / std of each channel: (3, height, width) float32."""
    values = torch.from_numpy(
        np.stack([np.asarray(channel) for channel in image.split()])
    ).float()  # (3, height, width)
    means, stds = (torch.tensor(constants, dtype=torch.float64)[:, None, None] for constants in (mean, std))
    return values.mul_((1 / (255 * stds)).float()).sub_((means / stds).float())


def _sampled(values: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, mode: Interpolation) -> torch.Tensor:
    """Values (C, h, w) interpolated at every pair of R rows and Q columns, 0 outside: (C, R, Q)."""
    height, width = values.shape[1:]
    grid = torch.meshgrid((2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1, indexing="xy")
    grid = torch.stack(grid, dim=-1).to(values)  # (R, Q, 2), in -1..1 from edge to edge
    return F.grid_sample(values[None], grid[None], mode=mode, padding_mode="zeros", align_corners=False)[0]
