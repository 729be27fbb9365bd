"""The one error family: every message is a single line that says what to do next.

Knows nothing of the rest. Errors of one recording (`MediaError`, `TranscriptionError`,
`OutputError`) become a `failed` or `partial` record; all others end the command with their exit
code.
"""


def first_line(error: BaseException) -> str:
    """What an error says, in one line; its name if it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class FastAdaSPError(Exception):
    """Base of every error that fastadasp raises on purpose.

    Attributes:
        exit_code: what the command line returns when this error ends a command.
    """

    exit_code: int = 1


class UsageError(FastAdaSPError):
    """The request cannot be meant as written: flag, preset, manifest or input list."""

    exit_code = 2


class StartError(FastAdaSPError):
    """The work cannot begin: model, device, dtype or offline cache."""

    exit_code = 3


class MediaError(FastAdaSPError):
    """A recording cannot be read, or not to its end."""


class OutputError(FastAdaSPError):
    """What was made of a recording cannot be written where it belongs."""


class TranscriptionError(FastAdaSPError):
    """The model could not turn a segment into text."""


class ReductionError(FastAdaSPError):
    """What happened to a prompt is not what was planned, so nothing can be claimed of it."""
