"""The RefCOCO family as it was published: its sets, and how each is split."""

from typing import Literal

SetName = Literal["refcoco", "refcoco+", "refcocog"]
SPLIT_BY: dict[SetName, list[str]] = {  # the customary one first
    "refcoco": ["unc"],
    "refcoco+": ["unc"],
    "refcocog": ["umd", "google"],
}
