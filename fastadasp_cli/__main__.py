"""`python -m fastadasp_cli`, the same as `fastadasp`."""

from __future__ import annotations

from .start import main

main()
