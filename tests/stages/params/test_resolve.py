"""The stage `params`."""

import shutil
from pathlib import Path

from stages.params.__main__ import main


def test_what_an_earlier_version_left_among_the_scores_is_removed(root, tmp_path, monkeypatch, capsys):
    """`ablate` depends on the whole folder results/scores/scenes."""
    monkeypatch.chdir(tmp_path)
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(root / name, tmp_path)
    old = [Path(f"results/{name}") for name in ("scores/scenes/vlba/0.parquet", "protocols/scenes/vlba/1.csv")]
    kept = [Path(f"results/{name}") for name in ("scores/scenes/vlba/0/scenes.parquet", "history/scenes/vlba/0.csv")]
    for path in (*old, *kept):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("kept")
    main(["--resolve"])
    said = capsys.readouterr().out
    assert all(f"removed {path}, which an earlier version" in said for path in old)
    assert [path for path in old if path.exists()] == [] and all(map(Path.exists, kept))
    main(["--resolve"])
    assert "removed" not in capsys.readouterr().out
