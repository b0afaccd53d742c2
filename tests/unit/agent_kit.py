# SPDX-License-Identifier: GPL-2.0-only
"""The guest's agent as a process of this machine, and the line to it."""

import os
import socket
import subprocess
import sys

from xdptstamp.errors import SetupError
from xdptstamp.lab.guest import agent
from xdptstamp.lab.guest.channel import Channel

LIMIT_S = 30
SERVE = f"import runpy; runpy.run_path({agent.__file__!r})['serve'](int(__import__('sys').argv[1]))"


class Line:
    """An agent, and the channel to it."""

    def __init__(self, why_died=lambda: SetupError("guest", "it died")):
        ours, theirs = socket.socketpair()
        argv = [sys.executable, "-I", "-S", "-c", SERVE, str(theirs.fileno())]
        self.agent = subprocess.Popen(argv, pass_fds=[theirs.fileno()], stderr=subprocess.PIPE)
        theirs.close()
        self.channel = Channel(ours, why_died)
        self.channel.start()
        assert self.channel.wait_ready(LIMIT_S)

    def popen(self, *argv, terminal=None, on_output=None, cwd="/", **env):
        return self.channel.popen(argv, cwd, {**os.environ, **env}, terminal, on_output)

    def run(self, *argv, data=b"", **options):
        process = self.popen(*argv, **options)
        process.write(data)
        process.close_stdin()
        return process.wait(LIMIT_S), process.stdout, process.stderr

    def close(self):
        self.channel.close()
        self.agent.wait(LIMIT_S)
        self.agent.stderr.close()
