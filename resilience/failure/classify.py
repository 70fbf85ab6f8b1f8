"""Decides the category of a failure: evidence first, words last.

The ranks, highest first; the first that says anything decides:

1. exceptions of ours, cancellations, and answers that arrived but cannot be used: no other evidence can change them;
2. classes of transport faults and of the caller's own mistakes, where no server responded;
3. what BAML's Collector saw: no request was built, or nothing was sent;
4. everything else is weighed together (`weighing.py`): the provider's codes, what its sentences mean, the status, and, where
   no server's status is known, the class and the keywords of the exception. Providers send wrong statuses (billing as 429,
   throttling as 400), so a clear sentence or code outweighs the status.

The text of an exception without a response counts least, because a prompt or an answer may be quoted in it: "rate limit" in a prompt is not a rate limit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from http import HTTPStatus
from itertools import islice
from typing import Final

from resilience import errors
from resilience.failure import codes, exceptions, keywords
from resilience.failure.body import ResponseBody, clip, unwrap, without_frames
from resilience.failure.evidence import complete, evidence_of, searchable_text
from resilience.failure.finish_reasons import category_of_reason, finish_error, reports_failure
from resilience.failure.identifiers import request_id_of, safe_class_name, safe_code
from resilience.failure.message import message_of
from resilience.failure.retry_after import stated_delay
from resilience.failure.statuses import category_of_status
from resilience.failure.taxonomy import CATEGORY_RULES, Evidence, Failure
from resilience.failure.taxonomy import ErrorCategory as Category
from resilience.failure.text_status import status_in_text, without_reason_phrase
from resilience.failure.weighing import Strength, Verdict, Vote, weigh
from resilience.redaction import SentText

_NO_COOLDOWN: Final = frozenset({409, 425})
"""Statuses of one request in conflict with another: retried like a rate limit, but no reason to stop other calls."""
_THROTTLED: Final = frozenset({None, 429, 503, 529})
"""Statuses with which an exhausted rate-limit window may be the cause, so that its reset is a wait."""
_MAX_MEMBERS: Final = 20
"""Exceptions of a group that are looked at."""
_HEAD, _TAIL = 12_000, 4_000
"""Characters at the start and the end of each text that rules read."""
_OF_LIBRARIES: Final = frozenset({Category.OUTPUT_INVALID, Category.OUTPUT_TRUNCATED, Category.CANCELLED})
"""Categories that only the words of a library can mean: a provider that answers has no part in them."""
_NO_CODES: Final = frozenset({"error", "none", "failed"})
"""Words in the place of a code that only say that this is an error."""
_CLOUDFLARE_LINE: Final = "error code: "


@dataclass(frozen=True, slots=True)
class _Case:
    """Everything that is known about one failure.

    Attributes:
        evidence: what the attempt left behind.
        body: the unwrapped response body, or the unwrapped text of the exception.
        status_of_response: the status that a server really sent or that its body names in a field; None for success.
        status: the same, or the status that only a text names.
        codes: the provider's codes, the most telling first.
        texts: the texts that the rules about meaning read.
        delay: the wait that the provider stated, in seconds.
    """

    evidence: Evidence
    body: ResponseBody
    status_of_response: int | None
    status: int | None
    codes: tuple[str, ...]
    texts: tuple[str, ...]
    delay: float | None

    @property
    def text(self) -> str:
        """The normalised text that keywords are searched in; made only where no status is known."""
        return keywords.normalize("\n".join(self.texts))


def classify(
    exc: BaseException,
    *,
    evidence: Evidence | None = None,
    now: float | None = None,
    sent: SentText | None = None,
) -> Failure:
    """Classify *exc*. Never raises, whatever the exception does when it is read.

    Args:
        exc: any exception. Its class is recognised by name, so no library has to be installed.
        evidence: what the attempt left behind; None for what the exception itself carries.
        now: epoch seconds, the start of waits that end at an absolute date. The `date` header of the response outranks
            it. Without either, such dates state no wait.
        sent: what was sent, where *evidence* does not say so.

    Returns:
        The failure. Its message holds no prompt, no output and no key.
    """
    try:
        seen = evidence_of(exc) if evidence is None else replace(evidence, exception=exc)
        seen = seen if sent is None else replace(seen, sent=sent)
        if (
            isinstance(exc, BaseExceptionGroup)
            and not isinstance(exc, errors.AllClientsFailedError)
            and (evidence is None or (evidence.status is None and evidence.body is None))
        ):
            return _of_group(exc, now, seen.sent)
        return classify_evidence(seen, now)
    except Exception:  # noqa: BLE001 - an exception raised here would replace the caller's own
        return _failure(
            Category.UNKNOWN,
            message="an error that cannot be read",
            exception_type=safe_class_name(exc, sent),
        )


def _of_group(group: BaseExceptionGroup[BaseException], now: float | None, sent: SentText | None) -> Failure:
    """Return the failure of the member of *group* that says most.

    A TaskGroup adds the mistakes and the cancelled tasks that one failure leaves behind, in the order of their ends.
    """
    members = list(islice(exceptions.members(group), _MAX_MEMBERS))
    failures = [classify_evidence(replace(evidence_of(member), sent=sent), now) for member in members]
    best = max(failures, key=_tells, default=None)
    if best is None:
        return classify_evidence(replace(evidence_of(group), sent=sent), now)
    return replace(best, exception_type=safe_class_name(group, sent))


def _tells(failure: Failure) -> int:
    """Return how much *failure* says: what a server answered most, what is unknown or merely cancelled least."""
    if failure.category in {Category.UNKNOWN, Category.CANCELLED}:
        return 0 if failure.category is Category.CANCELLED else 1
    if failure.status is not None:
        return 4
    return 2 if failure.category is Category.INVALID_REQUEST else 3


def classify_evidence(evidence: Evidence, now: float | None = None) -> Failure:
    """Classify *evidence*.

    Args:
        evidence: what an attempt left behind, with or without its exception.
        now: epoch seconds, as for `classify`.

    Returns:
        The failure. Its message holds no prompt, no output and no key.
    """
    case = _case(complete(evidence), now)
    verdict = _categorize(case)
    category, code = verdict.category, verdict.code
    rules = CATEGORY_RULES[category]
    exc = case.evidence.exception
    should_retry = _flag(case.evidence.headers.get("x-should-retry"))
    failure = _failure(
        category,
        retry_after=case.delay if rules.honors_retry_after else None,
        status=case.evidence.status,
        provider_code=_provider_code(case, code),
        provider_request_id=request_id_of(case.evidence, case.body),
        message=message_of(category, case.evidence, case.body),
        exception_type="" if exc is None else safe_class_name(exc, case.evidence.sent),
        should_retry=should_retry,
        because=verdict.because,
        starts_cooldown=rules.cooldown is not None and case.status not in _NO_COOLDOWN,
    )
    if should_retry is False or (category is Category.NETWORK and _is_permanent(case)):
        failure = replace(failure, recoverable=False)
    if isinstance(exc, errors.CircuitOpenError | errors.AllClientsFailedError):  # they carry their own wait
        return replace(failure, retry_after=exc.retry_after)
    return failure


def _failure(category: Category, *, message: str, exception_type: str, **fields: object) -> Failure:
    rules = CATEGORY_RULES[category]
    return Failure(
        category=category,
        recoverable=rules.recoverable,
        counts_against_client=rules.counts_as_failure,
        message=message,
        exception_type=exception_type,
        **fields,  # type: ignore[arg-type]  # fields of Failure, passed by this module alone
    )


# --- what is known --------------------------------------------------------------------------------------------------


def _case(evidence: Evidence, now: float | None) -> _Case:
    succeeded = evidence.status is not None and 200 <= evidence.status < 300  # noqa: PLR2004 - RFC 9110, 15.3
    body = unwrap(evidence.body or searchable_text(evidence.exception))
    # botocore writes its code into prose: "An error occurred (ThrottlingException) when calling ...".
    in_body = body.codes
    if not in_body and "Exception" in body.prose:
        in_body = tuple(token for token in codes.tokens_of(body.prose) if token.endswith("Exception"))
    texts = _texts(evidence, body)
    sent = None if succeeded else evidence.status
    stated = sent or body.status or _cloudflare_status(body)
    return _Case(
        evidence=evidence,
        body=body,
        status_of_response=stated,
        status=stated or next(filter(None, map(status_in_text, texts)), None),
        codes=tuple(filter(None, (evidence.headers.get("x-amzn-errortype"), *in_body))),
        texts=texts,
        delay=stated_delay(evidence.headers, body, now, throttled=evidence.status in _THROTTLED),
    )


def _texts(evidence: Evidence, body: ResponseBody) -> tuple[str, ...]:
    """Return the texts that rules read. The text of a completion is the model's and says nothing about a failure."""
    is_answer = body.answer is not None and evidence.status is not None
    texts = body.messages if is_answer else (*body.messages, body.prose)
    return tuple(dict.fromkeys(_within_limit(text for text in texts if text.strip())))


