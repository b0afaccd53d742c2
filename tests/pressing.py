# SPDX-License-Identifier: GPL-2.0-only
"""Somebody who wants a process to end."""

import contextlib
import threading


@contextlib.contextmanager
def pressing(process, number):
    """Send it the signal twice a second, until the block is left or it has ended."""
    is_over = threading.Event()

    def press():
        while not is_over.wait(0.5):
            process.send_signal(number)

    thread = threading.Thread(target=press)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
