"""No wait without an end, and none without a word."""

import sys
import time
from collections.abc import Callable

from extract.errors import InputError

_WORD = 60.0  # seconds without a result before it says what it waits for, and between such words


def _print(message: str) -> None:
    from tqdm import tqdm

    tqdm.write(message, file=sys.stderr)  # above the bar


class Watchdog:
    """patience: seconds in which something must finish. say: where its words go."""

    def __init__(
        self,
        patience: float,
        say: Callable[[str], None] = _print,
        word: float = _WORD,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._patience, self._say, self._word, self._clock = patience, say, word, clock
        self._heard = self._said = clock()

    def look(self, heard: bool, waiting: Callable[[], str]) -> None:
        """Called again and again while there is work; heard: something has finished since. Raises
        InputError when patience is over.
        """
        now = self._clock()
        if heard:
            self._heard = self._said = now
        silent = now - self._heard
        if silent >= self._patience:
            raise InputError(
                f"nothing has finished for {silent:.0f} s: {waiting()}; finished clips are kept, "
                "the same command goes on from there"
            )
        if now - self._said >= self._word:
            self._said = now
            self._say(f"nothing has finished for {silent:.0f} s: {waiting()}")
