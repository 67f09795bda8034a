"""The reader of the REFER layout on anything: a sound dataset or one clear error; no crash, no hang, no code run."""

import copy
import json
import math
import os
import pickle
import pickletools
import struct
import sys
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask

from stages.prepare import plain_pickle
from stages.prepare.formats import release
from stages.prepare.formats.refer import ReferFiles, load_refs
from stages.prepare.problems import DatasetError
from tests.stages.prepare.fuzzing import (
    HEIGHT,
    INSTANCES,
    JSON_VALUES,
    REFS,
    WIDTH,
    assert_clear,
    assert_sound,
    damaged,
    endless,
    fuzzed,
    no_code_runs,
    restructured,
    shared,
    watch,
)

PROTOCOLS = (0, 2, 4)
PICKLED = {protocol: pickle.dumps(REFS, protocol) for protocol in PROTOCOLS}
WRITTEN = json.dumps(INSTANCES).encode()


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> ReferFiles:
    files = ReferFiles(tmp_path_factory.mktemp("fuzz"), "refcoco", "unc")
    images = files.root / release.IMAGE_FOLDERS[0]
    images.mkdir(parents=True)
    files.refs.parent.mkdir()
    for image in INSTANCES["images"]:
        Image.new("RGB", (WIDTH, HEIGHT)).save(images / image["file_name"])
    return files


# What must hold, whatever is read.


def read_anything(files: ReferFiles, refs: bytes = PICKLED[2], instances: bytes = WRITTEN) -> bool:
    """Whether it was a sound dataset; if not, its error is clear."""
    files.refs.write_bytes(refs)
    files.instances.write_bytes(instances)
    with no_code_runs():
        try:
            tables = release.read(files, "sent")
        except DatasetError as error:
            assert_clear(str(error), files)
            return False
    assert_sound(tables, files)
    return True


@pytest.fixture(scope="module", autouse=True)
def watched(files):
    assert read_anything(files)
    assert not read_anything(files, refs=PICKLED[2].replace(b"cup", b"c\xe9p"))  # its codec is imported now
    sys.addaudithook(watch)


@given(damaged(list(PICKLED.values())))
@fuzzed(100)
def test_damaged_refs(files, content):
    read_anything(files, refs=content)


@given(damaged([WRITTEN]))
@fuzzed(100)
def test_damaged_instances(files, content):
    read_anything(files, instances=content)


OBJECTS = [b"", b"bytes", b"\xff\n", (), (1, 2), set(), frozenset([1]), 1j, bytearray(b"x"), object, os.getcwd]
TANGLED = [endless(), [endless()] * 2, shared(40), {"a": shared(25)}, {1: 2, None: 3, "a": 4}, 10**4000]
PICKLE_VALUES = JSON_VALUES + OBJECTS + TANGLED


@given(restructured(REFS, PICKLE_VALUES), st.sampled_from(PROTOCOLS))
@fuzzed(100)
def test_restructured_refs(files, refs, protocol):
    read_anything(files, refs=pickle.dumps(refs, protocol))


@given(restructured(INSTANCES, JSON_VALUES))
@fuzzed(100)
def test_restructured_instances(files, instances):
    read_anything(files, instances=json.dumps(instances, default=repr).encode())


@given(restructured(REFS, JSON_VALUES), restructured(INSTANCES, JSON_VALUES))
@fuzzed(30)
def test_restructured_both(files, refs, instances):
    read_anything(files, pickle.dumps(refs, 4), json.dumps(instances).encode())


# Opcodes: any order, any argument, most often of those that take memory or load classes.

