"""`fastadasp` with the rooms of `tests.fakes`, for real processes, pipes and signals."""

from __future__ import annotations

import core.pipeline
from fastadasp_cli.main import main
from tests.fakes import FakeStages

core.pipeline.Rooms = FakeStages  # type: ignore[misc,assignment]

if __name__ == "__main__":
    main()
