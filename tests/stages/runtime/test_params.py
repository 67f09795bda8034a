"""`params.yaml`: every error names its dotted key and what is allowed there."""

import json
import re
import shutil
from contextlib import suppress
from itertools import combinations, product
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from stages.params import __main__ as params_command
from stages.runtime import params
from stages.runtime.run import Run

TRAINING = ("recipes", "small", "training")
SCENES = ("datasets", "scenes")
VISION = ("recipes", "small", "model", "vision")
TEXT = ("recipes", "small", "model", "text")
OTHERS = ("experiment", "others")
SWIN = {
    "kind": "swin",
    "patch_size": 4,
    "embed_dim": 48,
    "depths": [2, 2, 2],
    "num_heads": [3, 6, 12],
    "window_size": 4,
    "drop_path": 0.0,
    "absolute_positions": True,
}
SCENES_ENTRY = {
    "kind": "scenes",
    "seed": 0,
    "image_size": 64,
    "image_counts": {"train": 8, "val": 4, "testA": 4, "testB": 4},
    "sentence": "sent",
}
REMOVED = object()


def error_after(tmp_path: Path, content: dict, *changes: tuple[tuple, object]) -> str:
    """The message for `content` with the given keys set, or removed."""
    for keys, value in changes:
        section = content
        for key in keys[:-1]:
            section = section[key]
        if value is REMOVED:
            del section[keys[-1]]
        else:
            section[keys[-1]] = value
    path = tmp_path / "params.yaml"
    with path.open("w") as file:
        YAML(typ="safe").dump(content, file)
    with pytest.raises(params.ParamsError) as caught:
        params.read(path)
    return str(caught.value)


def error_of_text(tmp_path: Path, text: str) -> str:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(params.ParamsError) as caught:
        params.read(path)
    return str(caught.value)


