from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from core.errors import FastAdaSPError, UsageError
from core.flags import resolve
from core.records import Source, Span, Transcript
from core.results.line_file import LineFile
from core.results.lines import line, read_results, record_of
from core.results.store import Store, StreamSink
from tests.samples import BASE, failed, record

HASH = BASE.settings_hash
KEY = ("a.wav", "asr")


def ids(folder: Path) -> list[str]:
    lines = (folder / "results.jsonl").read_text().splitlines()
    return [json.loads(text)["id"] for text in lines]


def fill(folder: Path, *names: str) -> Path:
    with Store(folder, HASH) as store:
        for name in names:
            store.write(record(name))
    return folder / "results.jsonl"


def test_a_line_comes_back_as_the_same_record() -> None:
    heard = (Span(0.0, 9.0, "one", ((0.1, 1.0), (3.5, 9.0))), Span(9.0, 9.5, "", ()))
    for one in (record("grüß.wav", warnings=("x",)), failed(), record(segments=heard)):
        assert record_of(json.loads(line(one))) == one


def test_a_line_of_an_earlier_version_is_read() -> None:
    data = json.loads(line(record()))
    del data["quantize"], data["versions"]
    assert record_of(data) == record()


def test_a_line_is_one_line_for_every_reader_and_harmless_on_a_terminal() -> None:
    odd = record("a\x1b[2J\x9b31m\u2028b\x85\u202ec\x7f.wav")
    text = line(odd)
    assert len(text.splitlines()) == 1
    assert not set(text) & set("\x1b\x9b\u2028\x85\u202e\x7f")
    assert record_of(json.loads(text)) == odd


def test_a_line_is_on_the_disk_before_write_returns(tmp_path: Path) -> None:
    with Store(tmp_path / "new" / "dir", HASH) as store:
        store.write(record("a.wav"))
        assert ids(tmp_path / "new" / "dir") == ["a.wav"]


def test_what_is_done_is_known(tmp_path: Path) -> None:
    fill(tmp_path, "a.wav")
    with Store(tmp_path, HASH) as store:
        assert store.done(KEY, BASE.source)
        assert not store.done(("b.wav", "asr"), BASE.source)
        assert not store.done(("a.wav", "st"), BASE.source)
        assert not store.done(KEY, Source(4, 6, None))
    with Store(tmp_path, HASH, overwrite=True) as store:
        assert not store.done(KEY, BASE.source)


def test_content_is_known_where_both_know_it(tmp_path: Path) -> None:
    with Store(tmp_path, HASH) as store:
        store.write(record("a.wav", source=Source(4, 5, "aa")))
    with Store(tmp_path, HASH) as store:
        assert store.done(KEY, Source(4, 6, "aa"))  # touched or copied
        assert not store.done(KEY, Source(4, 5, "bb"))  # rewritten within its time stamp
        assert store.done(KEY, Source(4, 5))
        assert not store.done(KEY, Source(4, 6))


def test_shards_share_a_folder(tmp_path: Path) -> None:
    one = Store(tmp_path, HASH, ["txt"], part="-1-of-2")
    two = Store(tmp_path, HASH, ["txt"], part="-2-of-2")
    with one, two:
        for store in (one, two):
            store.expect(["a.wav", "a.mp3"])  # all of them, in every shard
        one.write(record("a.wav"))
        two.write(record("a.mp3"))
        with pytest.raises(UsageError, match=r"another run is writing into .*1-of-2"):
            Store(tmp_path, HASH, part="-1-of-2").__enter__()
    files = {path.name for path in tmp_path.glob("[!.]*")}
    assert files == {
        "results-1-of-2.jsonl",
        "results-2-of-2.jsonl",
        "a.wav.txt",
        "a.mp3.txt",
    }


