"""The estimate: the schedule's arithmetic, and that nothing is left behind."""

import re
from pathlib import Path

import pytest
import torch
import yaml

from stages.data import prepared
from stages.estimate import __main__ as command
from stages.estimate import estimate, measuring
from stages.runtime import layout, params
from stages.runtime.run import Run


@pytest.fixture
def project(squares, small_params, tmp_path, monkeypatch) -> Path:
    """A folder with `params.yaml` and the squares as the prepared dataset `scenes`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    small_params["recipes"]["small"]["training"].update(epochs=3, batch_size=3, precision="no")
    small_params["recipes"]["other"] = small_params["recipes"]["small"]
    Path("params.yaml").write_text(yaml.safe_dump(small_params))
    instances = squares.prepared.instances.reset_index()
    prepared.write(layout.prepared("scenes"), squares.prepared.expressions, instances, {"name": "scenes"})
    threads = torch.get_num_threads()
    yield tmp_path
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


def run_command(*more: str) -> None:
    command.main(["--dataset", "scenes", "--variant", "alignformer", "--seed", "0", *more])


def test_the_command_prints_a_table_and_leaves_nothing_behind(project, monkeypatch, capsys):
    def files():
        return {path: path.stat().st_mtime_ns for path in project.rglob("*")}

    before = files()
    run_command("--recipe", "other")
    assert files() == before
    text = capsys.readouterr().out
    assert text.startswith("scenes, alignformer, seed 0, recipe other, cpu with 1 threads")
    rows = re.findall(r"^(\w+) +([\d,]+) +([\d,]+) +([\d,]+) +[\d.]+ +[\d.]+%$", text, re.MULTILINE)
    counts = {name: [int(count.replace(",", "")) for count in columns] for name, *columns in rows}
    whole = counts.pop("all")
    assert whole == [sum(column) for column in zip(*counts.values(), strict=True)]
    assert {"vision", "text", "vlba", "pixel_decoder", "center", "grouping", "projection"} <= counts.keys()
    assert re.search(r"^schedule +3 epochs of 2 steps of 3 samples$", text, re.MULTILINE)
    assert re.search(r"^peak memory +\d\.\d\d GiB in a step", text, re.MULTILINE)
    assert re.search(r"^whole schedule +\d+ s = 0:01 \(h:mm\)$", text, re.MULTILINE)


def test_the_schedule_is_steps_loading_and_validation(project, monkeypatch):
    """Where everything that is timed takes 1 s: 3 epochs of 2 steps, each loaded before, and 3 validations."""

    def a_second(work, device=None):
        work()
        return 1.0

    monkeypatch.setattr(estimate, "seconds", a_second)
    monkeypatch.setattr(estimate, "PATIENCE", 60.0)
    text = estimate.report(Run("scenes", "alignformer", 0), params.read())
    assert "validation       3 s in all, 4 expressions after every epoch" in text
    assert f"whole schedule   {3 * 2 * (1 + 1) + 3} s = 0:01 (h:mm)" in text
    assert "median of 5 steps of 3 samples" in text


def test_steps_that_take_too_long_are_extrapolated_from_small_ones(project, monkeypatch):
    """1 s and 2 s a sample: a step of 1 takes 3 s, one of 3 takes 7 s."""
    sizes = iter([3.0] * 2 + [5.0] * 2)
    start = estimate.assemble(Run("scenes", "baseline", 0), params.read())
    monkeypatch.setattr(estimate, "PATIENCE", 40.0)
    monkeypatch.setattr(estimate, "seconds", lambda work, device=None: next(sizes))
    memory = iter([100, 130])
    monkeypatch.setattr(estimate, "peak_memory", lambda device: next(memory))
    cost = estimate.step_cost(start, [0, 2, 4, 6], estimate.processes.accelerator("no"))
    assert (cost.seconds, cost.memory) == (7.0, 160)
    assert cost.how == "extrapolated, as is the memory, from steps of 1 and 2 samples to 3"


def test_workers_load_during_the_step_and_the_training_itself_before_it():
    assert estimate.with_loading(2.0, 3.0, workers=0) == 5.0
    assert estimate.with_loading(2.0, 3.0, workers=2) == 2.0
    assert estimate.with_loading(2.0, 12.0, workers=4) == 3.0


@pytest.mark.parametrize(("duration", "text"), [(0.5, "0:01"), (60, "0:01"), (3599, "1:00"), (90_061, "25:02")])
def test_a_duration_in_hours_is_rounded_up(duration, text):
    assert estimate.clock(duration) == text


def test_the_peak_of_memory_stays_when_memory_is_freed():
    """A block larger than all that this process ever had."""
    device = torch.device("cpu")
    before = measuring.peak_memory(device)
    block = torch.ones(before, dtype=torch.uint8)
    del block
    assert before <= measuring.peak_memory(device) <= 2 * before + 2**25
    assert measuring.peak_memory(device) > 1.2 * before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--recipe", "smal"], "--recipe 'smal' is not in params.yaml; it has: other, "),
    ],
)
def test_a_recipe_that_cannot_be_meant_is_refused(project, monkeypatch, capsys, words, message):
    with pytest.raises(SystemExit) as error:
        run_command(*words)
    assert error.value.code == 2
    assert message in capsys.readouterr().err


def test_a_dataset_that_is_not_prepared_is_named(project, monkeypatch):
    (layout.prepared("scenes") / "expressions.parquet").unlink()
    with pytest.raises(SystemExit, match=r"error: .*data/scenes"):
        run_command()


def test_several_processes_are_refused(project, monkeypatch):
    monkeypatch.setattr(estimate.processes, "here", lambda: type("State", (), {"num_processes": 2}))
    with pytest.raises(SystemExit, match="an estimate runs in one process"):
        run_command()