def test_the_projects_own_file_is_valid_and_frozen(root):
    content = params.read(root / "params.yaml")
    assert content.experiment.reference in content.variants
    with pytest.raises(ValueError):
        content.experiment.recipe = "other"


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (
            (*TRAINING, "epoch"),
            3,
            "recipes.small.training.epoch: unknown key; did you mean epochs? allowed: epochs, batch",
        ),
        (
            (*SCENES, "image_sizes"),
            3,
            "datasets.scenes.image_sizes: unknown key; did you mean image_size? allowed: ",
        ),
        ((*SCENES, "image_counts", "testC"), 3, "datasets.scenes.image_counts.testC: unknown key; did you mean test"),
        (("extra",), 3, "extra: unknown key; allowed: experiment, datasets, recipes, variants, evaluation"),
        ((*TRAINING, "epochs"), REMOVED, "recipes.small.training.epochs: missing"),
        (("evaluation",), REMOVED, "evaluation: missing"),
        ((*TRAINING, "epochs"), "many", "recipes.small.training.epochs: expected integer, found 'many' (a string)"),
        ((*TRAINING, "epochs"), True, "recipes.small.training.epochs: expected integer, found True (a truth value)"),
        ((*TRAINING, "epochs"), 2.0, "recipes.small.training.epochs: expected integer, found 2.0 (float)"),
        ((*TRAINING, "epochs"), 0, "recipes.small.training.epochs: expected greater than 0, found 0 (int)"),
        ((*TRAINING, "power"), "0.9", "recipes.small.training.power: expected number, found '0.9' (a string)"),
        (
            (*TRAINING, "power"),
            float("nan"),
            "recipes.small.training.power: expected a finite number, found nan (float)",
        ),
        (
            (*TRAINING, "precision"),
            "fp8",
            "recipes.small.training.precision: expected one of 'no', 'bf16' or 'fp16', found ",
        ),
        (TRAINING, 3, "recipes.small.training: expected a section with keys, found 3 (int)"),
        (("datasets", "scenes"), [], "datasets.scenes: expected a section with keys, found [] (a list)"),
        (("recipes",), None, "recipes: expected a section with keys, found None (nothing)"),
        ((*SCENES, "kind"), "scene", "datasets.scenes.kind: expected one of 'scenes', 'refer', 'parquet', 'mdetr'"),
        ((*SCENES, "kind"), REMOVED, "datasets.scenes.kind: missing"),
        (
            (*SCENES, "image_counts", "val"),
            -1,
            "datasets.scenes.image_counts.val: expected greater than 0, found -1 (int)",
        ),
        (("variants", "a b"), {}, "variants.a b: expected a name of letters, digits"),
        (("experiment", "seeds"), 3, "experiment.seeds: expected list, found 3 (int)"),
        (("experiment", "seeds"), [0, -1], "experiment.seeds.1: expected greater than or equal to 0, found -1 (int)"),
        (("experiment", "seeds"), [0, 0], "experiment.seeds: lists something twice: 0, 0"),
        (
            ("experiment", "reference"),
            "vlba",
            "experiment.reference: unknown variant 'vlba'; allowed: baseline, alignformer",
        ),
        (
            ("experiment", "highlight"),
            "vlba",
            "experiment.highlight: unknown variant 'vlba'; allowed: baseline, alignformer",
        ),
        (("experiment", "highlight"), REMOVED, "experiment.highlight: missing"),
        (
            ("experiment", "recipe"),
            "smal",
            "experiment.recipe: unknown name 'smal'; did you mean small? allowed: paper, photographs, small",
        ),
        (
            ("experiment", "datasets"),
            ["scene"],
            "experiment.datasets: unknown name 'scene'; did you mean scenes? allowed: ",
        ),
        (
            ("datasets", "refcoco", "root"),
            "data/scenes",
            "refcoco.root: data/scenes/refcoco lies in data/scenes, which",
        ),
        (("datasets", "refcoco", "images"), "data/scenes", "datasets.refcoco.images: data/scenes lies in data/scenes"),
        (
            ("datasets", "own"),
            {"kind": "coco", "instances": "data/own/a.json", "expressions": "a.csv", "images": "."},
            "datasets.own.instances: data/own/a.json lies in data/own, which is an output",
        ),
        (
            ("datasets", "refcocog", "split_by"),
            "unc",
            "datasets.refcocog.split_by: refcocog has no 'unc'; allowed: umd, google",
        ),
        (
            ("datasets", "refcoco", "name"),
            "refclef",
            "datasets.refcoco.name: expected one of 'refcoco', 'refcoco+' or 'refcocog', found 'refclef'",
        ),
        (("datasets", "refcoco_mix", "mix"), ["refcoco", "refcoco"], "datasets.refcoco_mix.mix: lists something twice"),
        (
            ("experiment", "outside"),
            ["refcoco"],
            "experiment.outside: unknown key; allowed: datasets, evaluate_on, variants, seeds",
        ),
        (
            ("datasets", "Scenes-night"),
            SCENES_ENTRY,
            "datasets: Scenes-night goes on from scenes by a dash, which joins names in stages and files, so those of "
            "one may be taken for the other's: rename one, to Scenes_night for example",
        ),
        (("datasets", "SCENES"), SCENES_ENTRY, "datasets: SCENES, scenes: alike but for case, - and _"),
        (("variants", "Alignformer"), {"vlba": "none"}, "variants: Alignformer, alignformer: alike but for case"),
        (
            ("evaluation", "protocol"),
            "lav",
            "evaluation.protocol: expected one of 'original', 'lavt', 'caris', 'cris', 'cgformer'",
        ),
        (VISION, SWIN | {"num_heads": [3]}, "recipes.small.model.vision.num_heads: 1 levels, but depths has"),
        (VISION, SWIN | {"embed_dim": 50}, "recipes.small.model.vision.num_heads: 3 heads do not divide the width 50"),
        ((*VISION, "channels"), [32], "recipes.small.model.vision.channels: 1 levels, but depths has"),
        (
            ("variants", "vlba_pixel", "contrastive_memory"),
            9,
            "variants.vlba_pixel.contrastive_memory: 9 changes nothing, since contrastive is 'pixel': leave it",
        ),
        (
            ("variants", "alignformer", "vlba_levels"),
            9,
            "variants.alignformer.vlba_levels: 9, but the vision encoder of recipe 'small' has 3 levels",
        ),
        ((*TEXT, "num_heads"), 7, "recipes.small.model.text.num_heads: 7 heads do not divide hidden_size"),
        (
            OTHERS,
            {"theirs": {"predictions": 3}},
            "experiment.others.theirs.predictions: expected a path, or a path for each dataset, found 3 (int)",
        ),
        (OTHERS, {"theirs": {"predictions": {"scenes": None}}}, "predictions: expected a path, or a path for each"),
        (OTHERS, {"theirs": {"prediction": "a.json"}}, "prediction: unknown key; did you mean predictions?"),
        (
            OTHERS,
            {"theirs": {"predictions": {"scene": "a.json"}}},
            "experiment.others.theirs.predictions: unknown dataset 'scene'; did you mean scenes?",
        ),
        (
            OTHERS,
            {"theirs": {"predictions": "results/a.json"}},
            "experiment.others.theirs.predictions: results/a.json lies in results, which is an output",
        ),
        (OTHERS, {"Baseline": {"predictions": "a.json"}}, "experiment.others.Baseline: variant baseline has this name"),
        (
            OTHERS,
            {"the-irs": {"predictions": "a.json"}, "the_irs": {"predictions": "b.json"}},
            "experiment.others.the_irs: the-irs has this name, but for case, - and _; choose another",
        ),
        (
            OTHERS,
            {"theirs": {"predictions": "a.json", "label": "baseline"}},
            "report.labels: baseline, theirs: all are called 'baseline': give each its own label",
        ),
    ],
)
def test_an_error_names_its_key_and_what_is_allowed(tmp_path, small_params, keys, value, message):
    assert message in error_after(tmp_path, small_params, (keys, value))


