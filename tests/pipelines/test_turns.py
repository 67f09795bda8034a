import threading
import time

import pytest

from pipelines.flow.scheduler import ClosedError, Turns

DAG = {"prepare": set(), "a": {"prepare"}, "b": {"prepare"}, "c": {"a"}, "report": {"b", "c"}}


def test_one_after_the_other_in_the_order_of_the_dag():
    turns, started = Turns(DAG, 1), []
    for stage in turns.order():
        started.append(stage)
        turns.ended(stage, well=True)
    assert started == list(DAG)


def test_no_more_than_so_many_and_none_before_what_it_waits_for():
    stages = {"prepare": set(), **{f"train{i}": {"prepare"} for i in range(8)}}
    turns, running, most = Turns(stages, 3), set(), []

    def work(stage):
        time.sleep(0.02)
        running.remove(stage)
        turns.ended(stage, well=True)

    for stage in turns.order():
        running.add(stage)
        most.append((stage, len(running)))
        threading.Thread(target=work, args=(stage,)).start()
    assert most[1][1] == 1  # nothing beside prepare
    assert max(count for _, count in most) == 3


def test_a_failure_takes_only_what_waits_for_it_and_takes_no_turn():
    turns, started = Turns(DAG, 1), []
    for stage in turns.order():
        started.append(stage)
        if stage in ("prepare", "b"):
            turns.ended(stage, well=True)
        elif stage == "a":
            turns.ended(stage, well=False)
    assert started[:2] == ["prepare", "a"] and set(started) == set(DAG)
    assert turns.well(DAG) == ["prepare", "b"]
    with pytest.raises(ClosedError, match="a did not end well"):
        turns.check("report")


def test_a_stage_that_pauses_leaves_its_turn_to_others_and_comes_back():
    turns = Turns({"a": set(), "b": set()}, 1)
    order = turns.order()
    assert next(order) == "a"
    back = threading.Event()
    threading.Thread(target=lambda: (turns.pause("a", 0.05), back.set())).start()
    assert next(order) == "b"
    assert not back.wait(0.2)
    turns.ended("b", well=True)
    assert back.wait(5)


def test_close_wakes_everybody():
    turns = Turns({"a": set(), "b": set()}, 1)
    order = turns.order()
    next(order)
    raised = threading.Event()

    def pause():
        with pytest.raises(ClosedError, match="a failed"):
            turns.pause("a", 600)
        raised.set()

    threading.Thread(target=pause).start()
    turns.close("a failed")
    assert raised.wait(5)
    assert next(order) == "b"
    with pytest.raises(ClosedError, match="a failed"):
        turns.check("b")
