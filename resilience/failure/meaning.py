"""Rules over concepts: what sentences mean, in whichever words and language a provider puts them.

A rule needs one concept of each of its groups in one sentence, and none of those that would mean something else. "The
budget of this team has been exceeded" is MONEY and OVER; so is a sentence that no one here has read. How sure a rule is
(`Strength`) decides whether it outranks the status and the codes; `weighing.py` has the scale. `statuses` limits a rule to
the statuses that it may contradict: a busy server answers 503 or 429, not 401.

Numbers are compared where a sentence has two: "requested 69648, limit 65536" can never fit, whatever else it says.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from resilience.failure.concepts import Concept
from resilience.failure.reading import Sentence, read, read_code, union
from resilience.failure.remembered import by_text
from resilience.failure.rule_set import Rule, RuleSet
from resilience.failure.taxonomy import ErrorCategory as Category
from resilience.failure.weighing import Strength, Vote

C = Concept
_NOTHING: Final = C(0)
_NO_STATUS: Final = frozenset({None})
"""No status, or one of success: the error came inside a stream, or only its text is left."""
_SERVER = _NO_STATUS | frozenset(range(500, 600))
_BUSY = _SERVER | {429, 498}
_THROTTLED = _SERVER | {400, 403, 409, 429}
_REQUEST = _NO_STATUS | {400, 401, 403, 404, 409, 412, 413, 422, 446, 451, 498, 500, 502}
_MODELS = _NO_STATUS | {400, 404, 410, 422, 500, 502, 503}
_SILENT = _NO_STATUS | {408, 424, 500, 502, 503, 504, 524}
_UNPAID = frozenset({400, 401, 402, 403, 412})
_WHO = _NO_STATUS | {400, 403, 429, 451, 500, 502}
_LONG = frozenset(range(400, 600)) - {401, 402, 408, 529} | _NO_STATUS


def _rule(
    category: Category,
    strength: float,
    *groups: Concept,
    without: Concept = _NOTHING,
    nowhere: Concept = _NOTHING,
    statuses: frozenset[int | None] | None = None,
) -> Rule:
    return Rule(category, strength, tuple(map(int, groups)), int(without), int(nowhere), statuses)


_GONE = C.SPENT | C.LACKING
_PASSED = C.OVER | C.REACHED | C.SPENT
_ALLOWED = C.QUOTA | C.LIMIT | C.USAGE
_PACE_OF_TIME = C.SHORT_PERIOD | C.THROTTLE
_PACE = C.SHORT_PERIOD | C.CONCURRENT | C.THROTTLE
_LENGTHY_ONLY = C.INPUT | C.CONTEXT | C.SIZE
_FAULT = C.INVALID | C.REQUIRED | C.SUSPENDED | C.FAILED | C.FORBIDDEN | C.LACKING
_OTHER_LIMITS = C.MONEY | C.QUOTA | C.USAGE | C.LONG_PERIOD | C.TIMEOUT | C.MEDIA
_SURE, _LIKELY, _HINT = Strength.CERTAIN, Strength.LIKELY, Strength.HINT

RULES: Final = RuleSet((
    # How an error is labelled decides which rules are right. A spent allowance of a day, a week, a plan or a free trial is billing,
    # because no short wait helps. Tokens or requests a day with a short wait are throttling. A model that the plan does not
    # include is a permission. A model that is loading or asleep is unavailable, one that was never there is not found.
    # A request that a template or a field refuses is invalid, whatever the status.
    # Money. A limit of pace that mentions an account's balance is still one of pace.
    _rule(Category.QUOTA_EXHAUSTED, _SURE, C.MONEY, _GONE, without=_PACE, nowhere=C.HARM),
    _rule(Category.QUOTA_EXHAUSTED, _SURE, C.MONEY, C.LIMIT | C.QUOTA, _PASSED, without=_PACE),
    _rule(Category.QUOTA_EXHAUSTED, _LIKELY, C.MONEY, _PASSED, without=_PACE | C.CONTEXT),
    _rule(Category.QUOTA_EXHAUSTED, _LIKELY, C.MONEY | C.BILLING, _FAULT, without=_PACE | C.PARAMETER | C.AUTHENTICATE | C.CREDENTIAL),
    _rule(Category.QUOTA_EXHAUSTED, _SURE, C.BILLING, C.LIMIT, _PASSED, without=_PACE),
    _rule(Category.QUOTA_EXHAUSTED, _HINT, C.MONEY, C.BUY, without=_PACE),
    _rule(Category.QUOTA_EXHAUSTED, _HINT, C.BUY, C.PLAN | C.ACCOUNT | _GONE, without=_PACE),
    # An allowance of days or of a plan. A short wait speaks for a limit of pace.
    _rule(Category.QUOTA_EXHAUSTED, _LIKELY, C.LONG_PERIOD, _ALLOWED, _PASSED, without=_PACE | C.CONTEXT | C.DELAY),
    _rule(Category.QUOTA_EXHAUSTED, _LIKELY, C.HOUR, C.USAGE | C.QUOTA | C.PLAN, _PASSED, without=_PACE | C.DELAY),
    _rule(Category.QUOTA_EXHAUSTED, _LIKELY, C.USAGE, C.LIMIT | C.QUOTA, _PASSED, without=_PACE | C.DELAY),
    _rule(Category.QUOTA_EXHAUSTED, _LIKELY, C.USAGE, _GONE | C.REQUIRED, without=_PACE | C.PARAMETER),
    _rule(Category.QUOTA_EXHAUSTED, _LIKELY, C.QUOTA, C.LACKING, without=_PACE),
    _rule(Category.QUOTA_EXHAUSTED, _LIKELY, C.PLAN, C.LIMIT | C.QUOTA | C.USAGE, C.LONG_PERIOD | _PASSED, without=_PACE | C.DELAY, nowhere=_PACE_OF_TIME),
    _rule(Category.QUOTA_EXHAUSTED, _LIKELY + 1, C.THROTTLE, C.LONG_PERIOD, C.PLAN | C.MONEY, without=C.TOKEN | C.DELAY | C.SHORT_PERIOD),
    _rule(Category.QUOTA_EXHAUSTED, _LIKELY, C.PLAN, C.SPENT, without=_PACE),
    # A trial "is limited to 1000 calls a month": that it is used up is said by the error. The next sentence often praises the higher
    # rate limits of a paid plan, so only words for a minute or a second speak against it.
    _rule(Category.QUOTA_EXHAUSTED, _LIKELY + 0.3, C.PLAN, C.LIMIT | C.QUOTA | C.USAGE, C.LONG_PERIOD, without=_PACE | C.DELAY, nowhere=C.SHORT_PERIOD),
    _rule(Category.QUOTA_EXHAUSTED, _LIKELY, C.PLAN, C.SUSPENDED | C.LACKING, without=_PACE | C.MODEL | C.PARAMETER | C.CREDENTIAL),
    _rule(Category.QUOTA_EXHAUSTED, _LIKELY, C.PLAN, C.ENDED, without=_PACE | C.PARAMETER | C.CREDENTIAL | C.AUTHENTICATE | C.MODEL | C.REQUEST),
    _rule(Category.QUOTA_EXHAUSTED, _LIKELY, C.LONG_PERIOD, C.SPENT, C.TOKEN | C.REQUEST | C.INPUT, without=_PACE | C.DELAY),
    _rule(Category.QUOTA_EXHAUSTED, _LIKELY + 0.5, C.LONG_DELAY, C.SPENT, C.TOKEN | C.REQUEST | C.INPUT, without=_PACE),
    _rule(Category.QUOTA_EXHAUSTED, _LIKELY, C.CREDENTIAL, C.LIMIT, _PASSED, without=_PACE | C.SIZE | C.TOKEN | C.INPUT),
    _rule(Category.QUOTA_EXHAUSTED, _LIKELY, C.QUOTA | C.USAGE | C.LIMIT, _PASSED, C.LONG_DELAY, without=_PACE),
    _rule(Category.QUOTA_EXHAUSTED, _HINT, C.LIMIT, _PASSED, C.RESET, without=_PACE | C.DELAY | C.REQUEST | C.TOKEN | C.INPUT | C.OUTPUT | C.CONNECTION, statuses=_NO_STATUS | {429}),
    _rule(Category.QUOTA_EXHAUSTED, _LIKELY, C.QUOTA, C.FAILED, without=_PACE, statuses=_UNPAID),
    _rule(Category.QUOTA_EXHAUSTED, _LIKELY, C.QUOTA | C.USAGE, _PASSED, without=_PACE | C.WAIT, statuses=_UNPAID),
    _rule(Category.QUOTA_EXHAUSTED, Strength.WEAK, C.SPENT, C.INPUT | C.TOKEN | C.REQUEST, without=_PACE | C.CONTEXT | C.SIZE | C.DELAY, statuses=_NO_STATUS),
    _rule(Category.QUOTA_EXHAUSTED, Strength.WEAK, C.QUOTA, without=_PACE | C.DELAY, statuses=_NO_STATUS),
    # An account that is paused because a limit was reached is no account that broke a rule.
    _rule(Category.QUOTA_EXHAUSTED, _LIKELY + 1, C.ACCOUNT | C.PLAN, C.LIMIT | C.QUOTA | C.USAGE, _PASSED, C.SUSPENDED, without=_PACE | C.HARM),
    # Whatever was exceeded, advice to raise the limit of a month says which limit it was.
    _rule(Category.QUOTA_EXHAUSTED, _SURE + 1, C.RAISE, C.LONG_PERIOD, C.LIMIT | C.QUOTA, without=_PACE | C.DELAY),
    # Pace. Statuses limit these rules, because a code such as `rate` or a word such as "second" is in many other errors: a refusal
    # by 401 or 404 is no throttling, whatever the text says.
    _rule(Category.RATE_LIMIT, _LIKELY, C.THROTTLE, statuses=_THROTTLED),
    _rule(Category.RATE_LIMIT, _LIKELY, C.SHORT_PERIOD | C.CONCURRENT, _ALLOWED | C.REQUEST | C.TOKEN, _PASSED | C.TOO_MANY | C.LIMIT, statuses=_THROTTLED),
    _rule(Category.RATE_LIMIT, _LIKELY, C.HOUR, C.REQUEST, C.LIMIT | _PASSED, without=C.USAGE | C.QUOTA, statuses=_THROTTLED),
    _rule(Category.RATE_LIMIT, _LIKELY, C.CONCURRENT, _PASSED | C.TOO_MANY, without=C.CONTEXT, statuses=_THROTTLED),
    _rule(Category.RATE_LIMIT, _HINT, C.TOKEN, C.LIMIT, _PASSED, without=_LENGTHY_ONLY, statuses=frozenset({429})),
    _rule(Category.RATE_LIMIT, _LIKELY, C.TOO_MANY, C.REQUEST | C.CONCURRENT, statuses=_THROTTLED),
    _rule(Category.RATE_LIMIT, _SURE, C.TOO_MANY, C.TOKEN, C.WAIT | C.SHORT_PERIOD, without=C.CONTEXT, statuses=_THROTTLED),
    _rule(Category.RATE_LIMIT, _HINT, C.REQUEST, C.LIMIT, _PASSED, without=C.SIZE | C.TOKEN | C.INPUT, statuses=_THROTTLED),
    _rule(Category.RATE_LIMIT, _HINT, C.QUOTA, _PASSED, statuses=_SERVER | {429}),
    # Length. A text with "rate" or "minute" anywhere counts the tokens of a minute.
    _rule(Category.CONTEXT_LENGTH, _SURE, C.CONTEXT, C.OVER | C.TOO_BIG | C.REDUCE, without=C.TIMEOUT | C.MONEY, nowhere=_PACE_OF_TIME, statuses=_LONG),
    _rule(Category.CONTEXT_LENGTH, _LIKELY, C.CONTEXT, C.SIZE, C.LIMIT | C.SPENT | C.REACHED, without=C.TIMEOUT | C.MONEY | C.OUTPUT, nowhere=_PACE_OF_TIME, statuses=_LONG),
    _rule(Category.CONTEXT_LENGTH, _LIKELY, C.CONTEXT, C.SIZE, C.INPUT, C.REQUIRED, without=C.TIMEOUT | C.MONEY, nowhere=_PACE_OF_TIME, statuses=_LONG),
    _rule(Category.CONTEXT_LENGTH, _SURE, C.INPUT | C.REQUEST, C.TOO_BIG, without=C.WAIT | C.OUTPUT | C.MEDIA, nowhere=_PACE_OF_TIME, statuses=_LONG),
    _rule(Category.CONTEXT_LENGTH, _LIKELY, C.TOKEN, C.TOO_BIG | C.TOO_MANY, without=C.WAIT | C.OUTPUT | C.REQUEST, nowhere=_PACE_OF_TIME, statuses=_LONG),
    _rule(Category.CONTEXT_LENGTH, _LIKELY, C.INPUT, C.OVER, C.LIMIT | C.SIZE | C.TOKEN, without=_OTHER_LIMITS, nowhere=_PACE_OF_TIME, statuses=_LONG),
    _rule(Category.CONTEXT_LENGTH, _LIKELY, C.TOKEN | C.SIZE, C.OVER, C.LIMIT | C.SIZE | C.TOKEN, without=_OTHER_LIMITS | C.OUTPUT, nowhere=_PACE_OF_TIME, statuses=_LONG - {429}),
    # "Total tokens of image and text" are still tokens of one request.
    _rule(Category.CONTEXT_LENGTH, _LIKELY, C.TOKEN, C.INPUT, C.OVER, C.LIMIT, without=C.MONEY | C.QUOTA | C.USAGE | C.LONG_PERIOD | C.TIMEOUT, nowhere=_PACE_OF_TIME, statuses=_LONG - {429}),
    _rule(Category.CONTEXT_LENGTH, _LIKELY, C.INPUT, C.TOKEN, C.REQUIRED, without=C.PARAMETER | C.CREDENTIAL | C.MONEY, nowhere=_PACE_OF_TIME, statuses=_LONG),
    _rule(Category.CONTEXT_LENGTH, _LIKELY, C.INPUT | C.MODEL, C.REDUCE, C.SIZE | C.INPUT | C.TOKEN, without=C.MONEY, nowhere=_PACE_OF_TIME, statuses=_LONG),
    _rule(Category.CONTEXT_LENGTH, Strength.WEAK, C.TOO_BIG, without=C.OUTPUT | C.MEDIA | C.PARAMETER | C.TIMEOUT, nowhere=_PACE_OF_TIME, statuses=_NO_STATUS),
    # No such model. "Does not exist or you do not have access" is both; another client has another model.
    _rule(Category.NOT_FOUND, _LIKELY + 0.3, C.MODEL, C.ABSENT, without=C.CONNECTION | C.PARAMETER, statuses=_MODELS),
    _rule(Category.NOT_FOUND, _LIKELY + 0.3, C.ABSENT, C.FORBIDDEN, C.ACCESS, without=C.PARAMETER, statuses=_MODELS),
    _rule(Category.NOT_FOUND, _HINT, C.MODEL, C.UNSUPPORTED, without=C.FEATURE | C.PARAMETER | C.INPUT | C.OUTPUT | C.CONTENT | C.PLACE | C.MEDIA, statuses=_MODELS),
    _rule(Category.NOT_FOUND, _HINT + 0.5, C.MODEL, C.UNKNOWN, without=C.BROKEN | C.FAILED | C.PARAMETER | C.SERVICE, statuses=_MODELS),
    _rule(Category.NOT_FOUND, _HINT, C.MODEL, C.INVALID, without=C.PARAMETER | C.REQUEST | C.CREDENTIAL | C.AUTHENTICATE | C.INPUT | C.OUTPUT | C.CONTEXT | C.FAILED, statuses=_MODELS),
    _rule(Category.NOT_FOUND, _HINT + 0.5, C.MODEL, C.DOWN, statuses=frozenset({400, 404, 410, 422}), without=C.ASLEEP | C.TEMPORARY | C.WAIT | C.FAILED),
    _rule(Category.NOT_FOUND, Strength.WEAK, C.ABSENT, without=C.CONNECTION | C.PARAMETER | C.CREDENTIAL | C.ACCOUNT | C.MEDIA, statuses=_NO_STATUS),
    # Who may. A sentence with a word for throttling denies nothing: "Permission denied: rate limit reached" is a label and a reason.
    _rule(Category.PERMISSION, _LIKELY, C.PLACE, C.SUSPENDED | C.UNSUPPORTED | C.INCAPABLE | C.FORBIDDEN | C.DOWN | C.BLOCKED, without=C.PARAMETER),
    _rule(Category.PERMISSION, _LIKELY + 0.5, C.ACCOUNT | C.ACCESS, C.SUSPENDED, without=C.MONEY | C.BILLING, statuses=_WHO | {404, 412, 503}),
    _rule(Category.PERMISSION, _LIKELY, C.ACCOUNT, C.SUSPENDED | C.BLOCKED, without=C.MONEY | C.BILLING | C.HARM, statuses=_WHO - {500}),
    _rule(Category.PERMISSION, _LIKELY, C.FORBIDDEN, C.ACCOUNT | C.ACCESS | C.CREDENTIAL, without=C.MONEY | C.THROTTLE | C.CONTENT | C.HARM | C.PARAMETER, statuses=_WHO),
    _rule(Category.PERMISSION, _LIKELY, C.FORBIDDEN, C.MODEL, without=C.MONEY | C.THROTTLE | C.CONTENT | C.POLICY | C.HARM | C.PARAMETER | C.FEATURE, statuses=_WHO),
    _rule(Category.PERMISSION, _HINT, C.FORBIDDEN, without=C.MONEY | C.THROTTLE | C.PARAMETER | C.ABSENT, statuses=_NO_STATUS | {403}),
    # Gateways say 401 where a known key may not use a model. Without a word about the key the status is wrong.
    _rule(Category.PERMISSION, _LIKELY, C.LACKING, C.ACCESS, without=C.MONEY | C.BILLING | C.CONTENT | C.TOKEN | C.THROTTLE | C.PARAMETER, statuses=_WHO),
    _rule(Category.PERMISSION, _LIKELY, C.FORBIDDEN, C.MODEL, C.ACCESS, without=C.MONEY | C.CREDENTIAL | C.AUTHENTICATE | C.PARAMETER, statuses=frozenset({401})),
    _rule(Category.AUTHENTICATION, _LIKELY, C.CREDENTIAL, C.INVALID | C.ABSENT | C.SUSPENDED | C.REQUIRED | C.BLOCKED, without=C.MONEY | C.PARAMETER, statuses=_NO_STATUS | {400, 401, 403, 500, 502, 503}),
    _rule(Category.AUTHENTICATION, _LIKELY, C.AUTHENTICATE, C.INVALID | C.FAILED | C.REQUIRED | C.ABSENT, without=C.MONEY, statuses=_NO_STATUS | {400, 401, 403, 500, 502}),
    _rule(Category.AUTHENTICATION, _HINT, C.AUTHENTICATE, without=C.MONEY | C.DOWN | C.THROTTLE, statuses=_NO_STATUS | {400, 401}),
    # What may be said. A content filter, a guardrail and a moderation have the same effect for the caller: another client with other
    # rules may answer, the same one will not.
    _rule(Category.CONTENT_POLICY, _LIKELY, C.CONTENT | C.POLICY | C.INPUT | C.OUTPUT | C.REQUEST, C.HARM, without=C.MONEY | C.TOO_MANY | C.INCAPABLE, statuses=_REQUEST),
    _rule(Category.CONTENT_POLICY, _LIKELY, C.CONTENT, C.BLOCKED | C.FORBIDDEN | C.HARM, without=C.MONEY | C.PLACE, statuses=_REQUEST),
    _rule(Category.CONTENT_POLICY, _LIKELY, C.POLICY, C.BLOCKED | C.HARM, without=C.MONEY | C.PLACE, statuses=_REQUEST),
    _rule(Category.CONTENT_POLICY, _LIKELY, C.POLICY, C.FORBIDDEN, without=C.MONEY | C.PLACE | C.ACCOUNT, statuses=_REQUEST),
    _rule(Category.CONTENT_POLICY, _HINT, C.INPUT | C.OUTPUT, C.BLOCKED, without=C.MONEY | _PACE | C.PARAMETER, statuses=_REQUEST - {404, 413}),
    # "Guardrails check failed", "moderation failed": the check worked, and the request did not pass it.
    _rule(Category.CONTENT_POLICY, _HINT, C.POLICY, C.FAILED, without=C.MONEY | C.PLACE | C.ACCOUNT | C.ACCESS | C.CREDENTIAL | C.SERVICE, statuses=frozenset({400, 403, 422, 446, 451})),
    # The state of a server. A bill outranks it: "the service is paused until you pay" is no maintenance, and waiting does not
    # help.
    # A server that has too much to do, that is starting or gone, that is silent, that broke.
    _rule(Category.OVERLOADED, _LIKELY + 0.6, C.BUSY, without=C.MONEY, statuses=_BUSY),
    _rule(Category.OVERLOADED, _LIKELY + 0.6, C.HIGH, C.TRAFFIC, without=C.MONEY, statuses=_BUSY),
    _rule(Category.SERVICE_UNAVAILABLE, _LIKELY, C.DOWN, C.TEMPORARY | C.WAIT, without=C.PLACE | C.THROTTLE, nowhere=C.THROTTLE, statuses=_SERVER),
    _rule(Category.SERVICE_UNAVAILABLE, _HINT, C.DOWN, C.SERVICE | C.MODEL | C.REQUEST, without=C.PLACE | C.ABSENT | C.FORBIDDEN | C.INVALID | C.PARAMETER | C.INPUT | C.THROTTLE, statuses=_SERVER | {400, 404, 424}),
    # Bedrock sends 429 while a model is loaded into memory.
    _rule(Category.SERVICE_UNAVAILABLE, _HINT, C.ASLEEP, C.MODEL, without=_PACE | C.MONEY | C.TOO_MANY | C.QUOTA | C.LIMIT, statuses=frozenset({429})),
    _rule(Category.SERVICE_UNAVAILABLE, Strength.WEAK, C.SERVICE, C.TEMPORARY, statuses=_NO_STATUS),
    _rule(Category.TIMEOUT, _LIKELY, C.TIMEOUT, without=C.THROTTLE, statuses=_SILENT),
    _rule(Category.SERVER_ERROR, Strength.WEAK, C.BROKEN, statuses=_NO_STATUS),
    _rule(Category.SERVER_ERROR, Strength.WEAK - 0.5, C.SERVICE | C.REQUEST, C.FAILED, without=C.CONNECTION | C.CREDENTIAL | C.AUTHENTICATE | C.ACCESS, statuses=_NO_STATUS),
    _rule(Category.SERVICE_UNAVAILABLE, _HINT, C.ACCOUNT, C.DOWN, without=C.PLACE | C.ABSENT | C.FORBIDDEN | C.INVALID | C.FEATURE | C.MODEL, statuses=_SERVER),
    _rule(Category.NETWORK, Strength.WEAK, C.CONNECTION, C.FAILED | C.TEMPORARY | C.DOWN | C.INVALID | C.RESET, without=C.CREDENTIAL, statuses=_NO_STATUS),
    # A request that is wrong, an answer that was cut. These are hints: a field is named in many errors that are not its fault, so
    # any clear sentence about money, length or pace outranks them.
    _rule(Category.INVALID_REQUEST, _HINT, C.PARAMETER, C.INVALID | C.UNSUPPORTED | C.REQUIRED | C.FORBIDDEN, without=C.CREDENTIAL | C.AUTHENTICATE, statuses=_NO_STATUS | {400, 422, 500, 503}),
    _rule(Category.INVALID_REQUEST, _HINT, C.FEATURE, C.UNSUPPORTED | C.FORBIDDEN | C.INVALID, without=C.PLACE | C.ACCOUNT | C.ACCESS | C.CREDENTIAL, statuses=_NO_STATUS | {400, 422, 500}),
    _rule(Category.INVALID_REQUEST, _HINT, C.PARAMETER, C.INCAPABLE, statuses=_NO_STATUS | {400, 422, 500}),
    _rule(Category.INVALID_REQUEST, _HINT, C.MODEL, C.INCAPABLE, without=C.PLACE, statuses=_NO_STATUS | {400, 422, 500}),
    _rule(Category.INVALID_REQUEST, _HINT + 0.4, C.OUTPUT, C.TOO_BIG | C.OVER | C.LIMIT, without=C.INPUT | C.CONTEXT | C.MONEY | _PACE, statuses=_NO_STATUS | {400, 422, 500}),
    _rule(Category.INVALID_REQUEST, Strength.WEAK, C.REQUEST | C.INPUT, C.INVALID | C.UNSUPPORTED, statuses=_NO_STATUS),
    # "System message must be at the beginning", as 500 by servers that put messages through a template.
    _rule(Category.INVALID_REQUEST, _HINT, C.INPUT, C.REQUIRED, without=C.TOKEN | C.CONTEXT | C.SIZE | C.CREDENTIAL | C.AUTHENTICATE | C.MONEY | C.ACCOUNT | C.WAIT | C.PLAN, statuses=_NO_STATUS | {500}),
    _rule(Category.INVALID_REQUEST, Strength.WEAK, C.INPUT | C.MEDIA, C.LIMIT, without=C.TOKEN | C.CONTEXT | C.SIZE | C.MONEY | _PACE | _ALLOWED & ~C.LIMIT | C.PLAN | _PASSED | C.LONG_PERIOD, statuses=_NO_STATUS),
    _rule(Category.INVALID_REQUEST, Strength.WEAK - 0.5, C.UNSUPPORTED | C.REQUIRED, without=C.CREDENTIAL | C.AUTHENTICATE | C.ACCOUNT | C.ACCESS | C.MONEY | C.PLAN | C.PLACE | C.WAIT | C.MODEL | C.TOKEN | C.CONNECTION, statuses=_NO_STATUS),
    _rule(Category.INVALID_REQUEST, Strength.WEAK, C.MEDIA, C.INVALID, without=C.CREDENTIAL, statuses=_NO_STATUS),
    _rule(Category.OUTPUT_TRUNCATED, _LIKELY + 1, C.OUTPUT, C.SIZE, C.LIMIT, C.REACHED, statuses=_NO_STATUS),
))  # fmt: skip
"""All rules. A new one belongs to its paragraph; the strongest vote decides, not the order."""

_RULES_OF_CODES: Final = RuleSet(
    (
        *RULES.rules,
        _rule(Category.QUOTA_EXHAUSTED, _LIKELY, C.MONEY, C.LIMIT | C.QUOTA | C.BLOCKED, without=_PACE),
        _rule(Category.SERVICE_UNAVAILABLE, _HINT + 0.5, C.ASLEEP, without=_PACE | C.MONEY, statuses=_SERVER),
    ),
    weaker=1.0,
)
"""A code has no verbs: `spending-limit` alone says that it is reached. Codes say less than sentences."""

_CLASS_ENDINGS: Final = ("Error", "Exception")
_MAX_CLASSES: Final = 4
"""Class names of one text that are read."""
_QUOTA, _OF_PLAN, _IS_PASSED = int(C.QUOTA), int(C.PLAN | C.BILLING), int(_PASSED)
_COUNT: Final = int(C.TOKEN | C.SIZE | C.CONTEXT)
_NO_LENGTH_NEAR: Final = int(_PACE_OF_TIME | C.QUOTA)
_NO_LENGTH: Final = int(C.MONEY | C.LONG_PERIOD | C.QUOTA | C.MEDIA)
_DELAY, _LONG_DELAY = int(C.DELAY), int(C.LONG_DELAY)
# OpenAI speaks of an exceeded quota and of a plan for bills, Google does for requests a minute.
_QUOTA_OF_TIME: Final = Vote(Category.RATE_LIMIT, _HINT + 0.5, "a quota of a plan")
_QUOTA_OF_PLAN: Final = Vote(Category.QUOTA_EXHAUSTED, _HINT + 0.5, "a quota of a plan")
_NUMBERS: Final = Vote(Category.CONTEXT_LENGTH, _LIKELY, "numbers of tokens and their limit")
_NEVER_FITS: Final = Vote(Category.CONTEXT_LENGTH, _SURE + 0.5, "one request is larger than the limit")
_SHORT_WAIT: Final = 3600.0
"""Seconds: a wait up to this is one of pace, not of an allowance."""
_BOUND: Final = int(C.LIMIT | C.OVER | C.REQUIRED | C.TOO_BIG)
_OUTPUT, _INPUT = int(C.OUTPUT), int(C.INPUT | C.CONTEXT)
_WINDOW, _PROMPT = int(C.CONTEXT | C.SIZE), int(C.INPUT | C.TOKEN)
_LIMIT_AND_REQUESTED: Final = re.compile(r"\blimit:? ([\d,]{1,15})\b.{0,80}?\brequested:? ~?([\d,]{1,15})")


def votes_of_texts(
    texts: Iterable[str], status: int | None, delay: float | None = None, *, window: bool = False
) -> list[Vote]:
    """Return what sentences mean, one vote for each rule that matches.

    Args:
        texts: the texts of a response or of an exception, each read for itself.
        status: the status of the response.
        delay: the wait that the response states, in seconds.
        window: whether a code names a quota of a minute or of a day.
    """
    stated = 0 if delay is None else _DELAY if delay <= _SHORT_WAIT else _LONG_DELAY
    quota = _QUOTA_OF_TIME if stated or window else _QUOTA_OF_PLAN
    return [vote for text in texts for vote in _votes_of_text(text, status, stated, quota)]


@by_text
def _votes_of_text(text: str, status: int | None, stated: int, quota: Vote) -> tuple[Vote, ...]:
    """Return what the sentences of one text mean.

    Args:
        text: the text.
        status: the status of the response.
        stated: the concept of the wait that the response states; 0 for none.
        quota: what an exceeded quota of a plan means.
    """
    votes = [_NEVER_FITS] if _never_fits(text) else []
    sentences = read(text)
    whole = union(sentences)
    for sentence in sentences:
        bits, numbers = sentence
        votes += RULES.votes(bits | stated, whole, status)
        if numbers and status in _LONG and _is_length(sentence, whole):
            votes.append(_NUMBERS)
        if bits & _QUOTA and bits & _OF_PLAN and bits & _IS_PASSED:
            votes.append(quota)
    return tuple(votes)


def votes_of_codes(codes: Sequence[str], status: int | None) -> Iterator[Vote]:
    """Yield what the words of *codes* mean. They are the provider's own, but say less than its sentences."""
    for code in codes:
        bits = read_code(code).bits
        yield from _RULES_OF_CODES.votes(bits, bits, status)


