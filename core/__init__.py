"""fastadasp: batch transcription and translation with speech language models, cheaply."""

__version__ = "0.1.0"
