from __future__ import annotations

import pytest

from engine import main_process
from engine.main_process import on_main_process


def test_value_and_error() -> None:
    assert on_main_process(lambda: {"mAP": 0.5}) == {"mAP": 0.5}
    with pytest.raises(ZeroDivisionError):  # a mistake of ours, with its traceback
        on_main_process(lambda: 1 // 0)
    with pytest.raises(ValueError, match="no image"):
        on_main_process(lambda: _raise(ValueError("no image")))


@pytest.mark.parametrize("answer", [0.5, RuntimeError("came twice")])
def test_another_process_takes_the_answer(monkeypatch, answer) -> None:
    monkeypatch.setattr(main_process, "is_main_process", lambda: False)
    monkeypatch.setattr(
        main_process, "broadcast_object_list", lambda payload: payload.__setitem__(0, answer)
    )
    if isinstance(answer, Exception):
        with pytest.raises(RuntimeError, match="came twice"):
            on_main_process(lambda: _raise(AssertionError("not its work")))
    else:
        assert on_main_process(lambda: _raise(AssertionError("not its work"))) == 0.5


def _raise(error: Exception) -> None:
    raise error
