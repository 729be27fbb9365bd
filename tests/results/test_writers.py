from __future__ import annotations

import json
import ntpath
import posixpath
import re
from html import unescape
from pathlib import Path

import pytest

from core.records import Span
from core.results import files
from core.results.writers import WRITERS, SideFiles, _inside
from tests.samples import failed, record

LATE = record(segments=(Span(3661.0015, 3662.25, "a --> b\tc\nd"), Span(3663.0, 3664.0, "")))


def test_srt() -> None:
    assert WRITERS["srt"](record()) == (
        "1\n00:00:00,000 --> 00:00:01,500\none\n\n2\n00:00:02,000 --> 00:00:03,250\ntwo\n"
    )


def test_vtt_has_hours_only_when_needed() -> None:
    assert WRITERS["vtt"](record()).startswith("WEBVTT\n\n00:00.000 --> 00:01.500\none\n\n")
    assert "01:01:01.002 --> 01:01:02.250\n" in WRITERS["vtt"](LATE)


def test_tsv_counts_milliseconds() -> None:
    assert WRITERS["tsv"](record()) == "start\tend\ttext\n0\t1500\tone\n2000\t3250\ttwo\n"


def test_txt_is_a_line_a_segment() -> None:
    assert WRITERS["txt"](record()) == "one\ntwo\n"


def test_json_has_whispers_keys_and_readable_letters() -> None:
    text = WRITERS["json"](record(pred_text="grüß", task="st", target_language="de"))
    data = json.loads(text)
    assert "grüß" in text
    assert (data["text"], data["language"]) == ("grüß", "de")
    assert data["segments"][1] == {"id": 1, "start": 2.0, "end": 3.25, "text": "two"}


@pytest.mark.parametrize(("name", "shown"), [("srt", "a -> b c d\n"), ("vtt", "a --&gt; b c d\n")])
def test_text_cannot_break_a_cue(name: str, shown: str) -> None:
    text = WRITERS[name](LATE)
    assert text.count("-->") == 1
    assert shown in text


@pytest.mark.parametrize("name", ["srt", "vtt"])
def test_text_is_no_markup(name: str) -> None:
    said = "<script>x</script> <i>a</i> 1 < 2 & 3 {\\an8}b {c}"
    text = WRITERS[name](record(segments=(Span(0.0, 5.0, said),)))
    assert not re.search(r"<[A-Za-z/!]|\{\\\\", text)
    shown = unescape(text) if name == "vtt" else text.replace("\u2060", "")
    assert " ".join(shown.splitlines()).endswith(said)
    assert (name == "vtt") == ("&lt;i&gt;" in text)
    assert ("1 < 2 & 3" in text) == (name == "srt")


@pytest.mark.parametrize("name", ["srt", "vtt"])
def test_long_text_is_wrapped_and_timed_within_its_span(name: str) -> None:
    text = WRITERS[name](record(segments=(Span(60.0, 75.0, "wordword " * 20),)))
    shown = [line for line in text.splitlines() if "wordword" in line]
    assert max(map(len, shown)) <= 42
    assert text.count("-->") == 3
    assert "01:00" in text and "01:15" in text
    assert " ".join(shown) == ("wordword " * 20).strip()


def test_tsv_and_txt_keep_their_columns_and_lines() -> None:
    assert WRITERS["tsv"](LATE).splitlines()[1].split("\t") == [
        "3661002",
        "3662250",
        "a --> b c d",
    ]
    assert len(WRITERS["tsv"](LATE).splitlines()) == 2
    assert WRITERS["txt"](LATE) == "a --> b c d\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [("srt", ""), ("vtt", "WEBVTT\n"), ("txt", ""), ("tsv", "start\tend\ttext\n")],
)
def test_silence_is_an_empty_file(name: str, text: str) -> None:
    assert WRITERS[name](record(segments=(), pred_text="")) == text


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_the_tree_mirrors_the_input(tmp_path: Path) -> None:
    side = SideFiles(tmp_path, ["srt", "txt"])
    side.write(record("talks/a.b.mp3"))
    side.write(record("b.wav"))
    assert names(tmp_path) == ["b.srt", "b.txt", "talks/a.b.srt", "talks/a.b.txt"]


def test_one_stem_twice_keeps_the_extension(tmp_path: Path) -> None:
    side = SideFiles(tmp_path, ["srt"])
    side.expect(["a.wav", "a.mp3", "b/a.wav", "c.wav", "c.wav.mp3"])
    for name in ("a.wav", "a.mp3", "b/a.wav", "c.wav", "c.wav.mp3"):
        side.write(record(name))
    assert names(tmp_path) == ["a.mp3.srt", "a.wav.srt", "b/a.srt", "c.srt", "c.wav.mp3.srt"]


def test_an_id_cannot_leave_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    side = SideFiles(folder, ["txt"])
    for name in ("../../a.wav", "/abs/b.wav", ".."):
        side.write(record(name))
    assert names(tmp_path) == ["out/a.txt", "out/abs/b.txt", "out/recording.txt"]


def test_an_id_cannot_leave_the_folder_on_windows() -> None:
    for name in ("C:/x.wav", "C:x.wav", "..\\..\\x.wav", "\\\\host\\share\\x.wav", "/x.wav"):
        assert _inside(name, ntpath) == "x.wav"
    assert _inside("a:b/call:1.wav", posixpath) == "a:b/call:1.wav"


def test_the_longest_name_a_disk_takes(tmp_path: Path) -> None:
    side = SideFiles(tmp_path, ["json", "srt"])
    long, other = "ä" * 125 + ".wav", "ä" * 125 + "x.wav"
    side.write(record(long))
    side.write(record(other))
    assert len(names(tmp_path)) == 4
    assert all(len(name.encode()) <= 255 for name in names(tmp_path))
    assert f"{'ä' * 125}.srt" in names(tmp_path)
    assert not side.missing(long, "asr")
    side.write(record(f"{'x' * 300}/{'y' * 300}.wav"))
    assert not side.missing(f"{'x' * 300}/{'y' * 300}.wav", "asr")


def test_what_a_kill_left_is_used_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    side = SideFiles(tmp_path, ["txt"])
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", lambda *_: None)  # as far as a kill lets it come
        side.write(record("a.wav"))
        side.write(record("b.wav"))
    files._left_behind.cache_clear()  # another process goes on
    assert len(names(tmp_path)) == 2
    side.write(record("a.wav"))
    left = names(tmp_path)
    assert left[1:] == ["a.txt"]  # what belongs to others, who may be at work, stays
    side.write(record("b.wav"))
    assert names(tmp_path) == ["a.txt", "b.txt"]


def test_no_half_file_after_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    side = SideFiles(tmp_path, ["txt"])
    side.write(record("a.wav"))

    def broken(self: Path, target: Path) -> None:
        raise OSError("no")

    monkeypatch.setattr(Path, "replace", broken)
    with pytest.raises(OSError, match="no"):
        side.write(record("a.wav", segments=(Span(0, 1, "new"),)))
    assert names(tmp_path) == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "one\ntwo\n"


def test_missing(tmp_path: Path) -> None:
    side = SideFiles(tmp_path, ["srt", "txt"])
    assert side.missing("a.wav", "asr")
    side.write(record("a.wav"))
    assert not side.missing("a.wav", "asr")
    assert not SideFiles(tmp_path, []).missing("b.wav", "asr")
    assert failed().segments == ()
