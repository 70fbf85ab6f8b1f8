"""Events as JSON lines: three log streams that many processes share, and a bridge to the standard `logging`.

As a library, nothing here configures logging or touches the root logger. Our own warnings go to the logger `resilience`; its
`NullHandler` keeps Python's last-resort handler from printing them until the application adds a handler.
"""

import logging

from resilience.logs.bridge import EVENTS_LOGGER, Bridge
from resilience.logs.json_lines import JsonLines
from resilience.logs.policy import LogPolicy
from resilience.logs.rotated_files import STREAMS

logging.getLogger("resilience").addHandler(logging.NullHandler())

__all__ = ["EVENTS_LOGGER", "STREAMS", "Bridge", "JsonLines", "LogPolicy"]
