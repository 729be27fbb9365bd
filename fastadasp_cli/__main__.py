"""`python -m fastadasp_cli`, the same as `fastadasp`."""

from __future__ import annotations

import os
import sys

# `-m` looks into the working folder first, and what lies there is recordings, not code of ours
if not sys.flags.safe_path and sys.path[0] != os.path.dirname(os.path.dirname(__file__)):
    del sys.path[0]

from .start import main

main()
