"""`--skip-existing`: which recordings have a text already."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.media.discover import discover
from core.media.existing import Existing
from core.records import Recording

from .finding import make


def left(*texts: str, media: tuple[str, ...] = ("in/talk.mp3",), **more: object) -> list[str]:
    """Recordings without a text, when these files are there."""
    make(*media, *texts)
    existing = Existing(**more)  # type: ignore[arg-type]
    found = [item.id for item in discover(["in"]) if not existing(item)]
    assert existing.found == len(media) - len(found)
    return found


@pytest.mark.parametrize(
    "text",
    [
        *("talk.srt", "talk.vtt", "talk.txt", "talk.tsv", "talk.ASS", "talk.lrc", "talk.ttml"),
        *("talk.en.srt", "talk.de.vtt", "talk.zh-Hans.srt", "talk.pt-BR.vtt", "talk.ger.srt"),
        *("talk.en.forced.srt", "talk.EN.sdh.srt", "talk.mp3.srt", "talk.mp3.en.vtt"),
        "talk.asr.srt",
    ],
)
def test_a_text_beside_it(text: str, here: Path) -> None:
    assert left(f"in/{text}") == []


@pytest.mark.parametrize(
    "text",
    [
        *("talk.info.json", "talk.json", "talk.jpg", "talk.description", "talk.part2.srt"),
        *("talk.old.srt", "talks.srt", "tal.srt", "talk.2024.srt", "sub/talk.srt", "talk2.en.srt"),
    ],
)
def test_what_is_no_text_of_it(text: str, here: Path) -> None:
    assert left(f"in/{text}") == ["talk.mp3"]


def test_a_text_belongs_to_the_longest_name(here: Path) -> None:
    media = ("in/talk.mp3", "in/talk.en.mp3", "in/talk.wav")
    assert left("in/talk.en.srt", media=media) == ["talk.mp3", "talk.wav"]
    assert left("in/talk.wav.srt", media=media) == ["talk.mp3"]


def test_a_text_in_the_output_folder(here: Path) -> None:
    media = ("in/day/a.mp3", "in/b.mp3", "in/c.mp3", "in/c.en.mp3")
    texts = ("out/day/a.de.srt", "out/c.en.srt")
    assert left(*texts, media=media) == ["b.mp3", "c.en.mp3", "c.mp3", "day/a.mp3"]
    assert left(*texts, media=media, output=Path("out")) == ["b.mp3", "c.mp3"]


def test_a_format_that_was_asked_for_counts(here: Path) -> None:
    assert left("in/talk.json", formats=["json"]) == []
    assert left("in/talk.info.json", media=("in/talk.mp3", "in/q.mp3"), formats=["json"]) == [
        "q.mp3"
    ]


def test_a_file_that_is_not_there(here: Path) -> None:
    assert not Existing(Path("out"))(Recording("gone/a.wav", Path("gone/a.wav")))
