"""The benchmark of the Triton kernel where it cannot run."""

from __future__ import annotations

import pytest
import torch

from benchmarks.kernels import main


def test_without_a_gpu_it_refuses_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="needs a CUDA device") as refused:
        main()
    assert len(str(refused.value).splitlines()) == 1
