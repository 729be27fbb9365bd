"""Kinds of manifests: tables, playlists, parts of files, and the encodings that Windows writes."""

from __future__ import annotations

import codecs
import csv
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import UsageError
from core.media.discover import discover
from core.media.manifest import read_manifest
from core.results.journal import Journal
from core.results.side import SideFiles

from .finding import errors, find, ids, make

MARKS = {
    "utf-8": b"",
    "utf-8-sig": b"",  # Python writes this one itself
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
    "utf-32-le": codecs.BOM_UTF32_LE,
    "utf-32-be": codecs.BOM_UTF32_BE,
}


def lines(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\r\n" for row in rows)


@pytest.mark.parametrize("encoding", MARKS)
def test_lists_in_every_encoding_that_says_so(encoding: str, here: Path) -> None:
    make("data/größe 1.wav", "data/b.wav")
    texts = {
        "list.txt": "größe 1.wav\r\nb.wav\r\n",
        "list.m3u8": "#EXTM3U\r\ngröße 1.wav\r\nb.wav\r\n",
        "list.jsonl": lines({"audio_filepath": "größe 1.wav"}, {"audio_filepath": "b.wav"}),
        "list.csv": "path;text\r\ngröße 1.wav;ein Wort\r\nb.wav;\r\n",
        "list.tsv": "path\ttext\r\ngröße 1.wav\tein Wort\r\nb.wav\t\r\n",
    }
    for name, text in texts.items():
        data = MARKS[encoding] + text.encode(encoding)
        Path("data", name).write_bytes(data)
        assert [one.id for one in find(f"data/{name}")] == ["größe 1.wav", "b.wav"]
    Path("data/two.txt").write_bytes(2 * (codecs.BOM_UTF8 + b"b.wav\n"))
    assert len(read_manifest("data/two.txt")) == len(find("data/two.txt")) + 1 == 2


@pytest.mark.parametrize("encoding", MARKS)
@pytest.mark.parametrize("null", [False, True])
def test_paths_on_stdin_in_every_encoding_that_says_so(
    encoding: str, null: bool, here: Path
) -> None:
    make("größe 1.wav", "b.wav")
    between = "\0" if null else "\r\n"
    data = MARKS[encoding] + between.join(["größe 1.wav", "b.wav", ""]).encode(encoding)

    class Slow(io.BytesIO):
        def read1(self, size: int | None = -1, /) -> bytes:
            return super().read1(1)

    for stream in (io.BytesIO(data), Slow(data)):
        assert [one.id for one in find("-", stdin=stream, null=null)] == ["größe 1.wav", "b.wav"]


@given(
    st.lists(st.text(st.characters(exclude_characters="\0\r\n\ufeff", exclude_categories=["Cs"]))),
    st.sampled_from(sorted(MARKS)),
    st.integers(1, 7),
)
def test_a_mark_changes_no_path(names: list[str], encoding: str, size: int) -> None:
    from core.media.manifest import paths_from_stream

    data = MARKS[encoding] + "".join(name + "\n" for name in names).encode(encoding)

    class Slow(io.BytesIO):
        def read1(self, _: int | None = -1, /) -> bytes:
            return super().read1(size)

    expected = [name for name in names if name.encode().strip()]
    assert list(paths_from_stream(Slow(data), null=False)) == expected


@pytest.mark.parametrize("head", [b"\xff\xfe", b"\xfe\xff", b"\xff\xfe\0\0"])
def test_sound_that_begins_like_a_mark_is_no_list(head: bytes, here: Path) -> None:
    Path("list.txt").write_bytes(head + bytes(4000))
    with pytest.raises(UsageError, match="binary data where a manifest"):
        find("list.txt")
    with pytest.raises(UsageError, match="stdin holds binary data"):
        find("-", stdin=io.BytesIO(head + bytes(4000)))


@pytest.mark.parametrize(
    "table",
    [
        'audio_filepath,text,id\na.wav,"eins, zwei",one\n"sub/b,c.wav",,\n',
        'sep=;\r\nPath;Transcript;ID\r\na.wav;"eins, zwei";one\r\nsub/b,c.wav;;\r\n',
        'id\twav path\tsentence\none\ta.wav\t"eins, zwei"\n\tsub/b,c.wav\t\n',
        '\n"file", speaker, id, transcription\n"a.wav","Ann","one","eins, zwei"\n\n"sub/b,c.wav"\n',
        "file_name|text|id\na.wav|eins, zwei|one\nsub/b,c.wav\n",
    ],
)
def test_tables_with_a_header(table: str, here: Path) -> None:
    make("a.wav", "sub/b,c.wav")
    Path("list.csv").write_bytes(table.encode())
    first, second = find("list.csv")
    assert (first.id, first.path, first.text) == ("one", Path("a.wav"), "eins, zwei")
    assert (second.id, second.text, second.error) == ("sub/b,c.wav", None, None)


def test_a_quote_in_a_table_swallows_nothing(here: Path) -> None:
    make("a.wav", "b.wav")
    Path("list.tsv").write_text('path\tsentence\na.wav\t"Well, he said\nb.wav\tyes"\n')
    assert [one.text for one in find("list.tsv")] == ['"Well, he said', 'yes"']
    Path("list.csv").write_text('path,sentence\na.wav,"Well, he said\nb.wav,yes\n')
    with pytest.raises(UsageError, match=r"^list\.csv:\d: not a table: "):
        find("list.csv")


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ("path,text\n,three\n", "list.csv:2: this row names no recording"),
        ("path,offset\na.wav,soon\n", "list.csv:2: \"offset\" is 'soon'; expected seconds"),
    ],
)
def test_a_bad_table_is_named_before_anything_runs(table: str, complaint: str, here: Path) -> None:
    make("a.wav")
    Path("list.csv").write_text(table)
    with pytest.raises(UsageError) as caught:
        discover(["a.wav", "list.csv"])
    assert str(caught.value).startswith(complaint)


