# SPDX-License-Identifier: GPL-2.0-only
"""How long a command in a guest is waited for, by which a guest that hangs can be left."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

#: By which a user asks a command to end.
ASKING = (signal.SIGINT, signal.SIGTERM)
_NUM_SIGNALS = 3
# Within this they are one request: timeout(1) sends its signal twice, a key that is held many times
# a second, and the user is to have read what is said at the second. After the other all is new.
_ONE_REQUEST_S, _FORGOTTEN_S = 2, 30

# As systemd-nspawn has it. On a raw terminal Ctrl-C is a key of the guest's.
_KEY = b"\x1d"
_NUM_KEYS = 3
_KEYS_LIMIT_S = 1

# Nobody is there to ask any more. A run that ends well waits some 20 s for its last stamps.
_TERMINAL_GONE_LIMIT_S = 60


@dataclass(frozen=True, slots=True)
class GivenUp:
    """Why the command is waited for no more ("the command had not ..."), and the exit code."""

    why: str
    exit_code: int


class Patience:
    """Is told what comes from the user, and says when it is enough.

    :param timeout_s: of the command; None: no limit.
    :param clock: seconds that never go back.
    :ivar given_up: None as long as the command is to be waited for.
    """

    #: What to say at the second signal.
    WARNING = f"COMMAND has been sent two signals; a third within {_FORGOTTEN_S} s kills the guest."

    def __init__(
        self, timeout_s: float | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.given_up: GivenUp | None = None
        self._clock = clock
        self._deadline = math.inf
        self._at_deadline: GivenUp | None = None
        self._num_signals = 0
        self._signal_at = -math.inf
        self._keys_at: list[float] = []
        if timeout_s is not None:
            self._limit(timeout_s, f"within {timeout_s:g} s (--timeout)", 1)

    @property
    def left_s(self) -> float | None:
        """Until :meth:`look` is to be called again; None: only after the next event."""
        return None if math.isinf(self._deadline) else max(self._deadline - self._clock(), 0)

    def look(self) -> None:
        """See whether a limit has come."""
        if self.given_up is None and self._clock() >= self._deadline:
            self.given_up = self._at_deadline

    def take_signal(self, number: signal.Signals) -> bool:
        """One has come, and was passed on; whether the next ends the guest, to be said now."""
        since_s = self._clock() - self._signal_at
        if number not in ASKING or since_s < _ONE_REQUEST_S:
            return False
        self._num_signals = self._num_signals + 1 if since_s < _FORGOTTEN_S else 1
        self._signal_at = self._clock()
        if self._num_signals >= _NUM_SIGNALS:
            self._give_up(f"when the third signal came ({number.name})", 128 + number)
        return self._num_signals == _NUM_SIGNALS - 1

    def take_keys(self, data: bytes) -> None:
        """Something was typed on the terminal."""
        now = self._clock()
        for number in range(len(data)):
            is_it = data[number : number + 1] == _KEY
            self._keys_at = [*self._keys_at[1 - _NUM_KEYS :], now] if is_it else []
            if len(self._keys_at) == _NUM_KEYS and now - self._keys_at[0] <= _KEYS_LIMIT_S:
                self._give_up("when ^] was typed three times", 128 + signal.SIGKILL)

    def take_end_of_terminal(self) -> None:
        """It is gone: closed, or its connection is."""
        why = f"{_TERMINAL_GONE_LIMIT_S} s after its terminal was gone"
        self._limit(_TERMINAL_GONE_LIMIT_S, why, 128 + signal.SIGHUP)

    def _limit(self, limit_s: float, when: str, code: int) -> None:
        deadline = self._clock() + limit_s
        if deadline < self._deadline:
            self._deadline = deadline
            self._at_deadline = _given_up(when, code)

    def _give_up(self, when: str, code: int) -> None:
        if self.given_up is None:
            self.given_up = _given_up(when, code)


def _given_up(when: str, code: int) -> GivenUp:
    return GivenUp(f"the command had not ended {when}", code)
