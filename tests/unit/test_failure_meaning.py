# ruff: noqa: RUF001 - the signs of other alphabets are meant
"""Errors understood by meaning: the lexicon, rules over concepts, statuses told in text, and how evidence is weighed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.classification import UNSEEN, corpus, evidence, score, wilson
from benchmarks.classification_folds import knowing
from resilience.failure import ErrorCategory as Kind
from resilience.failure import Evidence, Failure, OwnRules, classify, classify_evidence
from resilience.failure.concepts import Concept
from resilience.failure.lexicon import UNSPACED, WORDS
from resilience.failure.meaning import RULES
from resilience.failure.reading import read
from resilience.failure.text_status import status_in_text
from resilience.failure.weighing import Strength, Vote, weigh

BATCHES = corpus(UNSEEN)


def test_errors_of_all_batches() -> None:
    """Every undebated error that was once unseen is understood but one, and every wait that one states is read.

    The one has lost the blanks around the word that matters: "may containinappropriate content".
    """
    result = score(BATCHES)

    assert (result.undebated.right, result.undebated.of) == (588, 589)
    assert (result.billing_undebated.of, result.billing_undebated.percent) == (273, 100.0)
    assert result.delays.percent == 100.0


@pytest.mark.parametrize(
    ("status", "text", "kind"),
    [
        (
            None,
            "502 upstream failed: access to this model is denied, you are not authorized",
            Kind.PERMISSION,
        ),
        (None, "when calling the Converse operation: the model name is invalid", Kind.NOT_FOUND),
        (
            None,
            "[x] Rate Limit Error, Error code: 429 - {'error': {'message': 'You exceeded your current quo",
            Kind.RATE_LIMIT,
        ),
        (
            None,
            "[x] Rate Limit Error, Error code: 429 - {'error': {'message': 'You exceeded your current quota",
            Kind.QUOTA_EXHAUSTED,
        ),
        (None, "ApiError(message='This engine does not exist', param=None, http_status=404)", Kind.NOT_FOUND),
        (None, "You have hit your limit · resets at 7pm", Kind.QUOTA_EXHAUSTED),
        (None, "the scheduler has errored", Kind.SERVER_ERROR),
        (None, "呼び出しに失敗しました（503）", Kind.SERVICE_UNAVAILABLE),
        (None, "Request failed with status code 500: please report it", Kind.SERVER_ERROR),
        (400, "{'error': '/v1/completions: Invalid model name: see /v1/models'}", Kind.NOT_FOUND),
        (
            429,
            "Quota exceeded for metric: api.example.com/input_token_count, check your plan, limit: 0",
            Kind.QUOTA_EXHAUSTED,
        ),
        (None, '{"detail": {"msg": "cannot read it", "type": "bad input"}}', Kind.INVALID_REQUEST),
        (None, "https://api.example.com/v1/chat not found, verify your settings", Kind.NOT_FOUND),
    ],
)
def test_frames_around_a_sentence(status: int | None, text: str, kind: Kind) -> None:
    """A gateway's 502, the label of a field and a class put into words are no part of what the sentence says."""
    assert classify_evidence(Evidence(status=status, body=text)).category is kind


def test_every_collected_error_has_a_source() -> None:
    """Each error names the thread or the page it comes from, and no two are the same."""
    texts = [(case["status"], case["body"], case["transport_text"]) for case in BATCHES]

    assert all(case["source"] for case in BATCHES)
    assert len(set(texts)) == len(texts)