@pytest.mark.parametrize(
    ("there", "then", "way_out"),
    [
        ("-1-of-2", "-2-of-3", "use --shard N/2"),
        ("-1-of-2", "", "use --shard N/2"),
        ("", "-1-of-2", "without shards"),
    ],
)
def test_other_shares_in_one_folder_are_refused(
    tmp_path: Path, there: str, then: str, way_out: str
) -> None:
    with Store(tmp_path, HASH, part=there) as store:
        store.write(record())
    for overwrite in (False, True):
        with pytest.raises(UsageError, match=f"{way_out}.*-o DIR"):
            Store(tmp_path, HASH, part=then, overwrite=overwrite).__enter__()


def test_shards_of_other_settings_are_refused(tmp_path: Path) -> None:
    with Store(tmp_path, HASH, part="-1-of-2") as store:
        store.write(record())
    with pytest.raises(UsageError, match=r"results-1-of-2.*other settings.*--overwrite"):
        Store(tmp_path, "other", part="-2-of-2").__enter__()
    with Store(tmp_path, HASH, part="-2-of-2"):
        pass
    with Store(tmp_path, "other", part="-2-of-2", overwrite=True):
        pass


@pytest.mark.parametrize("status", ["failed", "partial"])
def test_failed_and_partial_are_redone_and_replaced(tmp_path: Path, status: str) -> None:
    with Store(tmp_path, HASH) as store:
        store.write(record("a.wav", status=status, pred_text="old"))
        store.write(record("b.wav"))
    with Store(tmp_path, HASH) as store:
        assert not store.done(KEY, BASE.source)
        store.write(record("a.wav", pred_text="new"))
        assert ids(tmp_path) == ["a.wav", "b.wav", "a.wav"]
    assert ids(tmp_path) == ["a.wav", "b.wav"]
    assert next(read_results(tmp_path / "results.jsonl"))["pred_text"] == "new"


def test_lines_of_recordings_that_are_gone_stay(tmp_path: Path) -> None:
    fill(tmp_path, "a.wav", "b.wav")
    fill(tmp_path, "c.wav", "b.wav")
    assert ids(tmp_path) == ["a.wav", "b.wav", "c.wav"]


@pytest.mark.parametrize("cut", [1, 2, 30, 400])
def test_a_torn_last_line_is_repaired(tmp_path: Path, cut: int) -> None:
    path = fill(tmp_path, "a.wav", "b.wav")
    path.write_bytes(path.read_bytes()[:-cut])
    with Store(tmp_path, HASH) as store:
        # only its end is missing: the line itself is whole
        assert store.done(("b.wav", "asr"), BASE.source) == (cut == 1)
        store.write(record("c.wav"))
    assert ids(tmp_path) == (["a.wav", "b.wav", "c.wav"] if cut == 1 else ["a.wav", "c.wav"])


def test_a_strange_line_is_left_alone(tmp_path: Path) -> None:
    path = fill(tmp_path, "a.wav")
    path.write_bytes(b"# mine\n" + path.read_bytes())
    fill(tmp_path, "a.wav")
    assert path.read_bytes().startswith(b"# mine\n")
    assert len(path.read_bytes().splitlines()) == 2


def test_other_settings_are_refused_and_told(tmp_path: Path) -> None:
    path = fill(tmp_path, "a.wav")
    before = path.read_bytes()
    with pytest.raises(UsageError, match=r"task asr.*preset asr-safe.*--overwrite"):
        Store(tmp_path, "other").__enter__()
    assert path.read_bytes() == before


def test_overwrite_moves_other_settings_aside(tmp_path: Path) -> None:
    before = fill(tmp_path, "a.wav").read_bytes()
    with Store(tmp_path, "other", overwrite=True) as store:
        store.write(record("b.wav", settings_hash="other"))
    assert ids(tmp_path) == ["b.wav"]
    assert (tmp_path / "results.jsonl.bak").read_bytes() == before


