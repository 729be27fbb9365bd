"""What was read of one track, and the verdict on it: time stamps and packets are the witnesses."""

from __future__ import annotations

from dataclasses import dataclass

from ..records import Seconds

GAP = 0.1
"""Seconds by which time stamps may wander before it is a hole."""
# Seconds by which a declared length may exceed the real one (priming, rounding): the track's own
# length, and the container's, which other tracks have a part in.
_SHORT, _SHORT_OF_ALL = 0.2, 0.5
_SHORT_MP3 = 0.1  # whose encoder says how much it padded: a frame more or less
_UNKNOWN = float("inf")
_WORTH_TELLING = 0.5  # seconds of holes in all
# Cut out of something longer, these begin with frames that lean on lost ones.
_RAW_STREAMS = frozenset({"mp3", "aac", "mpegts"})
# Here a hole in the time stamps is damage: others (webm, opus of calls) leave out silence.
_GAPLESS = frozenset({("ogg", "vorbis"), ("ogg", "flac"), ("flac", "flac")})


@dataclass
class Progress:
    """What was read of one track so far, and what went wrong.

    Attributes:
        kind: FFmpeg's name of the container.
        codec: FFmpeg's name of what is in it.
        declared: seconds at which the track ends by a trustworthy header, else None.
        alone: `declared` is the track's own; else it is the container's, so all tracks count.
        late: seconds at which the container's clock begins.
        position: seconds of sound delivered, silence in holes included.
        reached: seconds up to which packets of any track were seen.
        gaps: seconds of silence put in.
        errors: undecodable packets with good ones behind them.
        tail_errors: those with none behind them so far.
        broken: why reading stopped early.
        whole: its bytes show that nothing is missing, whatever the header says of its length.
    """

    kind: str
    codec: str
    declared: Seconds | None = None
    alone: bool = True
    late: Seconds = 0.0
    position: Seconds = 0.0
    reached: Seconds = 0.0
    gaps: Seconds = 0.0
    errors: int = 0
    tail_errors: int = 0
    broken: str = ""
    whole: bool = False

    def good_frame(self) -> None:
        """The errors so far were not the end."""
        if self.position or self.kind not in _RAW_STREAMS:
            self.errors += self.tail_errors
        self.tail_errors = 0

    @property
    def missing(self) -> Seconds:
        """Seconds of the declared length that did not come; minus infinity where none is."""
        if self.declared is None:
            return -_UNKNOWN
        end = self.position if self.alone else max(self.position, self.reached)
        return self.declared - end

    @property
    def early(self) -> bool:
        """Whether it ends before its header says."""
        own = _SHORT_MP3 if self.kind == "mp3" else _SHORT
        return self.missing > (own if self.alone else _SHORT_OF_ALL)

    @property
    def short(self) -> bool:
        """Whether it does, and its bytes do not know better."""
        return self.early and not self.whole

    def verdict(self) -> str:
        """One line on what is missing; empty when all is well."""
        # an mp3's time stamps count its good frames: there a hole shows as a shorter file, and
        # tags, or the seams of files put together, look like bad frames
        is_mp3 = self.kind == "mp3"
        if not self.position and self.tail_errors:
            return "not one frame of its audio track can be decoded"
        if self.short and not (is_mp3 and self.errors):
            return f"breaks off at {self.position:.1f} s of {self.declared:.1f} s"
        # a flac that lacks its last hundredth of a second has lost nothing to speak of
        complete = self.alone and self.declared is not None and self.missing <= GAP / 2
        if self.broken or (self.tail_errors and not is_mp3 and not complete):
            why = self.broken or "its last frame is not whole"
            return f"breaks off at {self.position:.1f} s: {why}"
        if (self.errors and (self.short or not is_mp3)) or (
            self.gaps and (self.kind, self.codec) in _GAPLESS
        ):
            return f"damaged: {self._holes()}"
        return ""

    def _holes(self) -> str:
        frames = f"{self.errors} unreadable frames" if self.errors else "holes"
        return f"{frames}, {self.gaps:.1f} s filled with silence" if self.gaps else frames

    def remark(self) -> str:
        """One line on what is odd, but no loss that could be told from the file."""
        if self.gaps >= _WORTH_TELLING:
            return f"{self.gaps:.1f} s without sound data, filled with silence"
        # a part of something longer may count its end from the beginning of the whole
        if self.missing - self.late > _SHORT_OF_ALL:
            return f"ends at {self.position:.1f} s, its header says {self.declared:.1f} s"
        return f"{self.errors} unreadable frames passed over" if self.errors else ""
