"""Lists of recordings: manifests and the lines of stdin."""

import io
import json
import os
from pathlib import Path

import pytest

from core.errors import UsageError
from core.media.discover import discover

from .finding import errors, find, ids, make


def test_a_json_manifest(here: Path) -> None:
    make("data/a.wav", "data/sub/b.wav", "c.wav")
    lines = [
        {"audio_filepath": "a.wav", "text": "hallo", "duration": 1.5, "lang": "de"},
        {"audio_filepath": "./sub/b.wav", "id": 7},
        {"audio_filepath": str(here / "c.wav"), "text": None, "id": "../c"},
        {"audio_filepath": "gone.wav"},
    ]
    text = "\ufeff" + "\r\n\r\n".join(json.dumps(line) for line in lines)
    for name in ("data/list.jsonl", "data/list.json"):
        Path(name).write_text(text, encoding="utf-8")
        found = find(name)
        assert [item.id for item in found][:2] == ["a.wav", "7"]
        assert ".." not in found[2].id.split("/")
        assert [item.text for item in found] == ["hallo", None, None, None]
        assert [item.path for item in found][:2] == [Path("data/a.wav"), Path("data/sub/b.wav")]
        assert found[3].error == "no such file"


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{broken", "not JSON"),
        ("[1]", "expected an object"),
        ('{"path": "a.wav"}', 'no "audio_filepath"'),
        ('{"audio_filepath": 3}', '"audio_filepath" is int'),
        ('{"audio_filepath": "a.wav", "text": 3}', '"text" is int'),
        ('{"audio_filepath": "a.wav", "offset": -3.5}', '"offset" is -3.5; a part begins at 0'),
        ('{"audio_filepath": "a.wav", "offset": "soon"}', "\"offset\" is 'soon'; expected seconds"),
        ('{"audio_filepath": "a.wav", "duration": [1]}', '"duration" is [1]; expected seconds'),
        ('{"audio_filepath": "a.wav", "duration": true}', '"duration" is True; expected seconds'),
        ('{"audio_filepath": "a.wav", "duration": NaN}', '"duration" is nan; expected seconds'),
        ('{"audio_filepath": "b.wav", "id": "one"}', "already names another file"),
        ("\udcff", "not JSON"),
    ],
)
def test_a_bad_manifest_line_is_named_before_anything_runs(
    line: str, complaint: str, here: Path
) -> None:
    make("a.wav", "b.wav")
    good = '{"audio_filepath": "a.wav", "id": "one"}\n\n'
    Path("list.jsonl").write_bytes((good + line).encode("utf-8", "surrogateescape"))
    with pytest.raises(UsageError, match=r"^list\.jsonl:3: ") as caught:
        discover(["a.wav", "list.jsonl"])
    assert complaint in str(caught.value)


def test_one_file_under_two_ids_of_a_manifest_is_done_twice(here: Path) -> None:
    make("a.wav")
    lines = [json.dumps({"audio_filepath": "a.wav", "id": name}) for name in ("en", "de", "en")]
    Path("list.jsonl").write_text("\n".join(lines))
    assert ids("list.jsonl") == ["en", "de"]


def test_several_questions_about_one_file_are_several_recordings(here: Path) -> None:
    make("a.wav", "b.wav")
    rows = [("a.wav", "who?"), ("a.wav", "when?"), ("b.wav", "who?"), ("a.wav", "who?")]
    lines = [{"audio_filepath": name, "question": asked} for name, asked in rows]
    Path("list.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found = find("list.jsonl")
    assert [(item.path.name, item.question) for item in found] == rows[:3]
    assert [item.row for item in found] == lines[:3]
    assert found[0].id == "a.wav"
    assert found[1].id.startswith("a~")
    Path("list.jsonl").write_text("\n".join(json.dumps(line | {"id": "one"}) for line in lines))
    with pytest.raises(UsageError, match="already names another file, part or question"):
        discover(["list.jsonl"])


def test_a_text_manifest(here: Path) -> None:
    make("data/a.wav", "data/with space.wav", "data/# one.wav")
    Path("data/list.txt").write_text("a.wav\r\n\nwith space.wav\n# one.wav\ngone.wav\n")
    assert errors(find("data/list.txt")) == {
        "a.wav": None,
        "with space.wav": None,
        "# one.wav": None,
        "gone.wav": "no such file",
    }


def test_notes_beside_recordings_are_no_manifest(here: Path) -> None:
    make("a.wav")
    Path("notes.txt").write_text("Dear diary,\ntoday\n")
    with pytest.raises(UsageError, match=r"notes\.txt: none of its 2 lines"):
        discover(["notes.txt"])
    passed: list[str] = []
    found = discover(["a.wav", "notes.txt"], passed=passed)
    assert ([item.id for item in found], passed) == (["a.wav"], ["notes.txt"])


def test_a_manifest_that_holds_sound(here: Path) -> None:
    Path("list.txt").write_bytes(b"RIFF\x24\x00\x00\x00WAVEfmt \x10\x00\x00\x00")
    with pytest.raises(UsageError, match="binary data where a manifest"):
        discover(["list.txt"])


def test_paths_on_stdin(here: Path) -> None:
    make("a.wav", "sub/b.wav", "c d.wav", "new\nline.wav")
    assert ids("-", stdin=b"a.wav\r\nsub\n\nc d.wav") == ["a.wav", "sub/b.wav", "c d.wav"]
    assert ids("-", stdin=b"a.wav\0new\nline.wav\0", null=True) == ["a.wav", "new\nline.wav"]
    with pytest.raises(UsageError):
        find("-", stdin=None)
    with pytest.raises(UsageError):
        find("-", stdin=io.BytesIO(b""))


def test_paths_on_stdin_are_used_while_they_arrive(here: Path) -> None:
    make("a.wav", "b.wav")
    reader, writer = os.pipe()
    os.write(writer, b"a.wav\nb.w")
    with os.fdopen(reader, "rb") as stdin:
        found = discover(["-"], stdin=stdin)
        assert next(found).id == "a.wav"  # would block, were the end of stdin waited for
        os.write(writer, b"av\n")
        os.close(writer)
        assert [item.id for item in found] == ["b.wav"]


@pytest.mark.parametrize("null", [False, True])
@pytest.mark.parametrize(
    "head",
    [
        b"RIFF\x24\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00",
        b"ID3\x04\x00\x00\x00\x00\x02\x00",
        b"OggS\x00\x02\x00\x00",
        b"fLaC\x00\x00\x00\x22\x10\x00\x10\x00\x00\x00\x0e\x00\x00\x10\x0a\xc4\x42\xf0\x00\x06",
        b"\x00\x00\x00\x1cftypM4A \x00\x00\x02\x00",
        b"\xff\xfb\x90\x64\x00\x0f\xf0\x00\x00\x69\x00\x00\x00\x08",
    ],
)
def test_sound_where_paths_are_expected_names_the_way_out(
    head: bytes, null: bool, here: Path
) -> None:
    with pytest.raises(UsageError, match=r"stdin holds binary data.*pass the file itself"):
        discover(["-"], stdin=io.BytesIO(head + bytes(500)), null=null)


def test_no_id_can_stop_a_file_from_being_written(here: Path) -> None:
    make("in/a.wav", "in/b.wav")
    rows = [
        {"audio_filepath": "a.wav", "id": "x\0y"},
        {"audio_filepath": "b.wav", "id": "../../../etc/passwd"},
    ]
    Path("in/list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    first, second = ids("in/list.jsonl")
    assert first == "x%00y"
    assert not second.startswith("/") and ".." not in second