@pytest.mark.parametrize("table", ["start,end,text\n1,2,three\n", ""])
def test_a_table_of_other_things_is_none_alone_and_passed_over_among_others(
    table: str, here: Path
) -> None:
    make("a.wav")
    Path("list.csv").write_text(table)
    with pytest.raises(UsageError, match=r"^list.csv: its first line names no column"):
        discover(["list.csv"])
    passed: list[str] = []
    assert [one.id for one in discover(["a.wav", "list.csv"], passed=passed)] == ["a.wav"]
    assert passed == ["list.csv"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.lists(
        st.text(st.characters(exclude_characters="\0\r\n", exclude_categories=["Cs"]), min_size=1),
        min_size=1,
    ),
    between=st.sampled_from(",;|"),
)
def test_what_a_program_writes_as_a_table_is_read(
    names: list[str], between: str, tmp_path: Path
) -> None:
    path = tmp_path / "list.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=between).writerows([["n", "path"], *enumerate(names)])
    assert [one.written for one in read_manifest(str(path))] == names


def test_playlists(here: Path) -> None:
    make("music/a b.mp3", "music/cd1/01.mp3", "music/é.mp3", "music/50%25.mp3", "music/%20.mp3")
    playlist = [
        b"#EXTM3U",
        b"#EXTINF:123,Somebody - Something",
        b"a b.mp3",
        b"cd1\\01.mp3",
        b"\xe9.mp3",
        os.fsencode((here / "music" / "a b.mp3").as_uri().replace("file:", "FILE:")),
        b"a%20b.mp3",
        b"50%25.mp3",
        b"",
        b"gone.mp3",
        b"https://example.org/a.mp3",
    ]
    for name in ("music/list.m3u", "music/list.M3U8"):
        Path(name).write_bytes(b"\r\n".join(playlist))
        read = [Path(entry.path).resolve() for entry in read_manifest(name)]
        meant = ("a b", "cd1/01", "é", "a b", "a b", "50%25", "gone")
        assert read[:-1] == [here.resolve() / "music" / f"{one}.mp3" for one in meant]
        assert list(errors(find(name)).values()) == [None] * 4 + ["no such file"] * 2


def test_parts_of_files(here: Path) -> None:
    make("d/talk.wav", "d/v1.2/call")
    Path("d/list.jsonl").write_text(
        lines(
            {"audio_filepath": "talk.wav", "offset": 0, "duration": 2},
            {"audio_filepath": "talk.wav", "offset": 12.5, "duration": 7.5, "text": "hallo"},
            {"audio_filepath": "talk.wav", "offset": "12.5", "duration": "7.5"},  # the same
            {"audio_filepath": "talk.wav", "offset": 20.0004, "duration": None},
            {"audio_filepath": "talk.wav", "offset": 20.0001, "duration": -1},
            {"audio_filepath": "talk.wav", "offset": 3, "duration": 1, "id": "mine"},
            {"audio_filepath": "v1.2/call", "offset": 3, "duration": 1},
            {"audio_filepath": "talk.wav", "offset": 0, "duration": None},
        )
    )
    found = find("d/list.jsonl")
    assert [one.id for one in found[:3]] == [
        "talk#t=0,2.wav",
        "talk#t=12.5,20.wav",
        "talk#t=20.wav",
    ]
    assert found[3].id.startswith("talk#t=20~")  # a tenth of a millisecond apart
    assert [one.id for one in found[4:]] == ["mine", "v1.2/call#t=3,4", "talk.wav"]
    assert [(one.offset, one.duration) for one in found] == [
        (0, 2),
        (12.5, 7.5),
        (20.0004, None),
        (20.0001, None),
        (3, 1),
        (3, 1),
        (None, None),
    ]
    assert {str(one.path) for one in found} == {"d/talk.wav", "d/v1.2/call"}
    side = SideFiles(here, ["srt"], Journal(here / "results.jsonl"))
    side.expect(one.id for one in found)
    assert len({side.place(one.id, "asr", "srt") for one in found}) == len(found)


def test_the_length_of_the_file_in_each_row_is_no_part(here: Path) -> None:
    make("a.wav", "b.wav")
    Path("list.jsonl").write_text(
        lines(
            {"audio_filepath": "a.wav", "duration": 4.1},
            {"audio_filepath": "b.wav", "duration": 2.0},
            {"audio_filepath": "b.wav", "duration": 3.0},
        )
    )
    assert ids("list.jsonl", ".") == ["a.wav", "b#t=0,2.wav", "b#t=0,3.wav", "b.wav"]
    assert find("list.jsonl")[0].duration == 4.1