NUMBERS = st.sampled_from(
    [0, 1, 2, 7, 255, 256, 65535, 2**20, 2**24, 2**30, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**64 - 1]
)
TEXTS = [
    b"",
    b"a",
    b"0",
    b"12",
    b"-1",
    b"99999999999",
    b"9" * 5000,
    b"0x10",
    b"1e400",
    b"nan",
    b"'a'",
    b'"\\x00"',
    b"os",
]
LINES = st.sampled_from([*TEXTS, b"\\ud800", b"\xff", b"posix"]).map(lambda text: text + b"\n")
LENGTHS = {1: "<B", 4: "<I", 8: "<Q"}
HUNGRY = ["LONG_BINPUT", "PUT", "BINUNICODE8", "BINBYTES8", "BYTEARRAY8", "LONG4", "FRAME", "LONG1", "DUP", "MEMOIZE"]
LOADING = ["GLOBAL", "STACK_GLOBAL", "INST", "OBJ", "REDUCE", "BUILD", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT4", "PERSID"]
LOADING += ["BINPERSID", "NEXT_BUFFER", "READONLY_BUFFER"]
BUILDING = ["MARK", "EMPTY_LIST", "EMPTY_DICT", "EMPTY_TUPLE", "TUPLE1", "APPEND", "APPENDS", "SETITEM", "SETITEMS"]
BUILDING += ["DICT", "LIST", "POP", "NONE", "BINGET", "BINPUT", "SHORT_BINUNICODE", "BINUNICODE", "SHORT_BINSTRING"]
KNOWN = {opcode.name: opcode for opcode in pickletools.opcodes}


@st.composite
def operation(draw) -> bytes:
    """An opcode with an argument of its kind."""
    names = [*HUNGRY, *LOADING, *BUILDING * 3, *KNOWN]
    opcode = KNOWN[draw(st.sampled_from(names))]
    code = opcode.code.encode("latin-1")
    if opcode.name in ("GLOBAL", "INST"):
        return code + draw(
            st.sampled_from([b"os\nsystem\n", b"builtins\nexec\n", b"\n\n", b"__main__\na.b\n", b"\xff\n\0\n"])
        )
    if opcode.arg is None:
        return code
    if opcode.arg.n >= 0:
        return code + (draw(NUMBERS) % 256**opcode.arg.n).to_bytes(opcode.arg.n, "little")
    width = {pickletools.TAKEN_FROM_ARGUMENT1: 1}.get(opcode.arg.n, 8 if "8" in opcode.arg.name else 4)
    if opcode.arg.n == pickletools.UP_TO_NEWLINE:
        return code + draw(LINES)
    payload = draw(st.sampled_from([*TEXTS, b"echo 1", b"system", b"\xed\xa0\x80", b"\xff" * 9]))
    stated = draw(st.just(len(payload)) | st.just(len(payload)) | NUMBERS)
    return code + struct.pack(LENGTHS[width], stated % 256**width) + payload


@st.composite
def stream(draw) -> bytes:
    start = draw(st.sampled_from([b"", b"\x80\x02", b"\x80\x04", b"]", b"](", PICKLED[2][:-1], PICKLED[0][:-2]]))
    operations = draw(st.lists(operation(), min_size=1, max_size=12))
    return start + b"".join(operations) + draw(st.sampled_from([b".", b".", b".", b""]))


@given(stream())
@fuzzed(400)
@example(b"]r\xff\xff\xff\xff.")  # 64 GB, cleared
@example(b"]p4294967295\n.")
@example(b"\x80\x04]})" + b"\x85" * 200_000 + b"K\x01sa.")  # the interpreter's end: a tuple in a tuple in ... as a key
@example(b"]" * 300_000 + b"a" * 299_999 + b".")
@example(b"I" + b"9" * 100_000 + b"\n.")
@example(b"F" + b"9" * 100_000 + b"\n.")
@example(b"\x8d" + b"\xff" * 8 + b".")
@example(b"\x96" + struct.pack("<Q", 2**40) + b".")
@example(b"\x8b\xff\xff\xff\x7f.")
@example(b"\x80\x04\x95" + b"\xff" * 8 + b"].")
@example(b"cos\nsystem\n(S'echo ran'\ntR.")
@example(b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x08echo ran\x94\x85\x94R\x94.")
@example(b"\x80\x04\x8c\x02\r\x00\x94\x8c\x03\xed\xa0\x80\x94\x93.")
@example(b"(ios\nsystem\n.")
@example(b"\x82\x01.")
def test_streams_of_opcodes(files, content):
    files.refs.write_bytes(content)
    with no_code_runs():
        try:
            refs = load_refs(files.refs)
        except DatasetError as error:
            assert_clear(str(error), files)
            return
    assert isinstance(refs, list)
    try:
        names = {opcode.name for opcode, _, _ in pickletools.genops(content)}
    except ValueError:  # stricter about text than the unpickler
        return
    assert not names & {*LOADING, "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "LONG4", "BYTEARRAY8", "BINUNICODE8"}


# What was found, and what is known of pickles and of JSON.


@pytest.mark.parametrize("protocol", range(6))
def test_plain_data_of_every_protocol_are_loaded(protocol):
    text = "a word, é, \U0001f600, \n, '\"\\"
    plain = [None, True, False, *(sign * 2**n for n in range(63) for sign in (1, -1)), 0.5, -1e300, math.inf, text, ""]
    texts = ["x" * length for length in (*range(30), 255, 256, 70_000)]
    content = [plain, texts, {"refs": [{}] * 300}, [[n] for n in range(300)], plain]
    assert plain_pickle.load(pickle.dumps(content, protocol)) == content
    assert plain_pickle.load(pickle.dumps(content, protocol) + b"what follows is not read") == content
    unmemoised = pickletools.optimize(pickle.dumps(content, protocol))
    assert plain_pickle.load(unmemoised) == content


def test_byte_strings_of_python_2_are_text():
    assert plain_pickle.load(b"(lp0\nS'caf\\xc3\\xa9'\np1\naI01\naL12L\naF0.5\na.") == ["café", True, 12, 0.5]
    assert plain_pickle.load(b"\x80\x02]q\x00(U\x05caf\xc3\xa9q\x01T\x03\x00\x00\x00cup\x8a\x01\x07e.") == [
        "café",
        "cup",
        7,
    ]
    assert plain_pickle.load(b"\x80\x02]q\x00U\x04caf\xe9q\x01a.") == ["café"]


@pytest.mark.parametrize(
    "content",
    [
        b"]r\xff\xff\xff\xff.",
        b"]p4294967295\n.",
        b"\x8d" + struct.pack("<Q", 2**40) + b".",
        b"\x8e" + struct.pack("<Q", 2**34) + b".",
        b"\x96" + struct.pack("<Q", 2**34) + b".",
        b"X" + struct.pack("<I", 2**32 - 1) + b".",
        b"B" + struct.pack("<I", 2**32 - 1) + b".",
        b"\x8b" + struct.pack("<I", 2**31 - 1) + b".",
        b"\x95" + struct.pack("<Q", 2**40) + b".",
        b"]r\x00\x00\x01\x00" + b"." * 10,
    ],
)
def test_a_few_bytes_ask_for_no_memory(content):
    tracemalloc.start()
    try:
        with pytest.raises(plain_pickle.NotPlain):
            plain_pickle.load(content)
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()


def test_keys_chosen_to_collide_are_refused():
    colliding = {n * (2**61 - 1): None for n in range(4, 200)}
    for protocol in PROTOCOLS:
        with pytest.raises(plain_pickle.NotPlain, match="LONG"):
            plain_pickle.load(pickle.dumps([colliding], protocol))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "instances.json: not JSON: "),
        (b"\xef\xbb\xbf{}", "instances.json: not JSON: "),
        (b"[" * 100_000, "instances.json: not JSON: "),
        (b'{"images": [], "annotations": ' + b"[" * 2000 + b"]" * 2000 + b"}", "instances.json: not JSON: "),
        (b'{"images": NaN}', "instances.json: not JSON: "),
        (b'{"images": ["\\ud800"]}', "instances.json: not JSON: "),
        (b'{"images": ["\xff"]}', "instances.json: not JSON: "),
        (b'{"images": 3}', "instances.json: top level: images is 3, expected list"),
    ],
)
def test_json_that_is_none_is_named(files, content, message):
    assert not read_anything(files, instances=content)
    with pytest.raises(DatasetError) as caught:
        release.read(files, "sent")
    assert message in str(caught.value)


