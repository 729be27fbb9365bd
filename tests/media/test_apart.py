"""What a file does to its decoder stays there: a crash, a hang, all the memory."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from core.errors import MediaError
from core.media import apart, launch
from core.media.apart import decode_apart
from core.media.decode import decode
from core.media.listening import Listening

from .decoders import ROOT, heard
from .sounds import cut, tone, write

pytestmark = pytest.mark.usefixtures("fresh_decoders")


@pytest.mark.parametrize("kind", ["wav", "mp3", "m4a"])
def test_the_sound_is_the_same(kind: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"a.{kind}", tone(25, 44_100), 44_100)
    blocks = list(decode_apart(path))
    for block, expected in zip(blocks, decode(path), strict=True):
        assert block.dtype == np.float32 and block.flags.writeable
        assert np.array_equal(block, expected)
    assert len(apart._idle) == 1


def test_errors_and_remarks_come_over(tmp_path: Path) -> None:
    assert heard(tmp_path / "gone.wav") == (0, "no such file")
    count, error = heard(cut(write(tmp_path / "a.wav", tone(10))))
    assert (count, error) == (pytest.approx(80_000, abs=100), "breaks off at 5.0 s of 10.0 s")
    assert len(apart._idle) == 1


@pytest.mark.skipif(os.name == "nt", reason="names are bytes on POSIX only")
def test_a_name_that_is_no_utf8(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", tone(1))
    odd = path.rename(os.fsdecode(os.fsencode(tmp_path) + b"/gr\xfc\xdf\n.wav"))
    assert heard(odd) == (16_000, "")


@pytest.mark.usefixtures("hostile")
@pytest.mark.parametrize(
    ("name", "why", "reused"),
    [
        ("crash", "breaks off at 1.0 s: it crashed the decoder (-11)", False),
        ("eat", "needs more memory than any recording: its header is damaged", True),
        ("bug", "the decoder failed: ValueError: of two lines", True),
        ("chat", "", True),
    ],
)
def test_a_hostile_file_costs_itself(name: str, why: str, reused: bool, tmp_path: Path) -> None:
    assert heard(tmp_path / name) == (16_000, why)
    assert len(apart._idle) == reused
    assert heard(tmp_path / "good") == (16_000, "")


@pytest.mark.usefixtures("hostile")
def test_a_hanging_decoder_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard(tmp_path / "good")  # started, so that the second counts for the file alone
    monkeypatch.setattr(apart, "STALL", 1.0)
    begun = time.monotonic()
    assert heard(tmp_path / "hang") == (16_000, "breaks off at 1.0 s: decoding it takes too long")
    assert time.monotonic() - begun < 10
    monkeypatch.setattr(apart, "STALL", 60.0)
    assert heard(tmp_path / "good") == (16_000, "")


@pytest.mark.usefixtures("hostile")
def test_many_slow_blocks_take_too_long_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hang").write_bytes(bytes(1 << 18))
    monkeypatch.setattr(apart, "PATIENCE", 1.0)
    assert apart._patience(tmp_path / "hang") == pytest.approx(1 + 10 / 4)
    assert "takes too long" in heard(tmp_path / "hang")[1]


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="needs the system's alarm")
def test_a_hanging_decoder_ends_without_its_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hostile_start: Callable[..., None]
) -> None:
    hostile_start(stall=1)
    for name in ("STALL", "PATIENCE"):  # a parent that would wait for ever
        monkeypatch.setattr(apart, name, 3600.0)
    assert "takes too long" in heard(tmp_path / "hang")[1]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs the system's timers")
def test_one_that_lets_no_thread_watch_it_ends_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hostile_start: Callable[..., None]
) -> None:
    hostile_start(stall=1, more="child.Watch = lambda *_: __import__('contextlib').nullcontext()")
    for name in ("STALL", "PATIENCE"):
        monkeypatch.setattr(apart, name, 3600.0)
    assert "takes too long" in heard(tmp_path / "spin")[1]


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs POSIX signals")
@pytest.mark.parametrize("limit", ["STALL", "PATIENCE"])
def test_time_stopped_does_not_count(
    limit: str, tmp_path: Path, hostile_start: Callable[..., None]
) -> None:
    """Ctrl-Z, a paused container, a laptop that sleeps: the file in hand is not lost."""
    hostile_start(stall=3)
    code = (
        "import sys; from pathlib import Path; from core.media import apart, launch\n"
        "from tests.media.decoders import heard\n"
        "launch._START = Path(sys.argv[1]); heard(Path('good'))\n"
        f"apart.{limit} = 3.0; print(apart._idle[0]._process.pid, flush=True)\n"
        "print(heard(Path('slow')), flush=True)\n"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", code, launch._START], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert run.stdout is not None
    pids = [run.pid, int(run.stdout.readline())]
    time.sleep(0.3)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(4)
    for pid in reversed(pids):
        os.kill(pid, signal.SIGCONT)
    assert run.communicate(timeout=60)[0] == "(32000, '')\n"


def test_one_that_is_at_work_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hostile_start: Callable[..., None]
) -> None:
    hostile_start(stall=2)
    heard(tmp_path / "good")
    monkeypatch.setattr(apart, "STALL", 2.0)
    assert heard(tmp_path / "think") == (16_000, "")


def test_which_track_and_channel_is_said_to_the_decoder(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", np.stack([tone(1), tone(1, hertz=700)], axis=1))
    second = np.concatenate(list(decode_apart(path, how=Listening("1", "2"))))
    assert np.array_equal(second, np.concatenate(list(decode(path, how=Listening("1", "2")))))
    assert not np.array_equal(second, np.concatenate(list(decode(path))))
    with pytest.raises(MediaError, match="no audio track 2"):
        list(decode_apart(path, how=Listening("2")))


def test_a_decoder_that_nobody_needs_is_ended(tmp_path: Path) -> None:
    blocks = decode_apart(write(tmp_path / "a.wav", tone(60)))
    next(blocks)
    blocks.close()  # type: ignore[attr-defined]
    assert apart._idle == []


def test_an_interrupt_is_not_for_the_decoder(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", tone(1))
    heard(path)
    [decoder] = apart._idle
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(decoder._process.pid, number)
    assert heard(path) == (16_000, "")
    assert apart._idle == [decoder]


def test_one_that_died_while_idle_is_replaced(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", tone(1))
    heard(path)
    [decoder] = apart._idle
    decoder._process.kill()
    decoder._process.wait()
    assert heard(path) == (16_000, "")


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_it_dies_with_its_parent(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", tone(60))
    code = (
        "import os, signal, sys; from pathlib import Path; from core.media import apart\n"
        "list(apart.decode_apart(Path(sys.argv[1])))\n"
        "blocks = apart.decode_apart(Path(sys.argv[1])); decoder = apart._idle[0]\n"
        "next(blocks); print(decoder._process.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
    )
    child = int(done.stdout)
    deadline = time.monotonic() + 20
    while _runs(child):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_decoders_started_ahead_are_the_ones_that_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.wav", tone(1))
    apart.start_ahead(2)
    apart.start_ahead(2)
    waiting = list(apart._idle)
    assert len(waiting) == 2
    monkeypatch.setattr(apart, "_new", lambda: pytest.fail("another one was started"))
    assert heard(path)[0] == 16_000
    assert set(apart._idle) == set(waiting)


def test_no_process_to_be_had_is_no_reason_not_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch.sys, "executable", "/no/such/python")
    apart.start_ahead(2)
    assert not apart._idle
