"""dvc.yaml names the code that each stage imports, so that DVC runs again what a change of code touches."""

import grimp
import pytest
from ruamel.yaml import YAML

from stages.train import identity

NO_OUTPUT_FOLLOWS_FROM = {  # names and places, parameters (which are `params` in dvc.yaml), what is said and logged
    "stages.runtime.keys",
    "stages.runtime.layout",
    "stages.runtime.params",
    "stages.runtime.parent",
    "stages.runtime.run",
    "stages.tracking",
}


@pytest.fixture(scope="module")
def imports() -> grimp.ImportGraph:
    graph = grimp.build_graph("models", "stages", cache_dir=None)
    graph.remove_module("stages.estimate.estimate")  # and with it what a dry run alone imports
    return graph


@pytest.fixture(scope="module")
def code(root) -> dict[str, list[str]]:
    """Stage -> files and folders of code among its dependencies."""
    stages = YAML(typ="safe").load(root / "dvc.yaml")["stages"]
    return {
        name: [path for path in stage["deps"] if path.startswith(("models", "stages/")) and not path.endswith(".j2")]
        for name, stage in stages.items()
        if "deps" in stage
    }


@pytest.mark.parametrize("stage", ["prepare", "train", "evaluate", "diagnose", "ablate", "report"])
def test_dependencies_are_what_is_imported(imports, code, stage):
    modules = {path.removesuffix(".py").replace("/", ".") for path in code[stage]}
    own = f"stages.{stage}"
    assert own in modules
    imported = imports.find_upstream_modules(own, as_package=True) - {"stages"}
    imported = {module for module in imported if not within(module, NO_OUTPUT_FOLLOWS_FROM)}
    assert {module for module in imported if not within(module, modules)} == set()
    assert {module for module in modules - {own} if not any(within(other, {module}) for other in imported)} == set()


def test_a_checkpoint_is_keyed_by_the_code_that_dvc_knows(code):
    assert set(identity.SOURCES) == set(code["train"])


def within(module: str, packages: set[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)
