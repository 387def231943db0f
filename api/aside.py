"""Questions asked in threads of their own, beside the thread pool that a hung database may fill."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Answer = TypeVar("Answer")


class Aside(Generic[Answer]):
    """At most `at_once` threads; who waits longer than `wait_s`, or finds no place, gets None.

    A thread that is late ends by itself whenever its question is answered.
    """

    def __init__(self, name: str, *, at_once: int, wait_s: float) -> None:
        self._name = name
        self._places = threading.Semaphore(at_once)
        self._wait_s = wait_s

    async def ask(self, question: Callable[[], Answer]) -> Answer | None:
        """The answer to `question`, which must not raise."""
        if not self._places.acquire(blocking=False):
            return None
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Answer | None] = loop.create_future()

        def tell(found: Answer | None) -> None:
            if not answer.done():
                answer.set_result(found)

        def run() -> None:
            found: Answer | None = None
            try:
                found = question()
            finally:
                self._places.release()
                loop.call_soon_threadsafe(tell, found)

        threading.Thread(target=run, name=self._name, daemon=True).start()
        try:
            async with asyncio.timeout(self._wait_s):
                return await answer
        except TimeoutError:
            return None
