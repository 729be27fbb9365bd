"""Speech by espeak-ng through ctypes, with the time of every phoneme and word.

The library and its data come from the `espeakng-loader` wheel. One process has one espeak, which
is not thread safe. It keeps state between sentences, so that the timing repeats only at the same
place after the start, and it draws the breath noise of some voices anew every time. Knows nothing
of grammar, noise or features.
"""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .voices import Voice

SAMPLE_RATE = 16_000
"""Of everything this recipe writes, in Hz."""

Samples = NDArray[np.float32]

_SYNCHRONOUS, _PHONEME_EVENTS = 2, 1
_END, _WORD, _PHONEME = 0, 1, 7  # event types
_RATE, _PITCH, _RANGE, _WORD_GAP = 1, 3, 4, 7  # parameters
_UTF8, _END_PAUSE, _BY_CHARACTER = 1, 0x1000, 1
_BLOCK = 441  # FFT lengths that are multiples of it stay fast for 22050 -> 16000 Hz


@dataclass(frozen=True, slots=True)
class Speech:
    """Sound at 16 kHz with its alignment.

    `phones` holds (start in seconds, phoneme name, word index) in order; the word index is -1 in
    pauses. A phoneme lasts until the next one starts.
    """

    samples: Samples
    phones: tuple[tuple[float, str, int], ...]

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return len(self.samples) / SAMPLE_RATE


class _Name(ctypes.Union):
    _fields_ = (
        ("number", ctypes.c_int),
        ("name", ctypes.c_char_p),
        ("string", ctypes.c_char * 8),
    )


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Name),
    )


_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


class Synthesiser:
    """The process's espeak. `say` turns text into `Speech`."""

    def __init__(self) -> None:
        """Start espeak-ng: once per process, since it keeps its state in globals."""
        import espeakng_loader

        self._library: Any = ctypes.CDLL(espeakng_loader.get_library_path())
        folder = str(espeakng_loader.get_data_path()).encode()
        self._rate: int = self._library.espeak_Initialize(_SYNCHRONOUS, 0, folder, _PHONEME_EVENTS)
        if self._rate <= 0:
            raise RuntimeError("espeak-ng did not start: reinstall espeakng-loader")
        self._blocks: list[NDArray[np.int16]] = []
        self._marks: list[tuple[int, int, str]] = []
        # ctypes keeps no reference to a callback: losing it would crash the process
        self._callback: Callable[..., int] = _CALLBACK(self._collect)
        self._library.espeak_SetSynthCallback(self._callback)
        self._voice = ""

    def say(self, text: str, voice: Voice) -> Speech:
        """Say `text`; words are separated by single spaces and counted from 0."""
        self._configure(voice)
        self._blocks.clear()
        self._marks.clear()
        raw = text.encode()
        flags = _UTF8 | _END_PAUSE
        self._library.espeak_Synth(raw, len(raw) + 1, 0, _BY_CHARACTER, 0, flags, None, None)
        self._library.espeak_Synchronize()
        sound = (np.concatenate(self._blocks) / 32768).astype(np.float32)
        samples, ratio = resample(sound, SAMPLE_RATE / self._rate / voice.speed)
        stretch = ratio * self._rate / SAMPLE_RATE
        return Speech(samples, self._phones(text, stretch))

    def _configure(self, voice: Voice) -> None:
        if voice.name != self._voice:
            if self._library.espeak_SetVoiceByName(voice.name.encode()) != 0:
                raise ValueError(f"espeak-ng has no voice {voice.name!r}")
            self._voice = voice.name
        settings = (
            (_RATE, voice.rate),
            (_PITCH, voice.pitch),
            (_RANGE, voice.pitch_range),
            (_WORD_GAP, voice.word_gap),
        )
        for parameter, value in settings:
            self._library.espeak_SetParameter(parameter, value, 0)

    def _collect(self, wave: Any, count: int, events: Any) -> int:
        if count > 0 and wave:
            self._blocks.append(np.ctypeslib.as_array(wave, (count,)).copy())
        index = 0
        while events[index].type != _END:
            event = events[index]
            if event.type == _PHONEME:
                self._marks.append((event.audio_position, -1, event.id.string.decode()))
            elif event.type == _WORD:
                self._marks.append((event.audio_position, event.text_position - 1, ""))
            index += 1
        return 0

    def _phones(self, text: str, stretch: float) -> tuple[tuple[float, str, int], ...]:
        phones, word = [], -1
        for milliseconds, character, name in self._marks:
            if character >= 0:
                word = text.count(" ", 0, character + 1)
            elif name.startswith("_"):
                phones.append((milliseconds / 1000 * stretch, "_", -1))
            else:
                phones.append((milliseconds / 1000 * stretch, name, word))
        return tuple(phones)


def resample(samples: Samples, ratio: float) -> tuple[Samples, float]:
    """Resample by about `ratio` (output over input length) in the frequency domain.

    Returns the sound and the exact ratio, which differs in the fourth digit: both lengths are
    rounded so that the transforms are fast.
    """
    padded = np.pad(samples, (0, _BLOCK - len(samples) % _BLOCK))
    length = round(len(padded) * ratio / 64) * 64
    exact = length / len(padded)
    bins = min(length, len(padded)) // 2 + 1
    spectrum = np.zeros(length // 2 + 1, np.complex64)
    spectrum[:bins] = np.fft.rfft(padded)[:bins]
    sound = np.fft.irfft(spectrum, length) * exact
    return sound.astype(np.float32)[: round(len(samples) * exact)], exact