def test_overwrite_keeps_lines_of_the_same_settings(tmp_path: Path) -> None:
    fill(tmp_path, "a.wav", "b.wav")
    with Store(tmp_path, HASH, overwrite=True) as store:
        store.write(record("b.wav", pred_text="new"))
    assert ids(tmp_path) == ["a.wav", "b.wav"]
    assert not (tmp_path / "results.jsonl.bak").exists()


def test_one_run_at_a_time(tmp_path: Path) -> None:
    with Store(tmp_path, HASH), pytest.raises(UsageError, match="another run"):
        Store(tmp_path, HASH).__enter__()
    with Store(tmp_path, HASH):
        pass


def test_a_refused_folder_is_let_go(tmp_path: Path) -> None:
    fill(tmp_path, "a.wav")
    with pytest.raises(UsageError):
        Store(tmp_path, "other").__enter__()
    with Store(tmp_path, HASH):
        pass


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write into -o"):
        Store(tmp_path / "file" / "out", HASH).__enter__()


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: object) -> None:
        raise OSError(28, "No space left on device")

    with Store(tmp_path, HASH) as store:
        monkeypatch.setattr("core.results.line_file.sync", full)
        with pytest.raises(FastAdaSPError, match=r"cannot write into .*: No space left"):
            store.write(record())


def test_side_files_come_before_the_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there: list[bool] = []
    plain = LineFile.append

    def noted(self: LineFile, one: Transcript) -> None:
        there.append((tmp_path / f"{one.id[:-4]}.srt").exists())
        plain(self, one)

    monkeypatch.setattr(LineFile, "append", noted)
    with Store(tmp_path, HASH, ["srt"]) as store:
        store.write(failed("bad.wav"))
        store.write(record("a.wav"))
    assert there == [False, True]
    assert ids(tmp_path) == ["bad.wav", "a.wav"]


def test_a_format_asked_later_is_written_from_the_line(tmp_path: Path) -> None:
    with Store(tmp_path, HASH) as store:
        store.write(record("b.wav", segments=(Span(0.0, 1.0, "ü"),)))
        store.write(record("a.wav"))
    with Store(tmp_path, HASH, ["txt"]) as store:
        assert store.done(KEY, BASE.source)
    assert (tmp_path / "a.txt").read_text() == "one\ntwo\n"


def test_the_stream_is_flushed_line_by_line() -> None:
    class Stream(io.StringIO):
        flushed = 0

        def flush(self) -> None:
            self.flushed = self.getvalue().count("\n")

    stream = Stream()
    sink = StreamSink(stream)
    for number in (1, 2):
        assert not sink.done(KEY, BASE.source)
        sink.write(record())
        assert stream.flushed == number


KILLED = """
import os, signal, sys
from pathlib import Path
from core.results.store import Store
from tests.samples import record
with Store(Path(sys.argv[1]), "settings", ["srt"]) as store:
    for number in range(8):
        if not store.done((f"{number}.wav", "asr"), record().source):
            store.write(record(f"{number}.wav"))
        if number == int(sys.argv[2]):
            os.write(store._file._file.fileno(), b'{"id": "torn')
            os.kill(os.getpid(), signal.SIGKILL)
"""


def test_killed_again_and_again_every_record_is_there_once(tmp_path: Path) -> None:
    for stop in (2, 5, 99):
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(tmp_path), str(stop)],
            check=False,
            env={**os.environ, "PYTHONPATH": "."},
        )
        assert done.returncode == (0 if stop == 99 else -signal.SIGKILL)
    assert ids(tmp_path) == [f"{number}.wav" for number in range(8)]
    assert len(list(tmp_path.glob("*.srt"))) == 8


def auto(dtype: str = "auto") -> dict[str, frozenset[tuple[str, str]]]:
    return resolve(dtype=dtype).settings


def made_in(dtype: str, name: str = "a.wav", hashed: str | None = None, **more: Any) -> Transcript:
    """A record of the default settings by a model that turned out to run in `dtype`."""
    hashed = hashed or resolve().hash_in(dtype)
    return record(name, dtype=dtype, settings_hash=hashed, **more)


