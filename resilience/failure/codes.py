"""Tables of names: what a provider's code, an error type or an exception's class name means.

A name is folded before it is looked up, so `rate_limit_error`, `RateLimitError` and `rateLimitError` are one entry. There
are three ranks. *Decisive* names mean what they say under any status, because providers send them under wrong ones.
*Firm* names beat a status too, but a sentence beats them: Groq calls a request that can never fit `rate_limit_exceeded`.
*Weak* names are used where no status is known, above all class names of libraries.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from resilience.failure.body import fold
from resilience.failure.taxonomy import ErrorCategory as Kind

_Names = Mapping[Kind, str]


def _table(names: _Names) -> Mapping[str, Kind]:
    return MappingProxyType({fold(name): kind for kind, listed in names.items() for name in listed.split()})


DECISIVE = _table(
    {
        # OpenAI's four billing codes, its older ones, Codex; Anthropic's spend limit and 402; DeepSeek; Moonshot; LiteLLM;
        # Google's ErrorInfo reasons; Alibaba and Volcano accounts in arrears; Hugging Face's router.
        Kind.QUOTA_EXHAUSTED: """
            insufficient_quota credit_balance_exhausted organization_spend_limit_exceeded project_spend_limit_exceeded
            organization_usage_limit_exceeded billing_not_active billing_hard_limit_reached usage_limit_reached
            usage_not_included enforced_spend_limit_reached billing_error insufficient_balance insufficient_credits
            insufficient_credit insufficient_funds not_enough_balance exceeded_current_quota_error budget_exceeded
            BudgetExceededError ExceededBudget payment_required PaymentRequiredError QUOTA_EXHAUSTED BILLING_DISABLED
            INSUFFICIENT_G1_CREDITS_BALANCE Arrearage AccountOverdueError AllocationQuota.FreeTierOnly out_of_credits
            credits_exhausted MONTHLY_REQUEST_COUNT insufficient_balance_error token_quota_reached ResourcePackExhausted
            """,
        # OpenAI, llama.cpp, LiteLLM, Anthropic 413.
        Kind.CONTEXT_LENGTH: """
            context_length_exceeded exceed_context_size_error ContextWindowExceededError context_window_exceeded
            string_above_max_length request_too_large RequestTooLargeError model_context_window_exceeded prompt_too_long
            input_too_long model_max_prompt_tokens_exceeded tokens_limit_reached ContextLengthExceededError ContextOverflowError
            """,
        # OpenAI, Azure, Google's block and finish reasons, Alibaba, LiteLLM.
        Kind.CONTENT_POLICY: """
            content_filter ResponsibleAIPolicyViolation content_policy_violation ContentPolicyViolationError invalid_prompt
            PROHIBITED_CONTENT SAFETY BLOCKLIST SPII RECITATION IMAGE_SAFETY data_inspection_failed DataInspectionFailed
            moderation_blocked content_moderation content_filtered guardrail_intervened ContentFilterFinishReasonError
            BlockedPromptException StopCandidateException sensitive_content sensitive_words_detected
            SensitiveContentDetected
            """,
        # Anthropic, OpenAI's Responses stream, Moonshot, Code Assist, Groq flex (498), Mistral's tiers.
        Kind.OVERLOADED: """
            overloaded_error OverloadedError overloaded server_is_overloaded server_overloaded engine_overloaded_error
            engine_overloaded model_overloaded MODEL_CAPACITY_EXHAUSTED capacity_exceeded service_tier_capacity_exceeded
            server_busy no_capacity queue_exceeded
            """,
        Kind.OUTPUT_TRUNCATED: "LengthFinishReasonError IncompleteOutputException max_output_tokens",
    }
)

FIRM = _table(
    {
        # AWS sends throttling as 400 or in a stream without a status; Google's older reasons come under 403.
        Kind.RATE_LIMIT: """
            ThrottlingException Throttling ThrottledException throttling_error TooManyRequestsException
            RequestLimitExceeded rate_limit_exceeded rate_limit_error rate_limit_reached_error rate_limited
            userRateLimitExceeded RATE_LIMIT_EXCEEDED RESOURCE_EXHAUSTED slow_down too_many_requests
            LimitExceededException ProvisionedThroughputExceededException RateLimitReached limit_burst_rate
            """,
        # AWS and Google say with 400 or 403 what others say with 401.
        Kind.AUTHENTICATION: """
            invalid_api_key wrong_api_key API_KEY_INVALID API_KEY_EXPIRED incorrect_api_key ExpiredTokenException ExpiredToken
            UnrecognizedClientException InvalidSignatureException IncompleteSignatureException InvalidClientTokenId
            MissingAuthenticationTokenException InvalidIdentityTokenException SignatureDoesNotMatch
            ACCESS_TOKEN_EXPIRED CREDENTIALS_MISSING ACCESS_TOKEN_TYPE_UNSUPPORTED authentication_error
            invalid_authentication_error UNAUTHENTICATED token_expired token_invalidated account_deactivated NoCredentialsError PartialCredentialsError TokenRetrievalError
            """,
        # LiteLLM says with 401, Groq with 400, what others say with 403.
        Kind.PERMISSION: """
            unsupported_country_region_territory IAM_PERMISSION_DENIED AccessDeniedException SERVICE_DISABLED
            key_model_access_denied team_model_access_denied organization_restricted
            """,
        Kind.NOT_FOUND: """
            DeploymentNotFound model_not_found ModelNotFoundError model_decommissioned ResourceNotFoundException
            model_not_available model_not_supported ModelNotOpen invalid_model RESOURCE_DOES_NOT_EXIST
            """,
        # AWS, llama.cpp, OpenRouter's stream chunks.
        Kind.SERVICE_UNAVAILABLE: """
            ServiceUnavailableException ModelNotReadyException provider_unavailable unavailable_error model_loading
            """,
        Kind.TIMEOUT: "ModelTimeoutException DEADLINE_EXCEEDED",
        Kind.QUOTA_EXHAUSTED: "ServiceQuotaExceededException",
    }
)

WEAK = _table(
    {
        Kind.RATE_LIMIT: "RateLimitError TooManyRequests TooManyRequestsError ResourceExhausted RouterRateLimitError "
        "RouterRateLimitErrorBasic ThrottlingError",
        Kind.AUTHENTICATION: "AuthenticationError Unauthenticated Unauthorized UnauthorizedError invalid_token "
        "RefreshError DefaultCredentialsError",
        Kind.PERMISSION: "PermissionDeniedError PermissionDenied permission_error forbidden ForbiddenError "
        "request_forbidden Forbidden AccessDenied",
        Kind.NOT_FOUND: "NotFoundError not_found_error not_found NotFound",
        Kind.SERVICE_UNAVAILABLE: "ServiceUnavailableError ServiceUnavailable service_unavailable UNAVAILABLE BadGateway "
        "BadGatewayError service_unavailable_error",
        Kind.SERVER_ERROR: "server_error InternalServerError InternalServerException internal_server_error api_error "
        "InternalFailure INTERNAL internal_error ModelErrorException ModelStreamErrorException EngineDeadError",
        Kind.INVALID_REQUEST: "invalid_request_error InvalidRequestError BadRequestError BadRequest bad_request "
        "ValidationException UnprocessableEntityError UnprocessableEntity INVALID_ARGUMENT InvalidArgument "
        "FAILED_PRECONDITION FailedPrecondition UnsupportedParamsError ParamValidationError UnsupportedProtocol InvalidURL "
        "MissingSchema InvalidSchema BamlInvalidArgumentError",
        Kind.TIMEOUT: "timeout timeout_error TimeoutError TimeoutException ReadTimeout ConnectTimeout WriteTimeout "
        "PoolTimeout Timeout APITimeoutError ServerTimeoutError ConnectionTimeoutError SocketTimeoutError ReadTimeoutError "
        "ConnectTimeoutError ConnectTimeoutError HeadersTimeoutError BodyTimeoutError DeadlineExceeded "
        "UND_ERR_HEADERS_TIMEOUT UND_ERR_BODY_TIMEOUT UND_ERR_CONNECT_TIMEOUT request_timeout GatewayTimeout "
        "BamlTimeoutError RetryError",
        Kind.NETWORK: "ConnectError ReadError WriteError CloseError NetworkError ProtocolError RemoteProtocolError "
        "LocalProtocolError TransportError ProxyError DecodingError APIConnectionError ConnectionError "
        "ConnectionResetError ConnectionRefusedError ConnectionAbortedError BrokenPipeError ClientConnectorError "
        "ClientConnectorDNSError ClientConnectionError ClientOSError ServerDisconnectedError ServerConnectionError "
        "ClientPayloadError ClientConnectorSSLError ClientConnectorCertificateError ClientSSLError ChunkedEncodingError "
        "ContentDecodingError SSLError SSLEOFError SSLCertVerificationError IncompleteRead NewConnectionError "
        "MaxRetryError NameResolutionError EndpointConnectionError ConnectionClosedError HTTPClientError "
        "APIResponseValidationError JSONDecodeError ContentTypeError gaierror herror BamlClientError URLError "
        "RemoteDisconnected UND_ERR_SOCKET ECONNREFUSED ECONNRESET ENOTFOUND EAI_AGAIN",
        Kind.OUTPUT_INVALID: "BamlValidationError OutputParserException InstructorRetryException UnexpectedModelBehavior",
        Kind.CONTENT_POLICY: "ContentFilterError",
        Kind.CANCELLED: "CancelledError BamlAbortError APIUserAbortError AbortError",
    }
)


def meaning(names: Iterable[str], *tables: Mapping[str, Kind]) -> tuple[Kind, str] | None:
    """The category of the first of *names* that the first matching table knows, and that name."""
    folded = [(fold(part), name) for name in names for part in _parts(_bare(name))]
    return next(
        ((table[key], name) for table in tables for key, name in folded if key in table),
        None,
    )


def metered(names: Iterable[str]) -> bool:
    """Google names the window in its quotas: `GenerateRequestsPerMinutePerProjectPerModel-FreeTier`."""
    return any(span in fold(name) for name in names for span in ("perminute", "perday"))


def _parts(name: str) -> tuple[str, ...]:
    """Alibaba and Tencent put the kind before or behind a dot: `Throttling.RateQuota`, `InternalError.Algo.DataInspectionFailed`."""
    divided = name.split(".")
    return (name, divided[-1], divided[0]) if len(divided) > 1 else (name,)


def _bare(name: str) -> str:
    """AWS writes `ThrottlingException:http://…` in a header and `com.amazon.coral#ThrottlingException` in a body."""
    return name.rsplit("#", 1)[-1].split(":", 1)[0]
