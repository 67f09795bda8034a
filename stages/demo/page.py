"""The page: an image, an expression, and what two models find for it, side by side."""

import base64
import io

from dash import ALL, Dash, Input, Output, State, ctx, dcc, html, no_update
from PIL import Image

from models import images
from stages.attention.tiles import AttentionTiles, Tile
from stages.demo import answers
from stages.demo.answers import Answer, DemoSample
from stages.drawing import overlays
from stages.runtime.errors import UserError

SHOWN, THUMBNAIL = (640, 960), (80, 160)  # the most (width, height), pixels
LARGEST_UPLOAD = 32 * 2**20  # bytes
MOST_PIXELS = 64_000_000  # of an image that is dropped: decoded, it takes three bytes for each
LARGEST_SIDE = 1024  # pixels; of an image that is dropped, so that an answer takes no longer than of a sample
SIDES = ("left", "right")
NO_ATTENTION = (
    "This variant has no vision-language bidirectional attention (VLBA): no word gathers pixels, no pixel reads words."
)


def app(models: list[str], shown: tuple[str, str], datasets: list[str]) -> Dash:
    """The application that serves the page.

    Args:
        models: the models to choose from, as `source.runs` names them.
        shown: the two that the page begins with.
        datasets: the datasets to take samples from.
    """
    page = Dash(__name__, title="AlignFormer, side by side", update_title=None, serve_locally=True)
    page.layout = _layout(models, shown, datasets)
    page.callback(Output("samples", "children"), Input("dataset", "value"))(_thumbnails)
    page.callback(
        Output("image", "data"),
        Output("expressions", "children"),
        Output("text", "value"),
        Output("note", "children"),
        Output("note", "className"),
        Output("upload", "contents"),  # empty again, so that the same image can be dropped twice
        Input({"sample": ALL}, "n_clicks"),
        Input("upload", "contents"),
        State("dataset", "value"),
    )(_choose)
    page.callback(
        Output("text", "value", allow_duplicate=True),
        Input({"expression": ALL}, "n_clicks"),
        State("image", "data"),
        prevent_initial_call=True,
    )(_expression)
    for side in SIDES:
        asked = Input("image", "data"), Input("text", "value"), Input(f"{side}-model", "value")
        page.callback(Output(side, "children"), *asked)(_panel)
    return page


def _layout(models: list[str], shown: tuple[str, str], datasets: list[str]) -> html.Main:
    def side(name: str, model: str) -> html.Section:
        choice = dcc.Dropdown(models, model, id=f"{name}-model", clearable=False)
        at_work = html.P("The model is at work …", className="busy", role="status")
        answer = dcc.Loading(html.Div(id=name), custom_spinner=at_work, delay_show=300)
        return html.Section([html.Label(["Model", choice]), answer])

    of_model = [name for name in shown[0].split("/") if name in datasets]
    dataset = next(iter([*of_model, *datasets]), None)
    asked = [
        html.H1("AlignFormer, side by side"),
        html.P("Choose an image or drop one, describe a thing in it, and see the masks of two models."),
        html.Label(["Dataset", dcc.Dropdown(datasets, dataset, id="dataset")]),
        html.Div(id="samples", className="row"),
        dcc.Upload("Drop an image here, or click", id="upload", max_size=LARGEST_UPLOAD, className="upload"),
        html.P(id="note", role="status", **{"data-largest": str(LARGEST_UPLOAD)}),  # assets/upload.js writes it too
        html.Label(["Referring expression", dcc.Input(id="text", type="text", debounce=True, maxLength=500)]),
        html.Div(id="expressions", className="row"),
        dcc.Store(id="image"),
    ]
    answers_side_by_side = [side(*pair) for pair in zip(SIDES, shown, strict=True)]
    return html.Main([html.Div(asked, className="asked"), html.Div(answers_side_by_side, className="sides")])


def _thumbnails(dataset: str | None) -> list[html.Button]:
    found = answers.samples(dataset) if dataset else []
    return [
        html.Button(
            html.Img(src=_png(_scaled(sample.image, THUMBNAIL)), alt=f"image {sample.image_id}"), id={"sample": place}
        )
        for place, sample in enumerate(found)
    ]


def _choose(clicks: list[int | None], upload: str | None, dataset: str | None):
    """The chosen image as the page keeps it, its expressions, the first, a note and its class, and the emptied upload.

    When the page opens, and when another dataset is chosen, the first sample is chosen.
    """
    if ctx.triggered_id == "upload" and upload:
        image, note = _uploaded(upload)
        return image, [], no_update, note, "", None
    if not clicks:
        return (no_update,) * 6
    place = ctx.triggered_id["sample"] if ctx.triggered_id and any(clicks) else 0
    expressions = list(answers.samples(dataset)[place].expressions)
    buttons = [html.Button(text, id={"expression": number}) for number, text in enumerate(expressions)]
    return {"dataset": dataset, "sample": place}, buttons, expressions[0], "", "", no_update


