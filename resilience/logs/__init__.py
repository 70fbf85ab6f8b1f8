"""What happened, as lines: three JSONL streams that many processes share, and a bridge to the standard `logging`.

Library manners: nothing here touches the root logger or configures logging. Our own few words for people go to the logger
`resilience`, which stays silent until a program gives it or the root logger a handler.
"""

import logging

from resilience.logs.bridge import EVENTS_LOGGER, Bridge
from resilience.logs.json_lines import JsonLines
from resilience.logs.policy import LogPolicy
from resilience.logs.rotated_files import STREAMS

logging.getLogger("resilience").addHandler(logging.NullHandler())

__all__ = ["EVENTS_LOGGER", "STREAMS", "Bridge", "JsonLines", "LogPolicy"]
