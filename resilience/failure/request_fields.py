"""Whether a provider's code names a field of the request. Pure.

Such a code shows that the provider has read the request and found the fault in it: `unsupported_parameter`, `invalid_image_url`,
`messages[0].content`. A code that only repeats the status, or names a state of the service, does not.
"""

from __future__ import annotations

import re
from typing import Final

# Without `argument`, which stands in Google's code for every 400.
_WORDS: Final = """
    array attribute audio base64 body choice content effort enum field fields file format functions image images
    input instructions integer json key keys length logit logprobs max message messages metadata mime min modalities modality
    output param parameter parameters params penalty prompt property properties response role roles schema seed stop
    stream string system temperature thinking token tokens tool tools top type types url value values video
"""
_FIELD_WORDS: Final = frozenset(_WORDS.split())
_WORD: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")


def names_field(code: str | None) -> bool:
    """Return whether *code* names a field of a request, or the kind of value that a field must have."""
    return code is not None and any(word.lower() in _FIELD_WORDS for word in _WORD.findall(code))
