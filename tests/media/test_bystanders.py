"""What a shell's `*` catches beside recordings: passed over, counted, and no error."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from core.errors import UsageError
from core.media.discover import discover, shortened

from .finding import errors, make

RECORD = '{"schema_version": 1, "id": "a.wav", "audio_filepath": "a.wav", "settings_hash": "x"}\n'
BYSTANDERS = {
    "results.jsonl": RECORD,
    "results-2-of-3.jsonl": RECORD * 3,
    "a.srt": "1\n00:00:00,000 --> 00:00:01,000\nhello\n",
    "a.vtt": "WEBVTT\n",
    "a.txt": "hello\nyou\n",
    "a.tsv": "start\tend\ttext\n",
    "a.json": '{"text": "hello", "segments": [], "language": null}\n',
    "a.info.json": '{"id": "x", "title": "A talk"}',
    "pretty.json": '{\n  "id": "x",\n  "formats": [{"ext": "wav"}]\n}\n',
    "array.json": "[1, 2]",
    "a.description": "A talk about audio.\nhttps://example.org\n",
    "a.nfo": "<movie/>",
    "README.md": "# talks\n",
    "Makefile": "all:\n",
    "empty": "",
    "empty.txt": "",
    "utf16.txt": "hello\n".encode("utf-16"),
    "binary.txt": b"\0\1\2",
    "b.mp4.part": b"\0\0\0\x1cftypisom\0\0\2\0",
    "b.mp4.part-Frag12": b"\0\0\0\x1cftypisom\0\0\2\0",
    "b.webm.ytdl": "{}",
    "c.mp3.crdownload": b"ID3\4",
    "a.jpg": b"\xff\xd8\xff\xe0\0\x10JFIF",
    "a.png": b"\x89PNG\r\n\x1a\n",
    "a.webp": b"RIFF\x24\0\0\0WEBPVP8 ",
    "a.avif": b"\0\0\0\x1cftypavif\0\0\0\0",
    "paper.pdf": b"%PDF-1.7\n",
    "a.zip": b"PK\3\4",
}


def fill(names: dict[str, str | bytes]) -> None:
    for name, data in names.items():
        Path(name).write_bytes(data if isinstance(data, bytes) else data.encode())


def among(*inputs: str, stdin: str = "") -> tuple[list[str], list[str]]:
    passed: list[str] = []
    found = discover(inputs, stdin=io.BytesIO(stdin.encode()), passed=passed)
    return [item.id for item in found], passed


@pytest.mark.parametrize("how", ["shell", "glob", "stdin"])
def test_they_are_passed_over(how: str, here: Path) -> None:
    fill(dict(BYSTANDERS))
    make("a.wav", "b.mp3")
    listed = sorted(os.listdir())
    found, passed = {
        "shell": lambda: among(*listed),
        "glob": lambda: among("*"),
        "stdin": lambda: among("-", stdin="\n".join(listed)),
    }[how]()
    assert found == ["a.wav", "b.mp3"]
    assert sorted(passed) == sorted(BYSTANDERS)


@pytest.mark.parametrize("name", sorted(BYSTANDERS))
def test_alone_each_is_meant(name: str, here: Path) -> None:
    """It is tried, or an error says what is wrong with it; it is not passed over."""
    fill(dict(BYSTANDERS))
    make("a.wav")
    passed: list[str] = []
    try:
        found = list(discover([name], passed=passed))
    except UsageError as error:
        assert name in str(error) or name == "empty.txt"
    else:
        assert len(found) == 1
    assert not passed


def test_with_nothing_else_they_are_named(here: Path) -> None:
    fill(dict(BYSTANDERS))
    with pytest.raises(UsageError, match=r"no audio.*passed over: a\.srt, a\.vtt\)"):
        among("a.srt", "a.vtt")


def test_what_begins_as_sound_is_taken_whatever_its_name(here: Path) -> None:
    made = {"WAV": "WAVE", "FLAC": "FLAC", "OGG": "Ogg", "AIFF": "AIFF", "AU": "AU", "W64": "W64"}
    for kind, name in {**made, "MP3": "MPEG", "CAF": "CAF", "RF64": "RF64", "VOC": "VOC"}.items():
        soundfile.write(f"{name}.dat", np.zeros(4000), 8000, format=kind)
    fill(
        {
            "aac.dat": b"\xff\xf1\x50\x80\x2e\x7f\xfc",
            "mp4.dat": b"\0\0\0\x1cftypM4A \0\0\2\0",
            "mkv.dat": b"\x1a\x45\xdf\xa3\x01",
            "ts.dat": b"\x47" + bytes(187) + b"\x47",
            "amr.dat": b"#!AMR\n",
            "asf.dat": b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9",
        }
    )
    listed = sorted(os.listdir())
    assert among(*listed) == (listed, [])


def test_what_cannot_be_looked_at_is_no_bystander(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make("a.wav", "locked.dat")
    os.mkfifo("pipe")

    def refuse(path: object, *_: object) -> None:
        assert path == "locked.dat"  # a pipe can be read only once
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("core.media.bystanders.open", refuse, raising=False)
    found, passed = among("a.wav", "locked.dat", "pipe", "gone.dat", "gone.srt")
    assert (found, passed) == (["a.wav", "locked.dat", "pipe", "gone.dat", "gone.srt"], [])


def test_lists_among_others_are_read(here: Path) -> None:
    make("a.wav", "b.wav", "c.wav", "d.wav")
    fill(dict(BYSTANDERS))
    Path("m.jsonl").write_text(json.dumps({"audio_filepath": "b.wav", "text": "hi"}))
    Path("list.txt").write_text("c.wav\n")
    assert among("a.wav", "list.txt", "m.jsonl", "results.jsonl") == (
        ["a.wav", "c.wav", "b.wav"],
        ["results.jsonl"],
    )
    assert among("*.jsonl") == (["b.wav"], ["results-2-of-3.jsonl", "results.jsonl"])


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("m.jsonl", '{"audio_filepath": "b.wav"}\n{broken\n', "m.jsonl:2: not JSON"),
        ("m.json", '{"text": 1}\n{"audio_filepath": "b.wav"}\n', "m.json:1: no"),
        ("list.txt", "gone.wav\nthere/../gone.mp3\n", "list.txt: none of its 2 lines"),
    ],
)
def test_a_list_that_was_meant_and_is_wrong_is_an_error(
    name: str, text: str, complaint: str, here: Path
) -> None:
    make("a.wav", "b.wav")
    Path(name).write_text(text)
    with pytest.raises(UsageError, match=complaint):
        among("a.wav", name)


def test_results_alone_are_a_list(here: Path) -> None:
    make("a.wav")
    Path("results.jsonl").write_text(RECORD)
    assert among("results.jsonl") == (["a.wav"], [])


def test_a_recording_that_is_broken_or_missing_is_no_bystander(here: Path) -> None:
    make("a.wav", "empty.mp3")
    found = list(discover(["a.wav", "empty.mp3", "gone.mp3"]))
    assert errors(found) == {"a.wav": None, "empty.mp3": None, "gone.mp3": "no such file"}


def test_names_in_a_message() -> None:
    assert shortened(["a", "b", "a"]) == "a, b"
    assert shortened([str(n) for n in range(9)]) == "0, 1, 2, 3, 4 and 4 more"


def test_phone_and_broadcast_files_are_found_in_a_folder(here: Path) -> None:
    make("in/a.gsm", "in/b.ra", "in/c.bwf", "in/d.OGX")
    assert among("in")[0] == ["a.gsm", "b.ra", "c.bwf", "d.OGX"]
