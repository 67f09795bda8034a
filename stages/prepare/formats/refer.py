"""The REFER release.

ROOT/NAME/refs(SPLIT_BY).p         list of refs: which expressions mean which annotation
ROOT/NAME/instances.json           COCO: images, annotations, categories
"""

from pathlib import Path

from stages.prepare import coco, plain_pickle
from stages.prepare.formats.release import Content, Release
from stages.prepare.problems import DatasetError, Problems, shown


class ReferFiles(Release):
    """Where the files of one set of a REFER release lie."""

    @property
    def refs(self) -> Path:
        return self.root / self.name / f"refs({self.split_by}).p"

    @property
    def instances(self) -> Path:
        return self.root / self.name / "instances.json"

    @property
    def annotations(self) -> list[Path]:
        return [self.refs, self.instances]

    def load(self, problems: Problems) -> Content:
        return Content({self.refs: load_refs(self.refs)}, coco.load(self.instances, problems))

    def listed(self) -> dict[Path, set[str]]:
        return {self.image_folder(): coco.file_names(coco.read_bytes(self.instances))}


def load_refs(path: Path) -> list:
    """The list in `refs(*).p`, a pickle of Python 2 or 3.

    Raises:
        DatasetError: the file is missing, is not a whole pickle, or holds anything but lists, dictionaries, strings and
            numbers.
    """
    try:
        refs = plain_pickle.load(coco.read_bytes(path))
    except plain_pickle.NotPlain as error:
        raise DatasetError(f"{path}: {error}") from None
    if not isinstance(refs, list) or not refs:
        raise DatasetError(f"{path}: expected a list of refs, found {shown(refs)}")
    return refs