def _within_limit(texts: Iterable[str]) -> Iterator[str]:
    """Yield *texts* on one line each, until together they reach the limit: a body may hold hundreds of messages."""
    room = _HEAD + _TAIL
    for text in texts:
        if room <= 0:
            return
        line = " ".join(without_frames(clip(text, _HEAD, _TAIL)).split())
        room -= len(line)
        yield line


# --- the ranks of evidence ------------------------------------------------------------------------------------------


def _categorize(case: _Case) -> Verdict:
    """Return the category and why. The ranks are those of the module's docstring."""
    exc = case.evidence.exception
    if exc is not None and (category := exceptions.conclusive_category(exc)) is not None:
        return _conclusive(category, "the class of the exception")
    if exceptions.is_unusable_answer(exc):
        return _from_unusable_answer(case)
    no_response = not (case.evidence.body or case.evidence.status)
    if exc is not None and no_response and exceptions.class_outranks_text(exc):
        return _conclusive(_from_class(case) or Category.UNKNOWN, "the class of the exception")
    if case.evidence.configuration:
        return _conclusive(Category.INVALID_REQUEST, "no request could be built")
    if case.evidence.connected is False:
        category = exceptions.category_of_class(exc) if exc is not None else None
        return _conclusive(category or Category.NETWORK, "nothing was sent")
    return _weighed(case)