# Paraphrases written for these tests, in the languages of the lexicon. They show that a rule is alive, not how good it is.
PARAPHRASES = [
    (402, "Input tokens exceeded: 9000 > 4000. Ask for a higher monthly limit", Kind.QUOTA_EXHAUSTED),
    (429, "You have reached your weekly usage limit", Kind.QUOTA_EXHAUSTED),
    (400, "Your prepaid balance is depleted", Kind.QUOTA_EXHAUSTED),
    (403, "Your organization's spending budget has been reached", Kind.QUOTA_EXHAUSTED),
    (429, '{"code":"invoice_unpaid"}', Kind.QUOTA_EXHAUSTED),
    (403, '{"code":"ZeroBalance","message":"see dashboard"}', Kind.QUOTA_EXHAUSTED),
    (429, "Le solde de votre compte est insuffisant", Kind.QUOTA_EXHAUSTED),
    (429, "Ihr Guthaben ist aufgebraucht", Kind.QUOTA_EXHAUSTED),
    (429, "Saldo insuficiente en su cuenta", Kind.QUOTA_EXHAUSTED),
    (429, "クレジット残高が不足しています", Kind.QUOTA_EXHAUSTED),
    (400, "您的余额已用完", Kind.QUOTA_EXHAUSTED),
    (429, "잔액이 부족합니다", Kind.QUOTA_EXHAUSTED),
    (400, '{"error":{"code":"err_rate_limited","message":"chill"}}', Kind.RATE_LIMIT),
    (429, "Vous avez dépassé la limite de requêtes par minute", Kind.RATE_LIMIT),
    (429, "Zu viele Anfragen, bitte später erneut versuchen", Kind.RATE_LIMIT),
    (429, "Rate limited. Please reduce the prompt length or upgrade your plan.", Kind.RATE_LIMIT),
    (400, "The number of input tokens (9000) exceeds the limit (8192)", Kind.CONTEXT_LENGTH),
    (400, "Prompt has 9012 tokens but the model accepts at most 8192", Kind.CONTEXT_LENGTH),
    (400, "La requête est trop longue pour ce modèle", Kind.CONTEXT_LENGTH),
    (400, "Die Eingabe ist zu lang", Kind.CONTEXT_LENGTH),
    (400, "输入内容超过模型最大长度限制", Kind.CONTEXT_LENGTH),
    (400, "max_tokens (9000) is larger than the maximum allowed (4096) output tokens", Kind.INVALID_REQUEST),
    (500, "Deployment 'chat' could not be found", Kind.NOT_FOUND),
    (404, "Das Modell wurde nicht gefunden", Kind.NOT_FOUND),
    (400, "Model is Cold", Kind.SERVICE_UNAVAILABLE),
    (400, "Function id '0': DEGRADED function cannot be invoked", Kind.SERVICE_UNAVAILABLE),
    (429, "Server at capacity", Kind.OVERLOADED),
    (503, "サーバーが混雑しています", Kind.OVERLOADED),
    (400, "Your input was rejected by the moderation layer", Kind.CONTENT_POLICY),
    (446, "Guardrail triggered: unsafe prompt", Kind.CONTENT_POLICY),
    (403, "Country not allowed", Kind.PERMISSION),
    (400, "API key missing", Kind.AUTHENTICATION),
    (503, "param n is not supported", Kind.INVALID_REQUEST),
    (504, "请求超时", Kind.TIMEOUT),
    # Words that are no prose: names of models, headers, methods and tags.
    (403, "No access to the model text-moderation-007 for this project", Kind.PERMISSION),
    (403, "<html><head><title>Just a moment</title><meta Content-Type: text/html", Kind.PERMISSION),
    (400, "messages: text content blocks must be non-empty", Kind.INVALID_REQUEST),
    # A negation takes away that something is spent; a setting of an organization is no rule about content.
    (504, "A timeout occurred. Your budget has NOT been consumed.", Kind.TIMEOUT),
    (403, "This needs an organization policy that is not enabled", Kind.PERMISSION),
    (403, "API access is paused for this organization", Kind.PERMISSION),
    # Synonyms, each of its own concept.
    (400, "The allotted expenditure of this key is used up", Kind.QUOTA_EXHAUSTED),
    (403, "Your licence has lapsed", Kind.QUOTA_EXHAUSTED),
    (403, "Your subscription is inactive", Kind.QUOTA_EXHAUSTED),
    (403, "The account's monthly spend has been capped", Kind.QUOTA_EXHAUSTED),
    (429, "You are on a trial, which is limited to 500 calls / month. Upgrade for higher rate limits", Kind.QUOTA_EXHAUSTED),
    (None, "The account has reached its set limit and the service has been suspended", Kind.QUOTA_EXHAUSTED),
    (400, "Requests are sent too rapidly", Kind.RATE_LIMIT),
    (None, "Permission denied: the rate limit of this model was reached", Kind.RATE_LIMIT),
    (400, "The text is 9000 tokens long, 8192 are read", Kind.CONTEXT_LENGTH),
    (400, "Tokens of image and text exceed the limit of message tokens", Kind.CONTEXT_LENGTH),
    (400, "That model is not in our catalogue", Kind.NOT_FOUND),
    (400, "This is a non-serverless model, you are unable to access it", Kind.NOT_FOUND),
    (403, "The key was reported as leaked", Kind.AUTHENTICATION),
    (401, "This team is not allowed to access the model", Kind.PERMISSION),
    (400, "Prompt injection found", Kind.CONTENT_POLICY),
    (446, "The guardrail check failed", Kind.CONTENT_POLICY),
    (503, "No GPUs are available", Kind.OVERLOADED),
    (429, "The model is not ready", Kind.SERVICE_UNAVAILABLE),
    (500, "The answer was not finished within 60 seconds", Kind.TIMEOUT),
    (400, "The thinking budget 12 is invalid", Kind.INVALID_REQUEST),
    (400, "Malformed input request: required key [x] not found", Kind.INVALID_REQUEST),
    (500, "System message must come first", Kind.INVALID_REQUEST),
    (None, "Invalid URL", Kind.INVALID_REQUEST),
    (None, "max number of documents is 9", Kind.INVALID_REQUEST),
    # What gateways write without a status.
    (None, "Insufficient permissions", Kind.PERMISSION),
    (403, "IP banned: too many failed attempts", Kind.PERMISSION),
    (None, "Entity too large", Kind.CONTEXT_LENGTH),
    (None, "All credentials are cooling down", Kind.RATE_LIMIT),
    (None, "Auth required", Kind.AUTHENTICATION),
    (None, "Upstream failed", Kind.SERVER_ERROR),
    (None, "No accounts available", Kind.SERVICE_UNAVAILABLE),
    (None, "QuotaLimit", Kind.QUOTA_EXHAUSTED),
    (None, "`top_p` must be positive", Kind.INVALID_REQUEST),
    (None, "Invalid image", Kind.INVALID_REQUEST),
    # A plan that has ended is billing, a wrong id of one is not.
    (403, "Your subscription was cancelled", Kind.QUOTA_EXHAUSTED),
    (400, "Invalid subscription id", Kind.INVALID_REQUEST),
    (401, "该令牌已过期", Kind.AUTHENTICATION),
    # Codes of which a table has only a part, the names of classes, and templates that are no bodies.
    (400, '{"code":"Model.AccessDenied"}', Kind.PERMISSION),
    (500, '{"code":"under_maintenance"}', Kind.SERVICE_UNAVAILABLE),
    (None, "OurModelNotFoundError: x", Kind.NOT_FOUND),
    (500, '{"message":"While at row 3: {{- raise_exception( Jinja Exception: x"}', Kind.INVALID_REQUEST),
    # The reason phrase of a status is the status once more.
    (None, "HTTP 429 Too Many Requests: you have reached the limit of the free trial", Kind.QUOTA_EXHAUSTED),
    # Negations, possessives and elisions in other languages.
    (400, "Le modèle n'existe pas", Kind.NOT_FOUND),
    (400, "Ihre Anfrage verstößt gegen unsere Inhaltsrichtlinien", Kind.CONTENT_POLICY),
    (400, "Su solicitud infringe nuestra política", Kind.CONTENT_POLICY),
    (400, "Слишком длинный запрос", Kind.CONTEXT_LENGTH),
    (429, "Месячная квота исчерпана", Kind.QUOTA_EXHAUSTED),
    (400, "입력이 너무 깁니다", Kind.CONTEXT_LENGTH),
    (None, "モデルが有効化されていない", Kind.PERMISSION),
    (None, "并发数过高，请降低并发", Kind.RATE_LIMIT),
    (400, "内容审核未通过", Kind.CONTENT_POLICY),
    # Numbers without a word for the limit.
    (400, "400 Prompt has 9000 tokens, but the configured context size is 8192 tokens", Kind.CONTEXT_LENGTH),
    (400, "Function calling is not enabled for this model", Kind.INVALID_REQUEST),
    (400, "Extra inputs are not permitted", Kind.INVALID_REQUEST),
    # Words in another sense: a schema is violated, an effort unsupported, a client waits, an allowance is counted in characters.
    (None, "The arguments hold 3 schema violations", Kind.INVALID_REQUEST),
    (None, "Effort low is unsupported by model qwen-max", Kind.INVALID_REQUEST),
    (None, "Too many requests for this endpoint. Sleeping and retrying", Kind.RATE_LIMIT),
    (401, "Your quota is passed: 7 characters remaining, 400 characters are required", Kind.QUOTA_EXHAUSTED),
    (400, "No deployment specified in the body", Kind.INVALID_REQUEST),
    (None, "seed and top_k are mutually exclusive", Kind.INVALID_REQUEST),
    (None, "qwen-vl is not valid for chat completions", Kind.INVALID_REQUEST),
    (403, "BillOverdueError: 403 Forbidden", Kind.QUOTA_EXHAUSTED),
    (403, '{"code":"sensitive_words_found"}', Kind.CONTENT_POLICY),
    (None, "Failed to refresh access, please re-authorize", Kind.AUTHENTICATION),
    (None, "You ran out of messages", Kind.QUOTA_EXHAUSTED),
]  # fmt: skip


