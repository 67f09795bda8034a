"""The sets of the RefCOCO family, and the published ways to split each."""

from typing import Literal

SetName = Literal["refcoco", "refcoco+", "refcocog"]
SPLIT_BY: dict[SetName, list[str]] = {  # the usual split first
    "refcoco": ["unc"],
    "refcoco+": ["unc"],
    "refcocog": ["umd", "google"],
}