def _conclusive(category: Category, because: str) -> Verdict:
    return Verdict(category, (because,), None)


def _from_unusable_answer(case: _Case) -> Verdict:
    """Return why an answer cannot be used: its finish reason, else the error that the provider put into a success."""
    category = _finish_category(case)
    if category is None and reports_failure(case.evidence.body):
        return weigh(_votes_of_response(case)) or _conclusive(
            Category.SERVER_ERROR, "the answer reports a failure"
        )
    return _conclusive(category or Category.OUTPUT_INVALID, "an answer that cannot be used")


def _weighed(case: _Case) -> Verdict:
    """Return what all evidence of *case* means together; `unknown` without any."""
    votes = [*_votes_of_response(case), *_votes_of_status(case)]
    if case.status_of_response is None:
        votes += _weak_votes(case)
    return weigh(votes) or _conclusive(Category.UNKNOWN, "no evidence")


def _votes_of_response(case: _Case) -> Iterator[Vote]:
    """Yield what the provider's codes and sentences say."""
    from resilience.failure import meaning  # noqa: PLC0415 - builds its lexicon; `runtime.py` imports it on a thread

    names = (*case.codes, *exceptions.library_class_names(case.evidence.exception))
    hidden = case.status in {401, 403}
    for table, strength in ((codes.DECISIVE, Strength.DECISIVE), (codes.FIRM, Strength.FIRM)):
        found = codes.category_of_codes(names, table)
        # "not found" under 401 or 403 hides whether the model exists from those who may not use it.
        if found is not None and not (
            found[0] is Category.NOT_FOUND and hidden and strength is Strength.FIRM
        ):
            yield Vote(found[0], strength, "a code of the provider", found[1])
    window = codes.names_a_window(case.codes)
    texts = [without_reason_phrase(text, case.status) for text in case.texts]
    yield from meaning.votes_of_texts(texts, case.status, case.delay, window=window)
    tables = codes.DECISIVE, codes.FIRM  # a weak code may be one of several words, as in `Model.AccessDenied`
    unlisted = [code for code in case.codes if codes.category_of_codes([code], *tables) is None]
    yield from meaning.votes_of_codes(unlisted, case.status)
    if case.status_of_response is None or "Error" in case.body.prose:
        yield from meaning.votes_of_class_names(codes.tokens_of(case.body.text))


