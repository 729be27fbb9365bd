"""A recording is all that is opened: what it names, on this machine or another, stays shut."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import av
import pytest

from core.errors import MediaError
from core.media import opening
from core.media.opening import opened
from core.media.stretch import Part

from .decoders import heard
from .sounds import tone, write

HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{target}\n#EXT-X-ENDLIST\n"
CONCAT = "ffconcat version 1.0\nfile '{target}'\n"
SDP = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio {port} RTP/AVP 0\n"


@pytest.fixture
def server() -> Iterator[socket.socket]:
    """Somebody who waits for a connection."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        yield listening


def called(server: socket.socket) -> bool:
    """Whether there was a connection."""
    try:
        server.accept()[0].close()
    except BlockingIOError:
        return False
    return True


@pytest.mark.usefixtures("fresh_decoders")
@pytest.mark.parametrize(
    ("words", "target"),
    [(HLS, "http://127.0.0.1:{port}/a.aac"), (HLS, "other.aac"), (CONCAT, "other.aac"), (SDP, "")],
)
def test_what_a_list_names_is_not_opened(
    words: str, target: str, server: socket.socket, tmp_path: Path
) -> None:
    port = server.getsockname()[1]
    write(tmp_path / "other.aac", tone(2))
    path = tmp_path / "list.m3u8"
    path.write_text(words.format(target=target.format(port=port), port=port))
    count, why = heard(path)
    assert count == 0
    assert why.startswith("not a readable audio or video file")
    assert not called(server)


@pytest.mark.parametrize("heeded", [set(), {"format_whitelist"}, {"protocol_whitelist"}])
def test_a_library_that_ignores_what_it_must_not_open_opens_nothing(
    heeded: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, plain = write(tmp_path / "a.mp3", tone(1)), av.open

    def deaf(name: str, options: dict[str, str], **more: str) -> object:
        # FFmpeg passes over a name that it does not know
        return plain(name, options={key: options[key] for key in heeded}, **more)

    opening._obedient.cache_clear()
    monkeypatch.setattr(av, "open", deaf)
    with pytest.raises(MediaError, match=r"cannot be kept from.*pip install"), opened(Part(path)):
        pass
    monkeypatch.undo()
    opening._obedient.cache_clear()
    with opened(Part(path)) as container:
        assert container.format.name == "mp3"
