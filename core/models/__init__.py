"""The SpeechLM families, one file each, named after the Hugging Face `model_type`."""

from __future__ import annotations

from .load import FamilyRow, list_models, load_model

__all__ = ["FamilyRow", "list_models", "load_model"]
