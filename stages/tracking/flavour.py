"""A model folder packaged as an MLflow pyfunc model: weights as safetensors, code as files, nothing pickled."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

FOLDER = "data/model"  # where a logged model holds the model folder
SERVED = Path(__file__).parents[1] / "serving" / "served.py"
MODELS = Path(__file__).parents[2] / "models"
PACKAGES = ("numpy", "pandas", "pillow", "pycocotools", "safetensors", "tokenizers", "torch", "transformers")


@contextmanager
def packaged(folder: Path, run_id: str, model_id: str) -> Iterator[Path]:
    """Yield a temporary folder: the model, `models/`, `stages/serving/served.py`, a signature and an input example."""
    import mlflow.pyfunc
    import pandas as pd
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import Array, Object, Property
    from PIL import Image

    segmentation = Object([Property("size", Array(DataType.long)), Property("counts", DataType.string)])
    signature = ModelSignature(
        inputs=Schema([ColSpec(DataType.binary, "image"), ColSpec(DataType.string, "text")]),
        outputs=Schema([ColSpec(segmentation, "segmentation"), ColSpec(DataType.double, "score")]),
        params=ParamSchema([ParamSpec("threshold", DataType.double, 0.5)]),
    )
    image = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(image, "PNG")
    example = pd.DataFrame({"image": [image.getvalue()], "text": ["the red thing"]})
    with TemporaryDirectory() as place:
        named = Path(place, Path(FOLDER).name)
        named.symlink_to(folder.resolve())
        mlflow.pyfunc.save_model(
            path=Path(place, "packaged"),
            loader_module=SERVED.stem,
            data_path=named,
            code_paths=[str(SERVED), str(MODELS)],
            mlflow_model=Model(run_id=run_id, model_id=model_id),
            signature=signature,
            input_example=example,
            pip_requirements=[f"{package}=={version(package).partition('+')[0]}" for package in PACKAGES],
        )
        yield Path(place, "packaged")
