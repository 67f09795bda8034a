"""dvc.yaml names the code that each stage imports, so that DVC reruns the stages that a change of code affects."""

import ast
import subprocess

import grimp
import pytest
from ruamel.yaml import YAML

from stages.train import identity

NO_OUTPUT_FOLLOWS_FROM = {
    "models.postprocessing",  # for use of a trained model
    "models.prediction",
    "stages.runtime",  # names and places, how outputs are written and guarded; parameters are `params` in dvc.yaml
    "stages.tracking",  # what is logged to MLflow
}
BUT_FROM = {"stages.runtime.kernels", "stages.runtime.processes", "stages.runtime.refer_sets"}
STAGES = ["prepare", "train", "evaluate", "diagnose", "card", "score", "ablate", "report"]


@pytest.fixture(scope="module")
def imports() -> grimp.ImportGraph:
    """The modules that determine outputs, and the imports between them."""
    graph = grimp.build_graph("models", "stages", cache_dir=None)
    commands = {module for module in graph.modules if module.endswith(".__main__")}  # .dvcignore leaves them out
    exempt = {module for module in graph.modules if within(module, NO_OUTPUT_FOLLOWS_FROM)}
    packages = {module for module in graph.modules if graph.find_children(module)}
    for module in (commands | exempt) - packages - BUT_FROM:
        graph.remove_module(module)
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


@pytest.mark.parametrize("stage", STAGES)
def test_dependencies_are_what_is_imported(imports, code, stage):
    named = {path.removesuffix(".py").replace("/", ".") for path in code[stage]}
    assert f"stages.{stage}" in named
    inside = {module for module in imports.modules if within(module, {f"stages.{stage}"})}
    needed = inside.union(*map(imports.find_upstream_modules, inside))
    needed = {module for module in needed if not imports.find_children(module)}  # a package's own file holds no code
    assert {module for module in needed if not within(module, named)} == set()
    printed = {"stages.runtime.params"} if stage == "report" else set()  # its page has the descriptions in it
    assert {name for name in named - printed if not any(within(module, {name}) for module in needed)} == set()


def test_dvc_looks_at_the_images_once(root):
    """Only their hash, which `prepare` makes of all of them, is a dependency of many stages."""
    stages = YAML(typ="safe").load(root / "dvc.yaml")["stages"]
    dependencies = {path for stage in stages.values() for path in stage.get("deps", [])}
    assert not any(path.startswith("data/") for path in dependencies)
    assert "results/prepared/${item.dataset}.json" in dependencies


def test_a_packages_own_file_holds_no_code(root):
    for path in [*(root / "models").rglob("__init__.py"), *(root / "stages").rglob("__init__.py")]:
        assert [type(node) for node in ast.parse(path.read_text()).body] in ([], [ast.Expr]), path


def test_a_checkpoint_is_keyed_by_the_code_that_dvc_knows(code):
    assert set(identity.SOURCES) == set(code["train"])


def test_a_users_settings_of_git_change_nothing_that_dvc_reads(root, tmp_path):
    """Some end every line in CRLF, or ignore `*.lock`; DVC refuses a file that git ignores."""
    (tmp_path / "ignored").write_text("*.lock\n*.yaml\n")
    settings = ["-c", "core.autocrlf=true", "-c", f"core.excludesFile={tmp_path / 'ignored'}"]
    files = ["dvc.yaml", "dvc.lock", "params.yaml", "stages/train/loop.py", "sources/scenes.json"]

    def git(*command: str) -> str:
        return subprocess.run(["git", *settings, *command], cwd=root, capture_output=True, text=True).stdout

    assert git("check-attr", "text", "--", *files).splitlines() == [f"{file}: text: unset" for file in files]
    assert git("check-ignore", "--no-index", "another.lock", "dvc.yaml", "dvc.lock").split() == ["another.lock"]


def within(module: str, packages: set[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)
