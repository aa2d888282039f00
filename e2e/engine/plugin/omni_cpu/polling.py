"""Makes an idle pipeline on Ray cheap.

vllm-omni 0.16 asks every stage's Ray queue about once a millisecond for ever. Three idle stages burn about one core with
that, which a laptop or a CI machine with two cores does not have.
"""

import time
from typing import Any

from ray.util import queue


def throttle(pause: float) -> None:
    """Sleep `pause` seconds after each empty answer of a Ray queue, in this process."""
    original = queue.Queue.get_nowait
    if hasattr(original, "omni_cpu"):
        return

    def get_nowait(self: queue.Queue) -> Any:
        try:
            return original(self)
        except queue.Empty:
            time.sleep(pause)
            raise

    get_nowait.omni_cpu = True  # type: ignore[attr-defined]
    queue.Queue.get_nowait = get_nowait