def test_an_outline_without_end_is_refused_before_it_takes_gigabytes(files, monkeypatch):
    huge = copy.deepcopy(INSTANCES)
    huge["images"][0].update(width=65535, height=65535)
    huge["annotations"][0]["segmentation"] = [[0, 0, 65535, 65535] * 10_000]
    outlines, draw = [], coco_mask.frPyObjects
    monkeypatch.setattr(coco_mask, "frPyObjects", lambda shape, *size: outlines.append(shape) or draw(shape, *size))
    assert not read_anything(files, instances=json.dumps(huge).encode())
    assert outlines and huge["annotations"][0]["segmentation"] not in outlines, "it is not drawn, others are"


@pytest.mark.parametrize("split", ["\n", "\0", "\x1b[31m", "y" * 5000])
def test_a_split_that_is_no_name_does_not_break_the_message(files, split):
    refs = copy.deepcopy(REFS)
    refs[0]["split"] = split
    assert not read_anything(files, refs=pickle.dumps(refs))


def test_the_error_can_be_printed_anywhere(files, capfd):
    refs = copy.deepcopy(REFS)
    refs[0]["split"] = "\ud800\x1b[31m\n"
    refs[1]["sentences"][0]["sent"] = "\udcff"
    files.refs.write_bytes(pickle.dumps(refs))
    with pytest.raises(DatasetError) as caught:
        release.read(files, "sent")
    str(caught.value).encode("utf-8")
    print(caught.value, file=sys.stderr)
    assert Path(files.refs).name in capfd.readouterr().err
