"""Which stage starts when."""

import threading

import pytest

from pipelines.flow.scheduler import ClosedError, StageScheduler

DAG = {"prepare": set(), "a": {"prepare"}, "b": {"prepare"}, "c": {"a"}, "report": {"b", "c"}}


def test_one_after_the_other_in_the_order_of_the_dag():
    scheduler, started = StageScheduler(DAG, 1), []
    for stage in scheduler.order():
        started.append(stage)
        scheduler.ended(stage, succeeded=True)
    assert started == list(DAG)


def test_no_more_than_so_many_and_none_before_what_it_waits_for():
    stages = {"prepare": set(), **{f"train{i}": {"prepare"} for i in range(8)}}
    scheduler, running, most = StageScheduler(stages, 3), set(), []
    three = threading.Event()

    def work(stage):
        if stage != "prepare":
            three.wait(60)
        running.remove(stage)
        scheduler.ended(stage, succeeded=True)

    for stage in scheduler.order():
        running.add(stage)
        most.append((stage, len(running)))
        if len(running) >= 3:
            three.set()
        threading.Thread(target=work, args=(stage,)).start()
    assert most[1][1] == 1  # nothing beside prepare
    assert max(count for _, count in most) == 3


def test_a_failure_takes_only_what_waits_for_it_and_takes_no_slot():
    scheduler, started = StageScheduler(DAG, 1), []
    for stage in scheduler.order():
        started.append(stage)
        if stage in ("prepare", "b"):
            scheduler.ended(stage, succeeded=True)
        elif stage == "a":
            scheduler.ended(stage, succeeded=False)
    assert started[:2] == ["prepare", "a"] and set(started) == set(DAG)
    assert scheduler.succeeded(DAG) == ["prepare", "b"]
    with pytest.raises(ClosedError, match="a did not succeed"):
        scheduler.check("report")


def test_a_stage_that_pauses_leaves_its_slot_to_others_and_comes_back():
    scheduler = StageScheduler({"a": set(), "b": set()}, 1)
    order = scheduler.order()
    assert next(order) == "a"
    back = threading.Event()
    threading.Thread(target=lambda: (scheduler.pause("a", 0.05), back.set())).start()
    assert next(order) == "b"
    assert not back.wait(0.2)
    scheduler.ended("b", succeeded=True)
    assert back.wait(60)


def test_what_two_experiments_have_by_the_same_name_never_runs_at_once():
    scheduler = StageScheduler({"a": set(), "more/a": set(), "b": set(), "more/b": set()}, 4)
    order = scheduler.order()
    assert [next(order), next(order)] == ["a", "b"]
    scheduler.ended("b", succeeded=True)
    assert next(order) == "more/b"
    scheduler.ended("a", succeeded=False)
    assert next(order) == "more/a"


def test_close_wakes_everybody():
    scheduler = StageScheduler({"a": set(), "b": set()}, 1)
    order = scheduler.order()
    next(order)
    raised = threading.Event()

    def pause():
        with pytest.raises(ClosedError, match="a failed"):
            scheduler.pause("a", 600)
        raised.set()

    threading.Thread(target=pause).start()
    scheduler.close("a failed")
    assert raised.wait(60)
    assert next(order) == "b"
    with pytest.raises(ClosedError, match="a failed"):
        scheduler.check("b")