@pytest.mark.parametrize(("status", "text", "kind"), PARAPHRASES)
def test_paraphrases(status: int, text: str, kind: Kind) -> None:
    """The same fault in other words, in another language or under another status has the same category."""
    assert kind == classify_evidence(Evidence(status=status, body=text)).category


FRAMES = """Error: {}
    at OpenAI.makeStatusError (/app/node_modules/openai/core.js:302:33)
    at async ContentGenerator.generateContentStream (file:///x/gemini.js:153931:17)"""
TRACEBACK = """Traceback (most recent call last):
  File "/app/main.py", line 37, in <module>
    response = client.chat.completions.create(model=model, messages=messages, max_tokens=100)
{}"""
SURROUNDINGS = [
    FRAMES,
    TRACEBACK,
    "API Error: {}. This is usually temporary — try again in a moment. If it persists, check your gateway.",
    "❌ API call failed after 3 retries. 📝 Error: {} ⏱️ Elapsed: 30.37s Context: 2 msgs, ~4,042 tokens",
    "litellm.APIError: OpenAIException - {}. Received Model Group=x Available Model Group Fallbacks=None",
]


@pytest.mark.parametrize("surroundings", SURROUNDINGS)
def test_what_clients_write_around_an_error_does_not_change_it(surroundings: str) -> None:
    """Stack traces, command lines and gateways add words of their own; 99 of 100 errors keep their category all the same."""
    bodies = [(case["status"], case["body"]) for case in BATCHES if case["body"] and not case["debatable"]]
    kept = [
        classify_evidence(Evidence(status=status, body=body)).category
        is classify_evidence(Evidence(status=status, body=surroundings.replace("{}", body))).category
        for status, body in bodies[::5]
    ]

    assert len(kept) >= 50
    assert sum(kept) / len(kept) >= 0.98