def _expression(clicks: list[int | None], image: dict | None):
    if not any(clicks) or not image or "sample" not in image:
        return no_update
    return list(_sample(image).expressions)[ctx.triggered_id["expression"]]


def _panel(image: dict | None, text: str | None, model: str | None):
    """What one model finds, or why it finds nothing."""
    if not image or not model:
        return html.P("No image is chosen." if model else "No model is chosen.")
    if "refused" in image:
        return html.P(image["refused"], className="error")
    try:
        if "sample" in image:
            sample = _sample(image)
            return _shown(answers.ask(model, sample.image, text or "", sample.expressions.get(text)))
        return _shown(answers.ask(model, answers.kept(image["upload"]), text or ""))
    except (ValueError, FileNotFoundError, UserError) as error:
        return html.P(f"{error}", className="error")


def _sample(image: dict) -> DemoSample:
    return answers.samples(image["dataset"])[image["sample"]]


def _uploaded(content: str) -> tuple[dict, str]:
    """A data URI -> the image as the page keeps it, or why it is refused; and whether it is made smaller."""
    file = io.BytesIO(base64.b64decode(content.partition(",")[2]))
    try:
        with images.opened(file) as found:
            width, height = found.size
        if width * height > MOST_PIXELS:
            raise ValueError(
                f"the image has {width:,} x {height:,} pixels, and the page takes {MOST_PIXELS:,}: make it smaller"
            )
        file.seek(0)
        image = images.read(file)
    except ValueError as error:
        return {"refused": str(error)}, ""
    size = image.size
    image.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
    note = "The image of {} x {} pixels is made smaller: {} x {}.".format(*size, *image.size)
    return {"upload": answers.keep(image)}, note if image.size != size else ""


def _shown(answer: Answer) -> list:
    mask = f"{answer.share:.1%} of the image, with a mean probability of {answer.score:.3f}"
    if answer.iou is not None:
        mask = [html.B(f"IoU {answer.iou:.3f}"), f" (intersection over union) with the true mask. {mask}"]
    similarity = f"Cosine of each pixel and the expression's center: dark {answer.least:.2f}, bright {answer.most:.2f}"
    unknown = f"Not in the model's vocabulary, read as unknown words: {', '.join(answer.unknown)}."
    attention = [_table(part) for part in answer.attention]
    pictures = [
        _figure(answer.overlay, "Predicted mask", mask, "mask"),
        *([_figure(answer.truth, "True mask", "As the dataset has it", "truth")] if answer.truth else []),
        _figure(answer.heat, "Similarity", similarity, "similarity"),
    ]
    return [
        html.Div(pictures, className="pictures"),
        *([html.P(unknown, className="error")] if answer.unknown else []),
        *(attention or [html.P(NO_ATTENTION)]),
    ]


def _figure(image: Image.Image, title: str, caption: str | list, name: str) -> html.Figure:
    told = html.Figcaption([html.H2(title), html.P(caption)])
    return html.Figure([html.Img(src=_png(_scaled(image, SHOWN)), alt=title, className=name), told])


def _table(part: AttentionTiles) -> html.Div:
    """One row for each vision level, one column for each word."""
    head = html.Tr([html.Th("level"), *map(html.Th, part.words)])
    rows = [
        html.Tr([html.Th(level), *map(_cell, part.words, tiles)])
        for level, tiles in zip(part.levels, part.tiles, strict=True)
    ]
    table = html.Table([html.Thead(head), html.Tbody(rows)])
    about = html.P(f"Below each tile: {part.number}.")
    return html.Div([html.H2(part.title), about, table], className=f"words {part.direction}")


def _cell(word: str, tile: Tile) -> html.Td:
    return html.Td([html.Img(src=_png(tile.image), alt=word), html.Br(), tile.number])


def _scaled(image: Image.Image, bounds: tuple[int, int]) -> Image.Image:
    """The image as large as fits into (width, height): enlarged without smoothing, or reduced with it."""
    size = overlays.fitted(image.size, bounds)
    return image.resize(size, Image.Resampling.NEAREST if size > image.size else Image.Resampling.LANCZOS)


def _png(image: Image.Image) -> str:
    """An image as a data URI."""
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"
