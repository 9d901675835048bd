"""tagger.safetensors: what goes in comes out, the contract holds, hostile files are refused."""

import json
import pickle
import struct
from dataclasses import replace

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from extract.errors import InputError
from fsprobe.tagger.file import FORMAT, read_tagger, write_tagger
from tests.support import fake_tagger


@pytest.fixture
def tagger(tmp_path):
    return fake_tagger.make(tmp_path / "store", fake_tagger.HOSTILE)[0]


def contents(path):
    with safe_open(path, framework="numpy") as file:
        names = file.keys()
        return {name: file.get_tensor(name) for name in names}, dict(file.metadata())


def test_round_trip(tmp_path, tagger):
    write_tagger(tmp_path / "a.safetensors", tagger)
    again = read_tagger(tmp_path / "a.safetensors")
    assert again.tags == tagger.tags and again.sources == tagger.sources
    assert again.training == tagger.training and again.embedding == tagger.embedding
    for name in ("kernel", "bias", "calibration", "threshold"):
        np.testing.assert_array_equal(getattr(again, name), getattr(tagger, name))
    write_tagger(tmp_path / "b.safetensors", again)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_the_contract_is_read_by_safetensors_alone(tmp_path, tagger):
    write_tagger(tmp_path / "t.safetensors", tagger)
    tensors, metadata = contents(tmp_path / "t.safetensors")
    count, dim = len(tagger.tags), 7
    assert {name: (array.shape, array.dtype) for name, array in tensors.items()} == {
        "kernel": ((count, dim), np.float32),
        "bias": ((count,), np.float32),
        "calibration": ((count, 2), np.float32),
        "threshold": ((count,), np.float32),
    }
    assert json.loads(metadata["tags"]) == list(fake_tagger.HOSTILE)
    assert metadata["format"] == FORMAT and metadata["aggregation"] == "none"
    (store,) = json.loads(metadata["stores"])
    assert store["name"] == "store" and store["dim"] == dim
    assert {"provenance", "licence", "weights_sha256"} <= store.keys()


def damaged(tensors, metadata, **changes):
    return tensors | {k: v for k, v in changes.items() if k in tensors}, metadata | {
        k: v for k, v in changes.items() if k not in tensors
    }


CASES = {
    "NaN": lambda t, m: damaged(t, m, kernel=t["kernel"] * np.nan),
    "Inf in bias": lambda t, m: damaged(t, m, bias=t["bias"] + np.float32(np.inf)),
    "float64": lambda t, m: damaged(t, m, bias=t["bias"].astype(np.float64)),
    "short bias": lambda t, m: damaged(t, m, bias=t["bias"][:-1]),
    "kernel of three axes": lambda t, m: damaged(t, m, kernel=t["kernel"][None]),
    "another width": lambda t, m: damaged(t, m, kernel=t["kernel"][:, 1:]),
    "slope of zero": lambda t, m: damaged(t, m, calibration=0 * t["calibration"]),
    "threshold of 2": lambda t, m: damaged(t, m, threshold=t["threshold"] + 2),
    "no tensor": lambda t, m: ({k: v for k, v in t.items() if k != "bias"}, m),
    "no tags": lambda t, m: (t, {k: v for k, v in m.items() if k != "tags"}),
    "tags are no list": lambda t, m: damaged(t, m, tags='{"a": 1}'),
    "tags are numbers": lambda t, m: damaged(t, m, tags=json.dumps(list(range(len(t["bias"]))))),
    "tags twice": lambda t, m: damaged(t, m, tags=json.dumps(["x"] * len(t["bias"]))),
    "too many tags": lambda t, m: damaged(t, m, tags=json.dumps([*json.loads(m["tags"]), "more"])),
    "an empty tag": lambda t, m: damaged(t, m, tags=json.dumps(["", *json.loads(m["tags"])[1:]])),
    "half a character": lambda t, m: damaged(
        t, m, tags=json.dumps(["\ud800", *json.loads(m["tags"])[1:]])
    ),
    "not JSON": lambda t, m: damaged(t, m, training="{"),
    "nested without end": lambda t, m: damaged(t, m, training="[" * 200_000),
    "a number of 10,000 digits": lambda t, m: damaged(t, m, stores="9" * 10_000),
    "NaN in JSON": lambda t, m: damaged(t, m, training='{"a": NaN}'),
    "training of a tag is a list": lambda t, m: damaged(t, m, training='{"a": []}'),
    "highest probability of 7": lambda t, m: damaged(
        t, m, training='{"a": {"highest_probability": 7}}'
    ),
    **{
        f"{key} of 400 digits": lambda t, m, key=key: damaged(
            t, m, shared=json.dumps({key: 10**400})
        )
        for key in ("pooled_slope", "clip_seconds")
    },
    "highest probability of 400 digits": lambda t, m: damaged(
        t, m, training=json.dumps({"a": {"highest_probability": 10**400}})
    ),
    **{
        f"{key} of 400 digits": lambda t, m, key=key: damaged(
            t, m, stores=json.dumps([json.loads(m["stores"])[0] | {key: 10**400}])
        )
        for key in ("dim", "width")
    },
    "a pooled slope below zero": lambda t, m: damaged(t, m, shared='{"pooled_slope": -1}'),
    "no stores": lambda t, m: damaged(t, m, stores="[]"),
    **{
        f"a store without {key}": lambda t, m, key=key: damaged(
            t, m, stores=json.dumps([json.loads(m["stores"])[0] | {key: ""}])
        )
        for key in ("name", "embedding", "aggregation")
    },
    **{
        f"a store named {name!r:.20}": lambda t, m, name=name: damaged(
            t, m, stores=json.dumps([json.loads(m["stores"])[0] | {"name": name}])
        )
        for name in ("/home/u/x", "../../x", "..", ".", "a/b", "a\\b", "C:x", "-x", "a\n")
    },
    "two stores of one name": lambda t, m: damaged(
        t | {"kernel": np.tile(t["kernel"], 2)}, m, stores=json.dumps(json.loads(m["stores"]) * 2)
    ),
    "a width below zero": lambda t, m: damaged(
        t, m, stores=json.dumps([json.loads(m["stores"])[0] | {"width": -7}])
    ),
    "an array of another name": lambda t, m: damaged(
        t, m, stores=json.dumps([json.loads(m["stores"])[0] | {"array": "../features"}])
    ),
    "another aggregation": lambda t, m: damaged(t, m, aggregation="mean_std"),
    "another format": lambda t, m: damaged(t, m, format="fsprobe tagger 99" + "9" * 5000),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_inside_is_refused_in_one_line(tmp_path, tagger, case):
    path = tmp_path / "t.safetensors"
    write_tagger(path, tagger)
    tensors, metadata = CASES[case](*contents(path))
    save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, path, metadata)
    refused(path)