def _votes_of_status(case: _Case) -> Iterator[Vote]:
    """Yield what the status says, or the status that the body or its text names."""
    if case.status_of_response is not None:
        status = case.status_of_response
        unreachable = _is_gateway_page(status, case.body)
        category = Category.SERVICE_UNAVAILABLE if unreachable else category_of_status(status)
        yield Vote(category, Strength.STATUS, f"status {status}")
    elif case.status is not None:
        yield Vote(
            category_of_status(case.status), Strength.STATUS_IN_TEXT, f"the text names status {case.status}"
        )


def _weak_votes(case: _Case) -> Iterator[Vote]:
    """Yield what general codes, the finish reason, the class and its keywords say, where no server's status is known."""
    weak = codes.category_of_codes(case.codes, codes.WEAK)
    if weak is not None and weak[0] is not Category.CANCELLED:
        yield Vote(weak[0], Strength.WEAK + 0.3, "a general code of the provider", weak[1])
    finish = _finish_category(case)
    if finish is not None:
        yield Vote(finish, Strength.WEAK + 0.2, "the finish reason")
    category = _from_class(case)
    if category is not None:
        of_library = category in _OF_LIBRARIES
        strength = Strength.HINT + 0.6 if of_library else Strength.WEAK + 0.1
        yield Vote(category, strength, "the class or the words of the exception")


def _finish_category(case: _Case) -> Category | None:
    """Return what is wrong with the answer, where one arrived."""
    category = category_of_reason(case.evidence.finish_reason)
    if category is not None or case.body.answer is None:
        return category
    return finish_error(case.body.answer)


def _from_class(case: _Case) -> Category | None:
    """Return what the class of the exception says, then what keywords of its text say.

    Some classes stand for a refused connection and for a silent one: requests' ConnectionError, BAML's transport errors,
    and aiohttp's ClientConnectorError, whose text is the operating system's in its own language. Keywords tell them apart.
    """
    exc = case.evidence.exception
    category = None if exc is None else exceptions.category_of_class(exc)
    words = keywords.category_of_keywords(case.text)
    if category is Category.NETWORK and words is Category.TIMEOUT:
        return Category.TIMEOUT
    if category is not None or words is not None:
        return category or words
    code = codes.category_of_codes(codes.tokens_of(case.body.text), codes.DECISIVE, codes.FIRM, codes.WEAK)
    if code is not None:
        return code[0]
    return None if case.evidence.status is None else Category.NETWORK  # a 200 that is not the protocol


def _is_permanent(case: _Case) -> bool:
    """Return whether a network failure lies in a certificate, which no retry changes."""
    text = f"{case.text} {keywords.normalize(searchable_text(case.evidence.exception))}"
    return keywords.is_permanent(text)


def _is_gateway_page(status: int, body: ResponseBody) -> bool:
    """Return whether a 502 is the page of a gateway that found no server behind it. Providers themselves send JSON."""
    return status == HTTPStatus.BAD_GATEWAY and bool(body.prose) and not body.objects


def _cloudflare_status(body: ResponseBody) -> int | None:
    """Return the status of Cloudflare's short page, which is the line "error code: 522" and nothing else."""
    for line in (*body.messages, body.prose.strip()):
        number = line.removeprefix(_CLOUDFLARE_LINE)
        if number != line and len(number) == len("522") and number.isascii() and number.isdigit():
            return int(number)
    return None


# --- fields of the failure ------------------------------------------------------------------------------------------


def _flag(value: str | None) -> bool | None:
    return {"true": True, "false": False}.get((value or "").strip().lower())


def _provider_code(case: _Case, decisive: str | None) -> str | None:
    """Return the code that decided, else the first one that is more than a number or a word for "error".

    Without a response a token is a word of an exception's text, and may be the prompt's.
    """
    if decisive not in case.codes and not (case.evidence.body or case.status):
        return None
    telling = (code for code in case.codes if code.lower() not in _NO_CODES and not code.isdigit())
    first = (decisive,) if decisive is not None and decisive in case.codes else ()
    return safe_code((*first, *telling), case.evidence.sent)
