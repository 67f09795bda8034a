"""The sets of the RefCOCO family, the formats that they are held in, and the published ways to split each."""

from typing import Literal, get_args

SetName = Literal["refcoco", "refcoco+", "refcocog"]
Format = Literal["refer", "parquet", "mdetr", "seqtr", "cris"]
FORMATS: tuple[Format, ...] = get_args(Format)
WITH_RAW: tuple[Format, ...] = ("refer", "parquet")  # formats with the text of an expression as it was typed
SPLIT_BY: dict[SetName, list[str]] = {  # the usual split first
    "refcoco": ["unc", "google"],
    "refcoco+": ["unc"],
    "refcocog": ["umd", "google"],
}