def test_accepted_names_never_join_into_one(small_params):
    """Every pair of datasets, with every variant, of up to three letters."""
    names = ["".join(letters) for n in (1, 2, 3) for letters in product("ab-", repeat=n) if letters[0] != "-"]
    refused, accepted = 0, 0
    for pair in combinations(names, 2):
        given = params.Params.model_construct(datasets=dict.fromkeys(pair), recipes={}, variants={})
        runs = {Run(dataset, variant, 0).name for dataset in pair for variant in names}
        if len(runs) < 2 * len(names):
            refused += 1
            with pytest.raises(ValueError, match="rename"):
                given._names_stay_apart()
        else:
            with suppress(ValueError):
                given._names_stay_apart()
                accepted += 1
    assert refused and accepted > 2 * refused


def test_one_path_of_predictions_is_of_one_dataset(tmp_path, small_params):
    small_params["datasets"]["more"] = small_params["datasets"]["scenes"]
    small_params["experiment"]["others"] = {"theirs": {"predictions": "a.json"}}
    message = error_after(tmp_path, small_params, (("experiment", "datasets"), ["scenes", "more"]))
    assert "others.theirs.predictions: one path for 2 datasets; give each its own: {scenes: a.json, ...}" in message
    small_params["experiment"]["others"]["theirs"]["predictions"] = {"more": "a.json"}
    experiment = params.Params.model_validate(small_params).experiment
    assert experiment.predictions("more") == {"theirs": "a.json"} and experiment.predictions("scenes") == {}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("scenez", r"experiment.evaluate_on: unknown name 'scenez'; did you mean scenes\? allowed: "),
        ("scenes", "experiment.evaluate_on: scenes is trained on, since experiment.datasets lists it"),
        (
            "more_val",
            "experiment.evaluate_on: more_val would be a split of this name, and val is a split that datasets",
        ),
        (
            "protocol",
            "experiment.evaluate_on: protocol would be a split of this name, and the files of metrics have the",
        ),
    ],
)
def test_a_further_dataset_is_known_not_trained_on_and_not_called_like_a_split(tmp_path, small_params, name, message):
    more = [(("datasets", more), SCENES_ENTRY) for more in ("more_val", "protocol")]
    found = error_after(tmp_path, small_params, *more, (("experiment", "evaluate_on"), [name]))
    assert re.search(message, found), found


