"""fastadasp: batch transcription and translation with speech language models, cheaply."""

from .unobserved import settle

__version__ = "0.1.0"

settle()  # every way in comes through here before any library is imported