def votes_of_class_names(names: Iterable[str]) -> Iterator[Vote]:
    """Yield what the words of the class names among *names* mean: `ProviderModelNotFoundError`. All sentences say more.

    One about money outranks a status: `AccountOverdueError` as 403.
    """
    classes = [name for name in names if name.endswith(_CLASS_ENDINGS)][:_MAX_CLASSES]
    words = [name.removesuffix("Error").removesuffix("Exception") for name in classes]
    for vote in votes_of_codes(words, None):
        paid = vote.category is Category.QUOTA_EXHAUSTED
        yield Vote(vote.category, min(vote.strength, _HINT if paid else Strength.WEAK + 0.2), vote.because)


def _is_length(sentence: Sentence, text: int) -> bool:
    """Return whether a sentence compares a number of tokens or characters with a limit.

    vLLM works out `max_tokens` as the window minus the prompt, so a negative number of output tokens is a prompt too long.
    """
    bits, numbers = sentence
    if text & _NO_LENGTH_NEAR or bits & _NO_LENGTH:
        return False
    if bits & _OUTPUT and not bits & _INPUT:
        return bool(bits & _BOUND) and any(number < 0 for number in numbers)
    if len(numbers) < 2 or not bits & _COUNT:  # noqa: PLR2004 - a comparison has two sides
        return False
    # "Prompt has 9000 tokens, but the context size is 8192 tokens" has no word for a limit.
    return bool(bits & _BOUND) or bool(bits & _WINDOW and bits & _PROMPT and numbers[-2] > numbers[-1])


def _never_fits(text: str) -> bool:
    """Return whether one request alone is larger than the limit of a minute (OpenAI, Groq): no wait helps then."""
    lowered = text.lower()
    match = _LIMIT_AND_REQUESTED.search(lowered) if "requested" in lowered else None
    if match is None:
        return False
    limit, requested = (int(number.replace(",", "") or "0") for number in match.groups())
    return requested > limit
