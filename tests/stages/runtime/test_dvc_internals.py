"""One test for each thing of DVC that is used without DVC promising it, so that an upgrade that moves one names it.

Checked against what the `dvc` command itself prints and writes, in a small project that it made.
"""

import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.dvc import remote
from stages.runtime import dvc_internals
from stages.runtime.dvc_internals import BUSY, CACHED, ERROR, RWLOCK, SKIPPED, UNREACHABLE, DvcError

pytestmark = pytest.mark.programs

LOCK = Path("dvc.lock")
PIPELINE = """
stages:
  last:
    cmd: cp words.txt copy.txt
    params:
      - words
    deps:
      - words.txt
    outs:
      - copy.txt
  first:
    cmd: mkdir folder && cp input.txt folder/a.txt && cp input.txt words.txt
    deps:
      - input.txt
    outs:
      - words.txt
      - folder
  each_time:
    cmd: echo seen > seen.txt
    always_changed: true
    outs:
      - seen.txt:
          cache: false
"""


def dvc(*arguments: str) -> str:
    """All that a `dvc` command prints, whatever its exit code."""
    done = subprocess.run([sys.executable, "-m", "dvc", *arguments], capture_output=True, text=True)
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reproduced")
    (folder / "dvc.yaml").write_text(PIPELINE)
    (folder / "input.txt").write_text("words")
    (folder / "params.yaml").write_text("words: no\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert dvc("init", "-q", "--no-scm") == ""
        assert "Running stage 'last'" in dvc("repro")
    return folder


@pytest.fixture
def project(reproduced, tmp_path, monkeypatch):
    """Three stages, up to date."""
    shutil.copytree(reproduced, tmp_path / "project", symlinks=True)
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def entries() -> dict[str, dict]:
    return dvc_internals.read_yaml(LOCK)["stages"]


def test_dvc_is_not_imported_with_the_adapter():
    script = "import stages.runtime.dvc_internals, sys; print([name for name in sys.modules if name.startswith('dvc')])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


def test_dvc_plan_repro_gives_stages_in_order(project):
    found = [(stage.name, stage.needs) for stage in dvc_internals.stages()]
    assert sorted(found) == [("each_time", []), ("first", []), ("last", ["first"])]
    assert found.index(("first", [])) < found.index(("last", ["first"]))


def test_dvc_stage_says_whether_repro_would_skip_it(project):
    assert {stage.name for stage in dvc_internals.stages(look=True) if stage.unchanged} == {"first", "last"}
    Path("input.txt").write_text("other words")
    assert {stage.name for stage in dvc_internals.stages(look=True) if stage.unchanged} == {"last"}
    assert not any(stage.unchanged for stage in dvc_internals.stages())


def test_dvc_stages_that_share_a_file_each_have_their_own_record_of_it(project):
    Path("words.txt").write_text("other words")
    dvc("repro", "--single-item", "last")
    changed = {stage.name for stage in dvc_internals.stages(look=True) if not stage.unchanged}
    assert changed == set(json.loads(dvc("status", "--json"))) == {"first", "each_time"}


def test_dvc_lock_is_written_as_dvc_itself_writes_it(project, tmp_path, root):
    values = {"text": "no", "sign": "é: 'x' # y", "none": None, "long": "word " * 40, "flags": [True, "1.0", "1e3"]}
    numbers = {"numbers": [1e-05, 0.002, 1.0, 1e22, -0.0, 3], "empty": [{}, [], ""]}
    Path("params.yaml").write_text(json.dumps({"words": values | numbers}))
    dvc("repro")
    Path("input.txt").write_text("other words")
    shutil.copytree(project, tmp_path / "other", symlinks=True)
    dvc("repro")
    ours = [sys.executable, "-m", "pipelines.dvc", "repro"]
    path = {"PYTHONPATH": str(root)}
    done = subprocess.run(ours, cwd=tmp_path / "other", env=os.environ | path, start_new_session=True)
    assert done.returncode == 0 and entries()["last"]["params"]["params.yaml"]["words"] == values | numbers
    assert (tmp_path / "other" / LOCK).read_bytes() == LOCK.read_bytes()


def test_dvc_stage_that_always_changed_has_outputs_as_recorded(project):
    def outputs() -> dict:
        return {stage.name: stage.outputs for stage in dvc_internals.stages(look=True)}

    (recorded,) = entries()["each_time"]["outs"]
    assert outputs() == {"first": None, "last": None, "each_time": {"seen.txt": recorded["md5"]}}
    Path("seen.txt").write_text("other")
    assert outputs()["each_time"] is None


def test_dvc_knows_nothing_of_stages_while_its_lock_is_held(project):
    with dvc_internals.files_held():
        found = dvc_internals.stages(look=True)
    assert len(found) == 3 and not any(stage.unchanged or stage.outputs for stage in found)


def test_dvc_stages_are_looked_at_when_another_process_has_written_its_file(project, monkeypatch):
    from dvc.lock import Lock

    whole, take = LOCK.read_text(), Lock.lock

    def written_by_then(lock: Lock) -> None:
        LOCK.write_text(whole)
        take(lock)

    LOCK.write_text(whole[: len(whole) // 2])
    monkeypatch.setattr(Lock, "lock", written_by_then)
    assert {stage.name for stage in dvc_internals.stages(look=True) if stage.unchanged} == {"first", "last"}


def test_dvc_gives_the_lock_entry_that_it_will_write(project):
    entry = {name: value for name, value in entries()["last"].items() if name != "outs"}
    assert entry["params"] == {"params.yaml": {"words": "no"}}
    assert dvc_internals.lock_entry("last") == entry
    Path("words.txt").write_text("other words")
    other = dvc_internals.lock_entry("last")
    dvc("repro", "--single-item", "last")
    assert other == {name: value for name, value in entries()["last"].items() if name != "outs"} != entry
    with pytest.raises(DvcError, match="nope"):
        dvc_internals.lock_entry("nope")


def test_dvc_names_the_outputs_that_changed(project):
    assert dvc_internals.changed_outputs("first") == {}
    Path("words.txt").write_text("other words")
    shutil.rmtree("folder")
    assert dvc_internals.changed_outputs("first") == {"words.txt": "modified", "folder": "deleted"}


def test_dvc_data_hashes_files_and_folders_as_the_lock_file_does(project):
    recorded = {out["path"]: out["md5"] for out in entries()["first"]["outs"]}
    with dvc_internals.working_tree() as tree:
        assert {path: tree.hash(path) for path in recorded} == recorded
        assert recorded["folder"].endswith(".dir")
        assert tree.hash("nothing") is None


def test_dvc_hashes_no_file_that_file_managers_and_editors_leave(project, root):
    with dvc_internals.working_tree() as tree:
        before = tree.hash("folder")
    shutil.copy(root / ".dvcignore", project)
    for name in (".DS_Store", "._a.txt", "Thumbs.db", "desktop.ini", "a.txt~", ".a.txt.swp", ".nfs0001", "._b"):
        (project / "folder" / name).write_text("of somebody")
    (project / "folder" / ".ipynb_checkpoints").mkdir()
    (project / "folder" / ".ipynb_checkpoints" / "a.txt").write_text("of somebody")
    with dvc_internals.working_tree() as tree:
        assert tree.hash("folder") == before
        (project / "folder" / "b.txt").write_text("words")
    with dvc_internals.working_tree() as tree:
        assert tree.hash("folder") != before


def test_dvc_cache_knows_what_it_has(project):
    (recorded,) = entries()["last"]["outs"]
    with dvc_internals.working_tree() as tree:
        assert tree.is_cached(recorded["md5"])
        shutil.rmtree(".dvc/cache/files")
        assert not tree.is_cached(recorded["md5"])


def test_dvc_config_names_the_default_remote(project):
    assert dvc_internals.default_remote() is None
    dvc("remote", "add", "--default", "storage", "/nowhere")
    assert dvc_internals.default_remote() == "storage"
    dvc("remote", "add", "--local", "--default", "nearby", "/nearby")
    assert dvc_internals.default_remote() == "nearby"


def test_dvc_config_of_the_user_is_told_apart_from_that_of_the_clone(project, tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_GLOBAL_CONFIG_DIR", str(tmp_path))
    dvc("remote", "add", "--global", "--default", "team", "/team")
    assert "team" in (tmp_path / "config").read_text()
    assert dvc_internals.default_remote() is None
    assert dvc_internals.default_remote(("global", "system")) == "team"
    said = []
    remote.say_unused(said.append)
    assert len(said) == 1 and "'team' of your own DVC settings is not used" in said[0]
    dvc("remote", "default", "--local", "team")  # as the line says
    assert dvc_internals.default_remote() == "team"
    remote.say_unused(said.append)
    assert len(said) == 1


def test_dvc_refusals_are_of_one_kind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for refused in (dvc_internals.stages, dvc_internals.working_tree().__enter__):
        with pytest.raises(DvcError, match="not inside of a DVC repository"):
            refused()


def test_dvc_refuses_a_project_without_git_and_the_ways_out_are_named(project):
    Path(".dvc/config").write_text("")  # as in a zip of a clone
    with pytest.raises(DvcError, match="is not a git repository: `git init` makes it one, or `dvc config --local core"):
        dvc_internals.stages()
    dvc("config", "--local", "core.no_scm", "true")
    assert len(dvc_internals.stages()) == 3


def test_dvc_load_yaml_reads_yaml_1_2_and_refuses_what_is_none(tmp_path):
    (tmp_path / "file.yaml").write_text("a: no\nb: [1, 0o7]\n")
    content = dvc_internals.read_yaml(tmp_path / "file.yaml")
    assert content == {"a": "no", "b": [1, 7]}
    (tmp_path / "file.yaml").write_text("a: [")
    with pytest.raises(DvcError, match=r"file\.yaml"):
        dvc_internals.read_yaml(tmp_path / "file.yaml")


def test_dvc_lock_file_schema_refuses_what_is_cut_off(project):
    whole = LOCK.read_bytes()
    assert dvc_internals.is_lock_file(LOCK)
    for kept in (whole[:0], whole[:40], whole[:-10], b"schema: '2.0'\nstages: 7\n"):
        LOCK.write_bytes(kept)
        assert not dvc_internals.is_lock_file(LOCK)


def test_dvc_dump_yaml_writes_the_bytes_that_dvc_wrote(project):
    whole, order = LOCK.read_bytes(), list(entries())
    dvc_internals.sort_lock_file(LOCK, reversed(order))
    assert list(entries()) == order[::-1] and LOCK.read_bytes() != whole
    with dvc_internals.files_held():
        dvc_internals.sort_lock_file(LOCK, order)
    assert list(entries()) == order[::-1], "sorted, though the lock was held"
    dvc_internals.sort_lock_file(LOCK, order)
    assert LOCK.read_bytes() == whole


def test_dvc_locks_keep_other_processes_out(project):
    with dvc_internals.files_held():
        assert any(map(dvc_internals.is_locked, dvc("repro").splitlines()))
    from dvc.lock import LockError, make_lock
    from dvc.rwlock import RWLOCK_LOCK

    with dvc_internals.files_held(), pytest.raises(LockError), make_lock(f".dvc/tmp/{RWLOCK_LOCK}", ".dvc/tmp"):
        pass


def test_dvc_rwlock_lists_who_uses_a_path(project):
    """As DVC wrote it: the command looks at it while it runs."""
    Path("input.txt").write_text("other words")
    pipeline = Path("dvc.yaml").read_text()
    Path("dvc.yaml").write_text(pipeline.replace("mkdir folder", "cp .dvc/tmp/rwlock held.json && mkdir folder"))
    dvc("repro", "--single-item", "first")
    signed = dvc_internals.holders(Path("held.json"))
    assert {info["cmd"].partition(" ")[2] for info in signed} == {"repro --single-item first"}
    assert all(isinstance(info["pid"], int) for info in signed)
    paths = json.loads(Path("held.json").read_text())
    assert {Path(path).name for path in paths["write"]} == {"words.txt", "folder"}
    assert {Path(path).name for path in paths["read"]} >= {"input.txt"}
    RWLOCK.write_text('{"write": {"')
    with pytest.raises(ValueError):
        dvc_internals.holders()


def test_dvc_command_line_gives_the_exit_code(project):
    script = "from stages.runtime.dvc_internals import command_line; raise SystemExit(command_line())"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}

    def called(*arguments: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-c", script, *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environment)

    assert (called("root").returncode, called("root").stdout) == (0, ".\n")
    assert called("repro", "nope").returncode == 255


def test_dvc_command_line_waits_for_a_lock_and_says_so_where_that_takes_long(project):
    begun = "from stages.runtime import dvc_internals; dvc_internals.SILENCE = 0.2; dvc_internals.command_line()"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-c", begun, "repro", "--single-item", "first"]
    with dvc_internals.files_held():
        waiting = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert waiting.stdout.readline() == f"{dvc_internals.WAITS}\n"
    said, _ = waiting.communicate(timeout=120)
    assert waiting.returncode == 0 and SKIPPED in said and dvc_internals.WAITS not in said


def test_dvc_command_line_does_not_wait_where_the_file_system_has_no_locks(project, monkeypatch):
    """Waiting would never end: DVC says of such a file system what it says of a lock that is held."""

    def unsupported(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    wanted = f"lock cannot be locked: {os.strerror(errno.ENOLCK)}. Where the file system has no flock, DVC locks by"
    monkeypatch.setattr(fcntl, "flock", unsupported)
    with pytest.raises(DvcError, match=wanted), dvc_internals.files_held():
        pass
    begun = f"""
import fcntl
def unsupported(*_):
    raise OSError({errno.ENOLCK}, {os.strerror(errno.ENOLCK)!r})
fcntl.flock = unsupported
from stages.runtime import dvc_internals
raise SystemExit(dvc_internals.command_line())
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-c", begun, "repro", "--single-item", "first"]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert ended.returncode != 0
    (line,) = [line for line in ended.stderr.splitlines() if wanted in line]
    assert line.startswith(ERROR) and not dvc_internals.is_locked(line)


def test_dvc_locks_by_hard_links_where_its_settings_say_so(project):
    from dvc.lock import HardlinkLock, LockError

    dvc("config", "--local", "core.hardlink_lock", "true")
    for name in ("lock", "rwlock.lock"):  # those of flock stay behind, and would be waited for
        Path(".dvc/tmp", name).unlink(missing_ok=True)
    with dvc_internals.files_held(), pytest.raises(LockError):
        HardlinkLock(".dvc/tmp/lock", ".dvc/tmp").lock()


def test_dvc_says_didnt_change_skipping(project):
    assert f"Stage 'first' {SKIPPED}" in dvc("repro", "--single-item", "first")


def test_dvc_says_is_cached_skipping_run(project):
    LOCK.unlink()
    Path("copy.txt").unlink()
    assert f"Stage 'last' {CACHED}" in dvc("repro", "--single-item", "last")


def test_dvc_says_neither_of_a_stage_that_ran(project):
    Path("input.txt").write_text("other words")
    said = dvc("repro", "--single-item", "first")
    assert "Running stage 'first'" in said and SKIPPED not in said and CACHED not in said


def test_dvc_says_is_busy_of_a_path_that_another_process_writes(project):
    signed = {"pid": os.getpid(), "cmd": "dvc repro first"}
    RWLOCK.write_text(json.dumps({"write": {str(project / "words.txt"): signed}, "read": {}}))
    Path("input.txt").write_text("other words")
    said = dvc("repro", "--single-item", "first")
    assert any(BUSY in line for line in said.splitlines()), said


def test_dvc_begins_the_line_of_an_error_with_error(project):
    assert any(line.startswith(ERROR) for line in dvc("repro", "nope").splitlines())


def test_dvc_says_cannot_connect_to_host_of_an_http_remote_that_is_away(project):
    dvc("remote", "add", "--default", "storage", "http://127.0.0.1:9/")
    assert any(line.startswith(ERROR) and "Cannot connect to host" in line for line in dvc("push", "last").splitlines())
    assert "Cannot connect to host" in UNREACHABLE


def test_dvc_says_could_not_connect_of_an_s3_remote_that_is_away(project, monkeypatch):
    pytest.importorskip("dvc_s3", reason="no S3: the extra `servers` is not installed")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_MAX_ATTEMPTS"):
        monkeypatch.setenv(name, "1")
    dvc("remote", "add", "--default", "storage", "s3://bucket")
    dvc("remote", "modify", "storage", "endpointurl", "http://127.0.0.1:9")
    assert any(line.startswith(ERROR) and "Could not connect" in line for line in dvc("push", "last").splitlines())
    assert "Could not connect" in UNREACHABLE


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("EndpointConnectionError", {"endpoint_url": "http://s3", "error": "refused"}),
        ("ConnectTimeoutError", {"endpoint_url": "http://s3"}),
        ("ReadTimeoutError", {"endpoint_url": "http://s3"}),
        ("ConnectionClosedError", {"endpoint_url": "http://s3"}),
    ],
)
def test_botocore_says_what_dvc_passes_on_of_a_store_that_is_away(name, given):
    botocore = pytest.importorskip("botocore.exceptions", reason="no S3: the extra `servers` is not installed")
    assert any(words in str(getattr(botocore, name)(**given)) for words in UNREACHABLE)


def test_botocore_says_that_it_gave_up_on_an_answer_that_may_change():
    botocore = pytest.importorskip("botocore.exceptions", reason="no S3: the extra `servers` is not installed")
    answer = {"Error": {"Code": "SlowDown"}, "ResponseMetadata": {"MaxAttemptsReached": True, "RetryAttempts": 4}}
    assert UNREACHABLE[-1] in str(botocore.ClientError(answer, "PutObject"))