def test_numbers_that_auto_came_to_are_not_mixed(tmp_path: Path) -> None:
    """As on a laptop, into a folder that was begun on a GPU."""
    with Store(tmp_path, auto()) as store:
        store.begin(made_in("bfloat16"))
        store.write(made_in("bfloat16"))
    before = (tmp_path / "results.jsonl").read_bytes()
    with Store(tmp_path, auto()) as store:  # nothing is to do, and so nothing is mixed
        assert store.done(KEY, BASE.source)
    with Store(tmp_path, auto()) as store:
        store.begin(made_in("bfloat16"))
        assert store.done(KEY, BASE.source)
        with pytest.raises(
            UsageError, match=r"dtype bfloat16.*with its --dtype: here it is float3"
        ):
            store.begin(made_in("float32"))
    with pytest.raises(UsageError, match="other settings"):
        Store(tmp_path, auto("float32")).__enter__()
    assert (tmp_path / "results.jsonl").read_bytes() == before
    with Store(tmp_path, auto("bfloat16")) as store:  # the way out
        store.begin(made_in("bfloat16"))
        assert store.done(KEY, BASE.source)


def test_workers_that_run_in_other_numbers_are_not_mixed(tmp_path: Path) -> None:
    with Store(tmp_path, auto()) as store:
        gone = resolve().settings_hash
        store.write(record("gone.wav", status="failed", dtype="auto", settings_hash=gone))
        store.write(made_in("bfloat16"))
        with pytest.raises(UsageError, match="here it is float32"):
            store.write(made_in("float32", "b.wav"))
    assert ids(tmp_path) == ["gone.wav", "a.wav"]


def test_a_folder_from_before_numbers_were_in_the_hash_goes_on(tmp_path: Path) -> None:
    old = resolve().settings_hash
    with Store(tmp_path, old) as store:
        store.write(made_in("float32", hashed=old))
    with Store(tmp_path, auto()) as store:
        store.begin(made_in("float32"))
        assert store.done(KEY, BASE.source)
    with Store(tmp_path, auto()) as store, pytest.raises(UsageError, match="here it is bfloat16"):
        store.begin(made_in("bfloat16"))


def test_overwrite_moves_other_numbers_aside_beside_other_settings(tmp_path: Path) -> None:
    with Store(tmp_path, {}) as store:
        store.write(record("other.wav"))
        store.write(made_in("bfloat16"))
    before = (tmp_path / "results.jsonl").read_bytes()
    with Store(tmp_path, auto(), overwrite=True) as store:
        store.begin(made_in("float32"))
        store.write(made_in("float32", "b.wav"))
    assert ids(tmp_path) == ["b.wav"]
    assert (tmp_path / "results.jsonl.bak").read_bytes() == before


def test_shards_of_other_numbers_are_refused(tmp_path: Path) -> None:
    with Store(tmp_path, auto(), part="-1-of-2") as store:
        store.write(made_in("bfloat16"))
    refused = pytest.raises(UsageError, match=r"results-1-of-2.*here it is float32")
    with Store(tmp_path, auto(), part="-2-of-2") as store, refused:
        store.begin(made_in("float32"))


def test_lines_of_other_versions_are_told(tmp_path: Path) -> None:
    now = {"fastadasp": "1", "torch": "2.13"}
    with Store(tmp_path, HASH) as store:
        assert store.other_versions(now) is None
        store.write(record("a.wav", version="1", versions={"torch": "2.13", "more": "1"}))
        store.write(record("b.wav", version="1"))  # of an earlier version, which did not say
    with Store(tmp_path, HASH) as store:
        assert store.other_versions(now) is None
        said = store.other_versions({"fastadasp": "2", "torch": "2.14"})
    assert said is not None
    assert "has lines by fastadasp 1, torch 2.13, and now it is fastadasp 2, torch 2.14" in said
