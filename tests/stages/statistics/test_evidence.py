import pytest

from stages.statistics import evidence


@pytest.mark.parametrize(
    ("splits", "unseen"),
    [
        (["val", "testA", "testB"], ["testA", "testB"]),
        (["val"], ["val"]),
        (["refcoco_val", "refcoco_testA", "refcocog_val", "refcoco+_val", "refcoco+_testB"],
         ["refcoco_testA", "refcocog_val", "refcoco+_testB"]),
    ],
)  # fmt: skip
def test_val_is_fair_only_where_a_set_has_nothing_else(splits, unseen):
    assert evidence.unseen(splits) == unseen