STATUSES = [
    ("Invalid request (400)", 400),
    ("401 Unauthorized", 401),
    ("HTTP 403", 403),
    ("HTTP/1.1 503 Service Unavailable", 503),
    ("Request failed with status code: 429", 429),
    ("Error code: 503 - {'x': 1}", 503),
    ("Client error '429 Too Many Requests' for url 'https://x/400'", 429),
    ("SomeError: 502: upstream is gone", 502),
    ("报错 429", 429),
    ("proxy failed; cause: 429 slow down", 429),
    ("OpenAIException - 429 Provider returned error", 429),
    ("code=429, message=slow", 429),
    ("the status code of 429", 429),
    ("status is 401", 401),
    ("request failed: 500", 500),
    ("the server replied with a 503", 503),
    ("it was a 429 error", 429),
    ("a 503 response", 503),
    ("Fehler 503", 503),
    ("código 429", 429),
    ("오류 503", 503),
    ("a list of 400 errors and 500 responses", None),
    ("https://x.y/v1?code=404", None),
    ("order 404 items shipped", None),
    ("limit is 429 tokens", None),
    ("took 503 ms, then 502s", None),
    ("see https://example.com/401/x", None),
    ("id req-403-x, trace 0x500", None),
    ('the user wrote "HTTP 403 is fun" to us', None),
    ("costs $ 402.50 or 4.29", None),
    ("port 8429 of 10.0.0.503", None),
    ("error 1020", None),
]


@pytest.mark.parametrize(("text", "status"), STATUSES)
def test_statuses_in_texts(text: str, status: int | None) -> None:
    """A number is a status where the text calls it one, and not in an id, an address, an amount or a quotation."""
    assert status == status_in_text(text)


PLAIN = [
    ("Invalid request (400)", Kind.INVALID_REQUEST),
    ("400 Bad Request", Kind.INVALID_REQUEST),
    ("Authentication failed (401)", Kind.AUTHENTICATION),
    ("Forbidden", Kind.PERMISSION),
    ("HTTP 429", Kind.RATE_LIMIT),
    ("invalid parameter: x", Kind.INVALID_REQUEST),
    ("Network connection failed", Kind.NETWORK),
    ("Temporary connection issue", Kind.NETWORK),
    ("order 404 items shipped", Kind.UNKNOWN),
]


