"""Reports are written without MLflow: tests/stages/tracking has what it is told of them."""

import pytest

from stages.tracking import live


@pytest.fixture(scope="module", autouse=True)
def without_mlflow():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live, "log_report", lambda *arguments: None)
        yield
