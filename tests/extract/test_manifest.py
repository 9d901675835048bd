"""extract.manifest: what is written is read back, and what could not be is refused."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extract.errors import InputError
from extract.files import atomic_write
from extract.manifest import (
    SPLITS,
    Manifest,
    apply_split_file,
    rank_tags,
    read_manifest,
    resolve_audio,
    write_manifest,
)

HEADER = "clip_id,path,split,tags\n"
# Text as nasty as the format admits: quotes, commas, blanks inside, joiners, right-to-left, emoji.
nasty = st.text(st.sampled_from("aé,\"';|\\ \t#=\u200d\u202e\xa0😀\ufeff"), max_size=6)
anything = st.text(max_size=6) | nasty


def manifest_of(*rows):
    return Manifest(*(tuple(column) for column in zip(*rows, strict=True)))


@given(
    st.lists(
        st.tuples(
            anything, anything, st.sampled_from(SPLITS), st.lists(anything, max_size=3).map(tuple)
        ),
        min_size=1,
        max_size=5,
    )
)
def test_written_is_read_back_or_refused(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("manifest") / "manifest.csv"
    manifest = manifest_of(*rows)
    try:
        write_manifest(path, manifest)
    except InputError as error:
        assert "\n" not in str(error)
        assert list(path.parent.iterdir()) == []
    else:
        assert read_manifest(path) == manifest


plain = st.text(st.sampled_from("aé,\"';\\ #=\u200d\u202e😀\ufeff"), min_size=1, max_size=6).filter(
    lambda text: text == text.strip()
)


@given(
    st.lists(
        st.tuples(
            plain,
            nasty.filter(lambda text: "\t" not in text),
            st.sampled_from(SPLITS),
            st.lists(plain, max_size=3, unique=True).map(tuple),
        ),
        min_size=1,
        max_size=5,
        unique_by=lambda row: row[0],
    )
)
def test_sound_manifests_are_never_refused(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("manifest") / "manifest.csv"
    write_manifest(path, manifest_of(*rows))
    assert read_manifest(path) == manifest_of(*rows)


seconds = st.none() | st.floats(0, 1e6)


@given(st.data())
def test_optional_columns_are_read_back_where_they_exist(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("manifest") / "manifest.csv"
    count = data.draw(st.integers(1, 4))

    def column(values):
        return data.draw(st.just(()) | st.tuples(*[values] * count))

    manifest = Manifest(
        tuple(f"c{row}" for row in range(count)),
        ("a.wav",) * count,
        ("train",) * count,
        (("x",),) * count,
        starts=column(seconds),
        durations=column(st.none() | st.floats(1e-3, 1e6)),
        tracks=column(st.just("") | plain),
        groups=column(st.just("") | plain),
        not_tags=column(st.sampled_from([(), ("y",), ("y", "z")])) or None,
    )
    write_manifest(path, manifest)
    assert read_manifest(path) == manifest
    present = path.read_text().splitlines()[0].split(",")[4:]
    assert present == list(manifest.optional())


WHOLE = Manifest(
    ("a", "b", "c"),
    ("t.mp3", "t.mp3", "u.mp3"),
    ("train", "", "test"),
    (("x",), (), ("y",)),
    starts=(0.0, 29.5, None),
    durations=(30.0, 12.25, None),
    tracks=("t", "t", ""),
    groups=("Bach", "Bach", "Björk"),
    not_tags=(("y",), (), ("x", "z")),
)


def test_optional_columns_as_text(tmp_path):
    write_manifest(tmp_path / "manifest.csv", WHOLE)
    assert (tmp_path / "manifest.csv").read_text() == (
        "clip_id,path,split,tags,start,duration,track,group,not_tags\n"
        "a,t.mp3,train,x,0,30,t,Bach,y\n"
        "b,t.mp3,,,29.5,12.25,t,Bach,\n"
        "c,u.mp3,test,y,,,,Björk,x|z\n"
    )


def test_optional_columns_follow_their_clips(tmp_path):
    assert WHOLE.used() == WHOLE.take([0, 2])
    assert WHOLE.take([2]) == Manifest(
        ("c",),
        ("u.mp3",),
        ("test",),
        (("y",),),
        starts=(None,),
        durations=(None,),
        tracks=("",),
        groups=("Björk",),
        not_tags=(("x", "z"),),
    )
    (tmp_path / "split.csv").write_text("clip_id,split\nb,valid\n")
    split, _ = apply_split_file(WHOLE, tmp_path / "split.csv")
    assert split.used() == replace(WHOLE.take([1]), splits=("valid",))
    # a column that nobody filled is still a column: here nothing is known of any other tag
    assert WHOLE.take([1]).not_tags == ((),)
    assert manifest_of(("a", "", "train", ())).take([0]).not_tags is None


@pytest.mark.parametrize(
    ("column", "value", "complaint"),
    [
        ("start", "-1", "start '-1' is not a number of seconds, 0 or more"),
        ("start", "nan", "start 'nan'"),
        ("start", "1:30", "start '1:30'"),
        ("duration", "0", "duration '0' is not a number of seconds, more than 0"),
        ("duration", "inf", "duration 'inf'"),
        ("track", " t", "track ' t' has outer blanks"),
        ("group", "Bach ", "group 'Bach ' has outer blanks"),
        ("not_tags", "y|x", "tag 'x' stands in tags and in not_tags"),
        ("not_tags", "y||z", "tag '' in 'y||z'"),
    ],
)
def test_bad_optional_columns(tmp_path, column, value, complaint):
    path = tmp_path / "manifest.csv"
    path.write_text(f"clip_id,path,split,tags,{column}\na,a.wav,train,x,{value}\n")
    with pytest.raises(InputError, match="line 2: ") as caught:
        read_manifest(path)
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    "columns",
    [
        {"not_tags": (("x",), (), ())},
        {"groups": ("a ", "", "")},
        {"starts": (-1.0, None, None)},
        {"durations": (float("nan"), None, None)},
    ],
)
def test_optional_columns_that_could_not_be_read_are_not_written(tmp_path, columns):
    with pytest.raises(InputError, match="clip 'a'"):
        write_manifest(tmp_path / "manifest.csv", replace(WHOLE, **columns))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "column 'clip_id' is missing"),
        (HEADER, "no clips"),
        ("clip_id,path,tags\na,b,c\n", "column 'split' is missing"),
        (HEADER + "a,,train,\na,,test,\n", "line 3: clip_id 'a' stands already on line 2"),
        (HEADER + ",,train,\n", "empty clip_id"),
        (HEADER + "a,,dev,\n", "split 'dev'"),
        (HEADER + "a,,train,x||y\n", "tag '' in 'x||y'"),
        (HEADER + "a,,train,x| y\n", "tag ' y'"),
        (HEADER + "a,,train\n", "line 2: not as many fields"),
        (HEADER + "a,,train,x,y\n", "line 2: not as many fields"),
        (HEADER + 'a,"b\nc",train,x\n', "control characters"),
        ("clip_id,clip_id,path,split,tags\na,a,,,\n", "stands twice in the header"),
        (HEADER + 'a,"b" c,train,x\n', "not readable"),
        (HEADER + 'a,,train,x\nb,"c,train,\nc,,train,y\n', "line 3: not readable"),
        (HEADER + 'a,,train,"x\n', "line 2: not readable"),
        (HEADER.encode() + b"a,,train,x\n" * 2 + b"\xff,,train,\n", "line 4: not UTF-8"),
    ],
)
def test_bad_manifest_names_the_file_and_the_fault(tmp_path, text, complaint):
    path = tmp_path / "manifest.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError) as caught:
        read_manifest(path)
    assert complaint in str(caught.value)
    assert str(path) in str(caught.value)


def test_excel_bom_crlf_and_extra_columns_are_read(tmp_path):
    path = tmp_path / "manifest.csv"
    path.write_bytes("\ufeffclip_id,artist,path,split,tags\r\na,Bach,a.wav,train,x|y\r\n".encode())
    assert read_manifest(path) == manifest_of(("a", "a.wav", "train", ("x", "y")))


def test_split_file_replaces_every_split_and_counts_strangers(tmp_path):
    manifest = manifest_of(("a", "", "train", ()), ("b", "", "train", ()), ("c", "", "test", ()))
    path = tmp_path / "split.csv"
    path.write_text("clip_id,split\nb,test\nz,train\n")
    replaced, unknown = apply_split_file(manifest, path)
    assert (replaced.splits, unknown) == (("", "test", ""), 1)
    assert replaced.used().clip_ids == ("b",)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("clip_id,split\nz,train\n", "none of its 1 clips"),
        ("clip_id,split\na,dev\n", "split 'dev'"),
        ("clip_id,split\na,test\na,train\n", "named twice"),
        ("clip,split\na,test\n", "column 'clip_id' is missing"),
    ],
)
def test_bad_split_file(tmp_path, text, complaint):
    path = tmp_path / "split.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=complaint):
        apply_split_file(manifest_of(("a", "", "train", ())), path)


def test_rank_tags_breaks_ties_by_name():
    manifest = manifest_of(("a", "", "train", ("y", "x")), ("b", "", "", ("z", "x", "y")))
    assert rank_tags(manifest) == [("x", 2), ("y", 2), ("z", 1)]


def test_paths_stay_below_the_root(tmp_path):
    root = tmp_path / "root"
    (root / "in").mkdir(parents=True)
    (root / "out").symlink_to(tmp_path)
    assert resolve_audio(root, "in/../in/a.wav") == root / "in" / "a.wav"
    assert resolve_audio(root, "out/a.wav") == root / "out" / "a.wav"  # links may lead anywhere
    for path in ("../a.wav", "/etc/passwd", ".", "", "in/..", "out/../../a.wav", "in/../.."):
        with pytest.raises(InputError):
            resolve_audio(root, path)


def test_atomic_write_leaves_nothing_behind(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    with atomic_write(path) as file:
        file.write("old")
    with pytest.raises(RuntimeError), atomic_write(path) as file:
        file.write("new")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_errors_name_the_file_that_was_asked_for(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(InputError, match="file is a file, not a directory"),
        atomic_write(tmp_path / "file" / "x"),
    ):
        pass
    with pytest.raises(InputError, match="is a directory"), atomic_write(tmp_path):
        pass
    with pytest.raises(OSError, match="No space") as caught, atomic_write(tmp_path / "x"):
        raise OSError(28, "No space left on device")
    assert caught.value.filename == str(tmp_path / "x")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