@pytest.mark.parametrize(("text", "kind"), PLAIN)
def test_plain_exceptions(text: str, kind: Kind) -> None:
    """An exception that has nothing but a text is understood by its text."""
    assert kind == classify(Exception(text)).category


def test_a_class_outranks_a_text() -> None:
    """A time-out, a broken connection or a mistake of the caller is what its class says, whatever its text names."""
    assert classify(TimeoutError("HTTP 400")).category is Kind.TIMEOUT
    assert classify(ConnectionError("401 Unauthorized")).category is Kind.NETWORK
    assert classify(ValueError("rate limit exceeded (429)")).category is Kind.INVALID_REQUEST


class RefusedError(Exception):
    """An exception with a status, as SDKs raise it."""

    status_code = 429


GROUPS = [
    ([ValueError("x"), RefusedError()], Kind.RATE_LIMIT),
    ([Exception("?"), TimeoutError()], Kind.TIMEOUT),
    ([ValueError("x"), ConnectionResetError()], Kind.NETWORK),
    ([Exception("?"), ExceptionGroup("inner", [Exception("?"), RefusedError()])], Kind.RATE_LIMIT),
    ([Exception("?"), Exception("!")], Kind.UNKNOWN),
]


@pytest.mark.parametrize(("members", "kind"), GROUPS)
def test_groups_are_judged_by_their_most_telling_member(members: list[Exception], kind: Kind) -> None:
    """What a server answered says most, then a transport fault, then a mistake; the order does not matter."""
    for ordered in (members, members[::-1]):
        failure = classify(ExceptionGroup("g", ordered))

        assert (kind, "ExceptionGroup") == (failure.category, failure.exception_type)


def test_addresses_and_conditions_state_no_facts() -> None:
    """The words of a URL and of a condition take no part."""
    assert read("See https://example.com/settings/billing/balance-exhausted") == []
    assert classify_evidence(
        Evidence(status=400, body="Bad value. Check whether your balance is depleted.")
    ).category is (Kind.INVALID_REQUEST)


def test_reasons_name_no_word_of_the_response() -> None:
    """`Failure.because` says which kinds of evidence decided, with weights, and what spoke against it."""
    failure = classify_evidence(Evidence(status=429, body="Your prepaid balance is depleted, zx9canary"))

    assert failure.because[0] == "money and spent/lacking (9)"
    assert failure.because[-1] == "against it: status 429 (4) for rate_limit"
    assert "canary" not in " ".join(failure.because)


@given(
    st.sets(st.sampled_from(list(Concept)), max_size=12),
    st.sets(st.sampled_from(list(Concept)), max_size=3),
    st.sampled_from([None, 400, 401, 403, 404, 429, 500, 503]),
)
def test_all_rules_at_once_as_each_for_itself(
    concepts: set[Concept], elsewhere: set[Concept], status: int | None
) -> None:
    """The rules that are found together are those that match when each is tested for itself."""
    bits = sum(concepts)
    text = bits | sum(elsewhere - concepts)
    expected = [
        (rule.category, rule.strength, rule.because)
        for rule in RULES.rules
        if all(bits & group for group in rule.groups)
        and not bits & rule.without
        and not text & rule.nowhere
        and (rule.statuses is None or status in rule.statuses)
    ]

    assert [
        (vote.category, vote.strength, vote.because) for vote in RULES.votes(bits, text, status)
    ] == expected


def test_the_strongest_evidence_decides() -> None:
    """One strong vote outweighs many weak ones; agreement decides between equals; without votes there is no verdict."""
    strong = Vote(Kind.QUOTA_EXHAUSTED, Strength.CERTAIN, "a")
    weak = [Vote(Kind.RATE_LIMIT, Strength.LIKELY, str(number)) for number in range(20)]
    verdict = weigh([*weak, strong])

    assert verdict is not None
    assert verdict.category is Kind.QUOTA_EXHAUSTED
    assert weigh([]) is None


def test_the_lexicon_is_clean() -> None:
    """Every entry is one word in lower case with a meaning, and no unspaced word is a sentence."""
    assert all(word == word.lower() and " " not in word for word in WORDS)
    assert all(len(word) <= 10 and bits for word, bits in UNSPACED.items())


