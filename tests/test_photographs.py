"""The two sets of photographs: controls without a model have figures known elsewhere, and no image is in both."""

from dataclasses import replace

import pytest

from stages.ablate import without_model
from stages.data import prepared
from stages.evaluate import trained_on
from stages.evaluate.trained_on import TrainedOnError
from stages.prepare.preparation import prepare
from stages.runtime import layout, params
from stages.scoring.metrics import summarise
from stages.scoring.protocols import PROTOCOLS

PROTOCOL = PROTOCOLS["original"]
KNOWN = {  # mIoU in percent, measured elsewhere on the same expressions
    ("refer_mini", "val"): {"whole image": 14.3, "center box": 14.4},
    ("refer_true", None): {"whole image": 10.4, "center box": 10.8},
}


@pytest.fixture(scope="module")
def photographs(shared_data, root, tmp_path_factory):
    """Both datasets, prepared."""
    sources = params.read(root / "experiments/photographs/params.yaml").datasets
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("photographs"))
        for name in ("refer_mini", "refer_true"):
            prepare(name, sources[name].model_copy(update={"root": str(shared_data / name)}))
        return {name: prepared.read(layout.prepared(name)) for name in ("refer_mini", "refer_true")}


@pytest.mark.parametrize(("name", "split"), KNOWN)
def test_controls_without_a_model_have_their_known_figures(photographs, name, split):
    rows = photographs[name].split(split) if split else photographs[name].expressions
    found = without_model.counted(photographs[name], rows, PROTOCOL)
    for method, value in KNOWN[name, split].items():
        assert 100 * summarise(found[method], PROTOCOL)["mIoU"] == pytest.approx(value, abs=0.05)


def test_no_image_with_a_true_mask_was_trained_on(photographs):
    true = photographs["refer_true"]
    trained_on.refuse(true, photographs["refer_mini"])
    assert len(true.expressions) == 177
    with pytest.raises(TrainedOnError, match=r"^24 of 24 images of refer_true are in train of refer_true, so"):
        trained_on.refuse(true, replace(true, expressions=true.expressions.assign(split="train")))
