"""A gallery as one image file: expressions with their predictions in two columns, under a legend of the colours."""

import io
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from stages.drawing.mask_comparison import REGIONS
from stages.report.figures.gallery import Example

EXPRESSIONS = 6
PANEL_WIDTHS = (136, 128, 120, 112, 104, 96, 80, 64)  # pixels, the first that keeps the file small is taken
LIMIT = 400_000  # bytes
GAP, LINE, MARGIN = 6, 17, 24  # pixels
TEXT, SOFT_TEXT = "#1b1b1a", "#5a5a57"


def png(shown: list[Example]) -> bytes:
    """Expressions as one PNG file, in two columns under a legend of the colours.

    Panels are as wide as `LIMIT` bytes allow, at most `PANEL_WIDTHS[0]` pixels.
    """
    encoded = (_encoded(_composed(shown, width)) for width in PANEL_WIDTHS)
    for content in encoded:
        if len(content) < LIMIT:
            break
    return content


def _encoded(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format="PNG", optimize=True)
    return stream.getvalue()


def _composed(shown: list[Example], width: int) -> Image.Image:
    panels = 1 + len(shown[0].predictions)
    cell_width = panels * width + (panels - 1) * GAP
    rows = [shown[first : first + 2] for first in range(0, len(shown), 2)]
    texts = [[_wrap(f"“{example.text}”", _font(13), cell_width, lines=2) for example in row] for row in rows]
    text_heights = [LINE * max(map(len, row)) + 4 for row in texts]
    heights = [
        text_height + max(_scaled_height(example, width) for example in row) + LINE + MARGIN
        for row, text_height in zip(rows, text_heights, strict=True)
    ]
    canvas = Image.new("RGB", (2 * cell_width + 3 * MARGIN, LINE + MARGIN + sum(heights)), "white")
    draw = ImageDraw.Draw(canvas)
    _draw_legend(draw, MARGIN, LINE // 2)
    top = LINE + MARGIN
    for row, row_texts, text_height, height in zip(rows, texts, text_heights, heights, strict=True):
        for place, (example, lines) in enumerate(zip(row, row_texts, strict=True)):
            left = MARGIN + place * (cell_width + MARGIN)
            for number, line in enumerate(lines):
                draw.text((left, top + number * LINE), line, fill=TEXT, font=_font(13))
            _draw_panels(canvas, example, left, top + text_height, width)
        top += height
    return canvas


def _draw_panels(canvas: Image.Image, example: Example, left: int, top: int, width: int) -> None:
    draw = ImageDraw.Draw(canvas)
    panels = [(example.split, example.image)]
    panels += [(f"{shown.variant}  {shown.iou:.2f}", shown.image) for shown in example.predictions]
    height = _scaled_height(example, width)
    for place, (label, image) in enumerate(panels):
        x = left + place * (width + GAP)
        canvas.paste(image.resize((width, height), Image.Resampling.LANCZOS), (x, top))
        label = _shorten(label, _font(11), width)
        draw.text((x, top + height + 3), label, fill=SOFT_TEXT, font=_font(11))


def _draw_legend(draw: ImageDraw.ImageDraw, left: int, top: int) -> None:
    font = _font(12)
    for region in REGIONS:
        draw.rectangle((left, top + 6, left + 13, top + 19), fill=region.colour)
        text = f"{region.meaning} ({region.name})"
        draw.text((left + 19, top + 5), text, fill=TEXT, font=font)
        left += 19 + round(font.getlength(text)) + 22
    draw.text((left, top + 5), "number: IoU", fill=SOFT_TEXT, font=font)


def _scaled_height(example: Example, width: int) -> int:
    return max(1, round(width * example.image.height / example.image.width))


def _wrap(text: str, font: ImageFont.FreeTypeFont, room: int, lines: int) -> list[str]:
    wrapped, words = [""], text.split()
    for word in words:
        longer = f"{wrapped[-1]} {word}".strip()
        if font.getlength(longer) <= room or not wrapped[-1]:
            wrapped[-1] = longer
        else:
            wrapped.append(word)
    if len(wrapped) > lines:
        wrapped = wrapped[:lines]
        wrapped[-1] += " …"
    return [_shorten(part, font, room) for part in wrapped]


def _shorten(text: str, font: ImageFont.FreeTypeFont, room: int) -> str:
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(text + "…") > room:
        text = text[:-1]
    return text + "…"


def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)
