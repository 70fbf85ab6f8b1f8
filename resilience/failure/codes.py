"""Tables of codes: what a provider's code, an error type or an exception's class name means.

A code is folded before it is looked up, so `rate_limit_error`, `RateLimitError` and `rateLimitError` are one entry. The
tables have three ranks. *Decisive* codes outrank any status, because providers send them with wrong ones. *Firm* codes
outrank a status too, but a sentence outranks them: Groq calls a request that can never fit `rate_limit_exceeded`. *Weak*
codes count only where no status is known; most are class names of libraries.

These are codes of *errors*. Some words are finish reasons as well and mean something else there: an error
`model_context_window_exceeded` refuses a request that is too long, the finish reason of that name cuts an answer. The
table of finish reasons is `finish_reasons.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from resilience.failure.body import fold
from resilience.failure.remembered import ByWord, by_text
from resilience.failure.taxonomy import ErrorCategory as Category

_TOKEN = re.compile(r"[A-Za-z_]{6,60}")
_MAX_TOKENS = 400


def _table(codes: Mapping[Category, str]) -> Mapping[str, Category]:
    return MappingProxyType(
        {fold(code): category for category, listed in codes.items() for code in listed.split()}
    )


DECISIVE = _table(
    {
        # OpenAI's four billing codes, its older ones, Codex; Anthropic's spend limit and 402; DeepSeek; Moonshot; LiteLLM;
        # Google's ErrorInfo reasons; Alibaba and Volcano accounts in arrears; Hugging Face's router.
        Category.QUOTA_EXHAUSTED: """
            insufficient_quota credit_balance_exhausted organization_spend_limit_exceeded project_spend_limit_exceeded
            organization_usage_limit_exceeded billing_not_active billing_hard_limit_reached usage_limit_reached
            usage_not_included enforced_spend_limit_reached billing_error insufficient_balance insufficient_credits
            insufficient_credit insufficient_funds not_enough_balance exceeded_current_quota_error budget_exceeded
            BudgetExceededError ExceededBudget payment_required PaymentRequiredError QUOTA_EXHAUSTED BILLING_DISABLED
            INSUFFICIENT_G1_CREDITS_BALANCE Arrearage AccountOverdueError AllocationQuota.FreeTierOnly out_of_credits
            credits_exhausted MONTHLY_REQUEST_COUNT insufficient_balance_error token_quota_reached ResourcePackExhausted
            """,
        # OpenAI, llama.cpp, LiteLLM, Anthropic 413.
        Category.CONTEXT_LENGTH: """
            context_length_exceeded exceed_context_size_error ContextWindowExceededError context_window_exceeded
            string_above_max_length request_too_large RequestTooLargeError model_context_window_exceeded prompt_too_long
            input_too_long model_max_prompt_tokens_exceeded tokens_limit_reached ContextLengthExceededError ContextOverflowError
            """,
        # OpenAI, Azure, Google's block and finish reasons, Alibaba, LiteLLM.
        Category.CONTENT_POLICY: """
            content_filter ResponsibleAIPolicyViolation content_policy_violation ContentPolicyViolationError invalid_prompt
            PROHIBITED_CONTENT SAFETY BLOCKLIST SPII RECITATION IMAGE_SAFETY data_inspection_failed DataInspectionFailed
            moderation_blocked content_moderation content_filtered guardrail_intervened ContentFilterFinishReasonError
            BlockedPromptException StopCandidateException sensitive_content sensitive_words_detected
            SensitiveContentDetected
            """,
        # Anthropic, OpenAI's Responses stream, Moonshot, Code Assist, Groq flex (498), Mistral's tiers.
        Category.OVERLOADED: """
            overloaded_error OverloadedError overloaded server_is_overloaded server_overloaded engine_overloaded_error
            engine_overloaded model_overloaded MODEL_CAPACITY_EXHAUSTED capacity_exceeded service_tier_capacity_exceeded
            server_busy no_capacity queue_exceeded
            """,
        Category.OUTPUT_TRUNCATED: "LengthFinishReasonError IncompleteOutputException max_output_tokens",
    }
)

FIRM = _table(
    {
        # AWS sends throttling as 400 or in a stream without a status; Google's older reasons come under 403.
        Category.RATE_LIMIT: """
            ThrottlingException Throttling ThrottledException throttling_error TooManyRequestsException
            RequestLimitExceeded rate_limit_exceeded rate_limit_error rate_limit_reached_error rate_limited
            userRateLimitExceeded RATE_LIMIT_EXCEEDED RESOURCE_EXHAUSTED slow_down too_many_requests
            LimitExceededException ProvisionedThroughputExceededException RateLimitReached limit_burst_rate
            """,
        # AWS and Google send 400 or 403 where others send 401.
        Category.AUTHENTICATION: """
            invalid_api_key wrong_api_key API_KEY_INVALID API_KEY_EXPIRED incorrect_api_key ExpiredTokenException ExpiredToken
            UnrecognizedClientException InvalidSignatureException IncompleteSignatureException InvalidClientTokenId
            MissingAuthenticationTokenException InvalidIdentityTokenException SignatureDoesNotMatch
            ACCESS_TOKEN_EXPIRED CREDENTIALS_MISSING ACCESS_TOKEN_TYPE_UNSUPPORTED authentication_error
            invalid_authentication_error UNAUTHENTICATED token_expired token_invalidated account_deactivated NoCredentialsError PartialCredentialsError TokenRetrievalError
            """,
        # LiteLLM sends 401 and Groq 400 where others send 403.
        Category.PERMISSION: """
            unsupported_country_region_territory IAM_PERMISSION_DENIED AccessDeniedException UnauthorizedOperation SERVICE_DISABLED
            key_model_access_denied team_model_access_denied organization_restricted
            """,
        Category.NOT_FOUND: """
            DeploymentNotFound model_not_found ModelNotFoundError model_decommissioned ResourceNotFoundException
            model_not_available model_not_supported ModelNotOpen invalid_model RESOURCE_DOES_NOT_EXIST
            """,
        # AWS, llama.cpp, OpenRouter's stream chunks.
        Category.SERVICE_UNAVAILABLE: """
            ServiceUnavailableException ModelNotReadyException provider_unavailable unavailable_error model_loading
            """,
        Category.TIMEOUT: "ModelTimeoutException DEADLINE_EXCEEDED",
        Category.QUOTA_EXHAUSTED: "ServiceQuotaExceededException",
    }
)

# Words that a provider uses for several faults (`server_error`, `timeout`), and class names of SDKs and HTTP libraries: openai,
# anthropic, google, botocore, httpx, requests, aiohttp, urllib3, undici, LangChain, Instructor. A status says more than they do.
WEAK = _table(
    {
        Category.RATE_LIMIT: "RateLimitError TooManyRequests TooManyRequestsError ResourceExhausted RouterRateLimitError "
        "RouterRateLimitErrorBasic ThrottlingError",
        Category.AUTHENTICATION: "AuthenticationError Unauthenticated Unauthorized UnauthorizedError invalid_token "
        "RefreshError DefaultCredentialsError",
        Category.PERMISSION: "PermissionDeniedError PermissionDenied permission_error forbidden ForbiddenError "
        "request_forbidden Forbidden AccessDenied",
        Category.NOT_FOUND: "NotFoundError not_found_error not_found NotFound",
        Category.SERVICE_UNAVAILABLE: "ServiceUnavailableError ServiceUnavailable service_unavailable UNAVAILABLE BadGateway "
        "BadGatewayError service_unavailable_error",
        Category.SERVER_ERROR: "server_error InternalServerError InternalServerException internal_server_error api_error "
        "InternalFailure INTERNAL internal_error ModelErrorException ModelStreamErrorException EngineDeadError",
        Category.INVALID_REQUEST: "invalid_request_error InvalidRequestError BadRequestError BadRequest bad_request "
        "ValidationException UnprocessableEntityError UnprocessableEntity INVALID_ARGUMENT InvalidArgument "
        "FAILED_PRECONDITION FailedPrecondition UnsupportedParamsError ParamValidationError UnsupportedProtocol InvalidURL "
        "MissingSchema InvalidSchema BamlInvalidArgumentError",
        Category.TIMEOUT: "timeout timeout_error TimeoutError TimeoutException ReadTimeout ConnectTimeout WriteTimeout "
        "PoolTimeout Timeout APITimeoutError ServerTimeoutError ConnectionTimeoutError SocketTimeoutError ReadTimeoutError "
        "ConnectTimeoutError ConnectTimeoutError HeadersTimeoutError BodyTimeoutError DeadlineExceeded "
        "UND_ERR_HEADERS_TIMEOUT UND_ERR_BODY_TIMEOUT UND_ERR_CONNECT_TIMEOUT request_timeout GatewayTimeout "
        "BamlTimeoutError RetryError",
        Category.NETWORK: "ConnectError ReadError WriteError CloseError NetworkError ProtocolError RemoteProtocolError "
        "LocalProtocolError TransportError ProxyError DecodingError APIConnectionError ConnectionError "
        "ConnectionResetError ConnectionRefusedError ConnectionAbortedError BrokenPipeError ClientConnectorError "
        "ClientConnectorDNSError ClientConnectionError ClientOSError ServerDisconnectedError ServerConnectionError "
        "ClientPayloadError ClientConnectorSSLError ClientConnectorCertificateError ClientSSLError ChunkedEncodingError "
        "ContentDecodingError SSLError SSLEOFError SSLCertVerificationError IncompleteRead NewConnectionError "
        "MaxRetryError NameResolutionError EndpointConnectionError ConnectionClosedError HTTPClientError "
        "APIResponseValidationError JSONDecodeError ContentTypeError gaierror herror BamlClientError URLError "
        "RemoteDisconnected UND_ERR_SOCKET ECONNREFUSED ECONNRESET ENOTFOUND EAI_AGAIN",
        Category.OUTPUT_INVALID: "BamlValidationError OutputParserException InstructorRetryException UnexpectedModelBehavior",
        Category.CONTENT_POLICY: "ContentFilterError",
        Category.CANCELLED: "CancelledError BamlAbortError APIUserAbortError AbortError",
    }
)


ALL = (DECISIVE, FIRM, WEAK)


def category_of_codes(codes: Iterable[str], *tables: Mapping[str, Category]) -> tuple[Category, str] | None:
    """Find the first of *codes* that the first matching table has.

    Args:
        codes: codes in any spelling, the most telling first.
        *tables: tables of this module, the highest rank first.

    Returns:
        The category and the code; None if no table has any of them.
    """
    folded = [(key, code) for code in codes for key in _KEYS[code]]
    return next(((table[key], code) for table in tables for key, code in folded if key in table), None)


def names_a_window(codes: Iterable[str]) -> bool:
    """Return whether a code is the name of a quota per minute or per day.

    Google names the window in its quotas: `GenerateRequestsPerMinutePerProjectPerModel-FreeTier`.
    """
    return any(window in fold(code) for code in codes for window in ("perminute", "perday"))


def _parts(code: str) -> tuple[str, ...]:
    """Return *code* and its parts before and behind the dots.

    Alibaba and Tencent put the telling part at either end: `Throttling.RateQuota`, `InternalError.Algo.DataInspectionFailed`.
    """
    parts = code.split(".")
    return (code, parts[-1], parts[0]) if len(parts) > 1 else (code,)


_KEYS = ByWord(lambda code: tuple(map(fold, _parts(without_namespace(code)))))
"""What is looked up for a code: itself, and its parts."""


def without_namespace(code: str) -> str:
    """Return *code* without what AWS adds: `ThrottlingException:http://…` in a header, `com.amazon.coral#ThrottlingException` in a body."""
    return code.rsplit("#", 1)[-1].split(":", 1)[0]


@by_text
def tokens_of(text: str) -> tuple[str, ...]:
    """Return the class names and codes in prose: an underscore or a capital inside tells them from plain words."""
    tokens = _TOKEN.findall(text[:8000])[:_MAX_TOKENS]
    return tuple([token for token in tokens if "_" in token or not token[1:].islower()])
