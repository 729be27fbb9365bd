from __future__ import annotations

import json
import re
from html import unescape

import pytest

from core.records import Span
from core.results.writers import WRITERS
from tests.samples import record

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
