# SPDX-License-Identifier: GPL-2.0-only
"""One question to a generic netlink family, in the network namespace that is current."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Any

from xdptstamp.errors import SystemCallError


def ask(
    family: str, message_class: Any, command: int, attrs: Sequence[tuple[str, Any]], call: str
) -> Any | None:
    """The first message of the answer; None: this kernel has no such family.

    :param message_class: of pyroute2; names the family's attributes.
    :param attrs: of the question, by those names.
    :param call: what an error's message calls the question.
    :raises SystemCallError: If the kernel answers with an error.
    """
    from pyroute2.netlink import NLM_F_REQUEST
    from pyroute2.netlink.exceptions import NetlinkError
    from pyroute2.netlink.generic import GenericNetlinkSocket

    with GenericNetlinkSocket() as sock:
        try:
            sock.bind(family, message_class)
        except NetlinkError as error:
            if error.code == errno.ENOENT:
                return None
            raise SystemCallError(error.code, "CTRL_CMD_GETFAMILY", family) from None
        message = message_class()
        message["cmd"], message["version"] = command, 1
        message["attrs"] = list(attrs)
        try:
            answers = sock.nlm_request(message, msg_type=sock.prid, msg_flags=NLM_F_REQUEST)
        except NetlinkError as error:
            raise SystemCallError(error.code, call, family) from None
    return next(iter(answers))