DELAYS = [
    ("rate limited, try once more in 4 seconds", 4.0),
    ("Trop de requêtes, patientez 15 secondes", 15.0),
    ("Rate limit. We resume in 00:00:38", 38.0),
    ("Rate limit. Resets in: 30m0s", 1800.0),
    ("Request limit reached. Please retry after one minute.", 60.0),
    ("Too many requests: 5 requests a minute are allowed", None),
    ('{"error":"rate limit","eta_seconds":12}', 12.0),
    ("Rate limited, retry in 5.03:23:11", 444_191.0),
    ("请求过于频繁，请在 30 秒后重试", 30.0),
    ("リクエストが多すぎます。20秒後に再試行", 20.0),
    ("Zu viele Anfragen. Bitte warten Sie 45 Sekunden", 45.0),
    ("Demasiadas solicitudes. Espere 2 minutos", 120.0),
    ("Слишком много запросов, повторите через 30 секунд", 30.0),
    ("요청이 너무 많습니다. 20초 후 다시 시도하세요", 20.0),
    ("حد المعدل، إعادة المحاولة خلال 40 ثواني", 40.0),
    ("Too many requests, attendance was 15 s", None),
]  # fmt: skip


@pytest.mark.parametrize(("text", "delay"), DELAYS)
def test_stated_delays_in_other_words(text: str, delay: float | None) -> None:
    """A wait is read in the languages that providers answer in."""
    assert delay == classify_evidence(Evidence(status=429, body=text)).retry_after


def test_a_long_wait_is_an_allowance() -> None:
    """The same sentence with a wait of seconds is pace, with a wait of days it is an allowance that is used up."""
    short = classify_evidence(Evidence(status=429, body="The quota is exhausted (reset after 20s)"))
    long = classify_evidence(Evidence(status=429, body="The quota is exhausted (reset after 140h)"))

    assert (short.category, long.category) == (Kind.RATE_LIMIT, Kind.QUOTA_EXHAUSTED)


def own(rule: object, errors: list[Exception]) -> OwnRules:
    return OwnRules(rule, errors.append)  # type: ignore[arg-type]  # some of these rules are wrong on purpose


def test_a_projects_own_rule_has_the_last_word() -> None:
    """A category that a project's rule returns replaces ours, with everything that follows from it."""
    rules = own(lambda exc, failure: "overloaded" if "teapot" in str(exc) else None, [])
    failure = classify(Exception("teapot"))

    assert rules.apply(Exception("teapot"), failure) == Failure(
        category=Kind.OVERLOADED,
        recoverable=True,
        counts_against_client=True,
        message=failure.message,
        exception_type="Exception",
        because=("the project's own rule", *failure.because),
    )
    assert rules.apply(Exception("other"), failure) is failure


@pytest.mark.parametrize("rule", [lambda exc, failure: 1 / 0, lambda exc, failure: "nonsense"])
def test_a_rule_that_fails_harms_nothing(rule: object) -> None:
    """A rule that raises, or returns no category, changes nothing and is reported once."""
    reported: list[Exception] = []
    rules, failure = own(rule, reported), classify(Exception("x"))

    assert [rules.apply(Exception("x"), failure) for _ in range(3)] == [failure] * 3
    assert len(reported) == 1


def test_a_rule_is_not_asked_about_cancellations() -> None:
    """What the caller itself ended is no error of a client."""
    asked: list[object] = []
    failure = classify(KeyboardInterrupt())

    assert own(lambda exc, failure: asked.append(exc), []).apply(KeyboardInterrupt(), failure) is failure
    assert asked == []


def test_the_benchmark_forgets_what_only_judged_errors_use() -> None:
    """Judged with a vocabulary of nothing, an error is what its status says; afterwards the rules are whole again."""
    case = next(case for case in BATCHES if case["status"] == 402)
    money = Evidence(status=400, body="Your prepaid balance is depleted")
    with knowing([]):
        assert classify_evidence(money).category is Kind.INVALID_REQUEST
        assert classify_evidence(evidence(case)).category is Kind.QUOTA_EXHAUSTED

    assert classify_evidence(money).category is Kind.QUOTA_EXHAUSTED


def test_wilson_intervals() -> None:
    """The interval of 10 of 10 reaches down to 72 %, as in the tables."""
    low, high = wilson(10, 10)

    assert (round(low, 1), round(high, 1)) == (72.2, 100.0)
