"""What one process works out for all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from mmengine.dist import broadcast_object_list, is_main_process

Value = TypeVar("Value")


def on_main_process(compute: Callable[[], Value]) -> Value:
    """The value of ``compute``, which the main process alone calls, in all processes.

    A ValueError or RuntimeError of it is raised in all of them: the others wait for an answer.
    """
    payload: list[Any] = [None]
    if is_main_process():
        try:
            payload = [compute()]
        except (ValueError, RuntimeError) as error:
            payload = [error]
    broadcast_object_list(payload)
    if isinstance(payload[0], Exception):
        raise payload[0]
    value: Value = payload[0]
    return value