def test_others_have_no_predictions_on_further_datasets(tmp_path, small_params):
    changes = (OTHERS, {"theirs": {"predictions": "theirs.json"}}), (("experiment", "evaluate_on"), ["refcoco"])
    assert "evaluate_on: theirs (experiment.others) cannot be scored on refcoco" in error_after(
        tmp_path, small_params, *changes
    )


def test_all_errors_are_named_at_once(tmp_path, small_params):
    message = error_after(
        tmp_path,
        small_params,
        (("experiment", "variants"), ["baseline", "nobody", "noone"]),
        (("experiment", "highlight"), "baseline"),
        (("experiment", "recipe"), "nothing"),
    )
    assert [line.split(":")[0] for line in message.splitlines()[1:]] == [
        "experiment.variants",
        "experiment.variants",
        "experiment.recipe",
    ]


def test_a_key_given_twice_is_named_with_its_line(tmp_path, root):
    lines = (root / "tests" / "params.yaml").read_text().splitlines()
    place = next(number for number, line in enumerate(lines) if line.strip().startswith("epochs:"))
    lines.insert(place + 1, lines[place])
    message = error_of_text(tmp_path, "\n".join(lines))
    assert f"line {place + 2}: found duplicate key" in message and "epochs" in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: b: c", "is not YAML"),
        ("a:\n<<<<<<< HEAD\n  b: 1\n=======\n  b: 2\n>>>>>>> other\n", "line 2: a merge conflict of git"),
        ("", "expected a section"),
        ("[1]", "a list"),
    ],
)
def test_a_file_that_holds_no_sections(tmp_path, text, message):
    assert message in error_of_text(tmp_path, text)


def test_a_missing_file(tmp_path):
    with pytest.raises(params.ParamsError, match="run from the project's root"):
        params.read(tmp_path / "params.yaml")


def test_yaml_is_read_as_dvc_reads_it(tmp_path, root):
    text = (root / "tests" / "params.yaml").read_text()
    text = re.sub(r"learning_rate: \S+", "learning_rate: 1e-3", text)
    text = re.sub(r"precision: \S+", "precision: no", text)
    (tmp_path / "params.yaml").write_text(text)
    training = params.read(tmp_path / "params.yaml").recipes["small"].training
    assert training.learning_rate == 0.001
    assert training.precision == "no"


def test_command_line(tmp_path, root, monkeypatch, capsys):
    shutil.copy(root / "tests" / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)

    params_command.main([])
    written = (tmp_path / "params.schema.json").read_text()
    assert json.loads(written)["properties"].keys() == params.Params.model_fields.keys()
    assert capsys.readouterr().out == (
        "params.yaml is right: 12 runs of recipe small; params.schema.json is new\n"  # 1 x 6 x 2
    )
    params_command.main(["--check"])
    assert capsys.readouterr().out.endswith("params.schema.json is up to date\n")

    (tmp_path / "params.schema.json").write_text(written + " ")
    with pytest.raises(SystemExit) as stale:
        params_command.main(["--check"])
    assert stale.value.code == 2
    assert capsys.readouterr().err == "params.schema.json is stale: run python -m stages.params\n"

    (tmp_path / "params.yaml").write_text("experiment: 3\n")
    with pytest.raises(SystemExit) as wrong:
        params.read_or_exit()
    assert wrong.value.code == 2
    assert "experiment: expected a section with keys, found 3 (int)" in capsys.readouterr().err


def test_the_committed_schema_is_current(root):
    assert (root / "params.schema.json").read_text() == params.schema()