def refused(path):
    with pytest.raises(InputError) as caught:
        read_tagger(path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message and len(message) <= 300 + len(str(path))


class Trap:
    def __reduce__(self):
        return print, ("unpickled",)


RAW = {
    "empty": b"",
    "7 bytes": b"\x00" * 7,
    "a pickle": pickle.dumps({"kernel": Trap()}),
    "a header longer than the file": struct.pack("<Q", 2**62) + b"{}",
    "a header that is no JSON": struct.pack("<Q", 16) + b"x" * 16,
    "offsets beyond the end": struct.pack("<Q", 72)
    + b'{"kernel":{"dtype":"F32","shape":[9,9],"data_offsets":[0,324]}}'.ljust(72),
    "a shape of 10^18": struct.pack("<Q", 96)
    + b'{"kernel":{"dtype":"F32","shape":[1000000000,1000000000],"data_offsets":[0,4]}}'.ljust(96)
    + b"\0" * 4,
    "no metadata": struct.pack("<Q", 8) + b"{}      ",
}


@pytest.mark.parametrize("case", RAW)
def test_what_is_no_tagger_is_refused_and_never_unpickled(tmp_path, capsys, case):
    path = tmp_path / "t.safetensors"
    path.write_bytes(RAW[case])
    refused(path)
    assert "unpickled" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "place", "value", "message"),
    [
        ("kernel", (3, 2), np.nan, "the kernel of tag {tag} is nan, not finite"),
        ("bias", (3,), -np.inf, "the bias of tag {tag} is -inf, not finite"),
        ("calibration", (3, 1), np.inf, "the calibration of tag {tag} is inf, not finite"),
        ("calibration", (3, 0), -2, "the slope of tag {tag} is -2, not positive"),
        ("threshold", (3,), 1.5, "the threshold of tag {tag} is 1.5, not within 0 and 1"),
    ],
)
def test_what_is_wrong_with_a_number_is_said_with_it(tmp_path, tagger, name, place, value, message):
    array = getattr(tagger, name).copy()
    array[place] = value
    with pytest.raises(InputError) as caught:
        write_tagger(tmp_path / "t", replace(tagger, **{name: array}))
    assert message.format(tag=repr(tagger.tags[3])[:60]) in str(caught.value)


def test_a_folder_and_a_missing_file_are_told_apart(tmp_path):
    with pytest.raises(InputError, match="is a directory; name a tagger"):
        read_tagger(tmp_path)
    with pytest.raises(InputError, match="no such file; name a tagger"):
        read_tagger(tmp_path / "t.safetensors")


def test_a_tagger_that_could_not_be_read_is_not_written(tmp_path, tagger):
    with pytest.raises(InputError):
        write_tagger(tmp_path / "t", replace(tagger, bias=tagger.bias * np.nan))
    assert not (tmp_path / "t").exists()


def test_rows_are_taken_with_all_that_belongs_to_them(tagger):
    few = tagger.take([3, 1])
    assert few.tags == (tagger.tags[3], tagger.tags[1]) == tuple(few.training)
    np.testing.assert_array_equal(few.calibration, tagger.calibration[[3, 1]])
