"""Bodies of responses in the protocol of each provider: answers by their finish reason, and errors."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from resilience.testing import answer_bodies

Json = dict[str, Any]

GOAL = "Find out why some gut bacteria survive antibiotics"
# Whole and of the right type, so that only the finish reason shows that it is not all of the answer.
WHOLE: Json = {
    "goal": "g",
    "domain": "d",
    "subdomains": [],
    "key_questions": [],
    "constraints": [],
    "success_criteria": [],
    "suggested_methods": ["cut he"],
}
TEXT = json.dumps(WHOLE)

KEY = "sk-0123456789"
CHAT_PROVIDERS = ("openai", "openai-generic", "azure-openai", "ollama")
GOOGLE_PROVIDERS = ("google-ai", "vertex-ai")


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server sends.

    Attributes:
        status: the HTTP status.
        body: a JSON object, or the text of another body.
        headers: headers beside those of the body's type and length.
    """

    status: int
    body: Json | str
    headers: dict[str, str] = field(default_factory=dict)


# --- answers ----------------------------------------------------------------------------------------------------------


def chat(reason: str, text: str | None = TEXT, **message: object) -> Json:
    """Return an answer of chat completions."""
    body = answer_bodies.chat("m", text or "", reason)
    body["choices"][0]["message"].update(content=text, **message)
    return body


def anthropic(reason: str, text: str = TEXT) -> Json:
    """Return an answer of Anthropic."""
    return answer_bodies.anthropic("m", text, reason)


def google(reason: str, text: str = TEXT) -> Json:
    """Return an answer of Google."""
    return answer_bodies.google("m", text, reason)


def responses(reason: str, text: str = TEXT) -> Json:
    """Return an answer of the Responses API, which is whole for the reason `completed`."""
    return answer_bodies.responses("m", text, reason)


def bedrock(reason: str, text: str = TEXT) -> Json:
    """Return an answer of Bedrock."""
    return answer_bodies.bedrock("m", text, reason)


_BLOCKED: Json = {
    "candidates": [],
    "promptFeedback": {"blockReason": "SAFETY", "safetyRatings": []},
    "usageMetadata": {"promptTokenCount": 1, "totalTokenCount": 1},
}
_CHAT_ANSWERS: dict[str, Json] = {
    "success": chat("stop"),
    "refusal": chat("stop", None, refusal="I cannot help with that."),
    "content filter": chat("content_filter"),
    "token limit": chat("length"),
    "not the type": chat("stop", "I would rather talk about the weather."),
}
_GOOGLE_ANSWERS: dict[str, Json] = {
    "success": google("STOP"),
    "refusal": _BLOCKED,
    "content filter": google("SAFETY"),
    "token limit": google("MAX_TOKENS"),
    "not the type": google("STOP", "I would rather talk about the weather."),
}


def _responses_refusal() -> Json:
    body = responses("completed")
    body["output"][0]["content"] = [{"type": "refusal", "refusal": "I cannot help with that."}]
    return body


ANSWERS: dict[str, dict[str, Json]] = {
    **dict.fromkeys(CHAT_PROVIDERS, _CHAT_ANSWERS),
    **dict.fromkeys(GOOGLE_PROVIDERS, _GOOGLE_ANSWERS),
    "openai-responses": {
        "success": responses("completed"),
        "refusal": _responses_refusal(),
        "content filter": responses("content_filter"),
        "token limit": responses("max_output_tokens"),
        "not the type": responses("completed", "I would rather talk about the weather."),
    },
    "anthropic": {
        "success": anthropic("end_turn"),
        "refusal": anthropic("refusal", ""),
        "content filter": anthropic("refusal"),
        "token limit": anthropic("max_tokens"),
        "not the type": anthropic("end_turn", "I would rather talk about the weather."),
    },
    "aws-bedrock": {
        "success": bedrock("end_turn"),
        "refusal": bedrock("guardrail_intervened", "Sorry, I cannot answer."),
        "content filter": bedrock("content_filtered"),
        "token limit": bedrock("max_tokens"),
        "not the type": bedrock("end_turn", "I would rather talk about the weather."),
    },
}
"""The body of each answer by provider and name. All have the status 200."""


# --- errors -----------------------------------------------------------------------------------------------------------


def _openai_error(status: int, message: str, kind: str, code: str | None = None, **headers: str) -> Reply:
    body = {"error": {"message": message, "type": kind, "param": None, "code": code}}
    return Reply(status, body, {name.replace("_", "-"): value for name, value in headers.items()})


def _azure_error(status: int, code: str, message: str, **headers: str) -> Reply:
    return Reply(
        status,
        {"error": {"code": code, "message": message}},
        {name.replace("_", "-"): value for name, value in headers.items()},
    )


def _anthropic_error(status: int, kind: str, message: str, **headers: str) -> Reply:
    return Reply(
        status,
        {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"},
        {name.replace("_", "-"): value for name, value in headers.items()},
    )


def _google_error(status: int, word: str, message: str, *details: Json) -> Reply:
    return Reply(
        status, {"error": {"code": status, "message": message, "status": word, "details": list(details)}}
    )


def _bedrock_error(status: int, kind: str, message: str) -> Reply:
    return Reply(status, {"message": message}, {"x-amzn-errortype": kind})


_OPENAI_ERRORS: dict[str, Reply] = {
    "429": _openai_error(
        429,
        "Rate limit reached for gpt-4o on requests per min (RPM): Limit 3, Used 3, Requested 1. Please try again in 7s.",
        "requests",
        "rate_limit_exceeded",
    ),
    "503": _openai_error(503, "The engine is currently overloaded, please try again later", "server_error"),
    "529": _openai_error(529, "Overloaded", "server_error"),
    "401": _openai_error(
        401, "Incorrect API key provided: sk-0123.", "invalid_request_error", "invalid_api_key"
    ),
    "403": _openai_error(403, "You are not allowed to sample from this model", "invalid_request_error"),
    "404": _openai_error(
        404,
        "The model `m` does not exist or you do not have access to it.",
        "invalid_request_error",
        "model_not_found",
    ),
    "400 context length": _openai_error(
        400,
        "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens.",
        "invalid_request_error",
        "context_length_exceeded",
    ),
    "billing": _openai_error(
        429,
        "You exceeded your current quota, please check your plan and billing details.",
        "insufficient_quota",
        "insufficient_quota",
    ),
}
_GOOGLE_ERRORS: dict[str, Reply] = {
    "429": _google_error(
        429,
        "RESOURCE_EXHAUSTED",
        "You exceeded your current quota. Please retry in 7.2s.",
        {
            "@type": "type.googleapis.com/google.rpc.QuotaFailure",
            "violations": [
                {"quotaId": "GenerateRequestsPerMinutePerProjectPerModel-FreeTier", "quotaValue": "15"}
            ],
        },
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7s"},
    ),
    "503": _google_error(503, "UNAVAILABLE", "The model is overloaded. Please try again later."),
    "529": _google_error(529, "UNAVAILABLE", "Overloaded"),
    "401": _google_error(
        400,
        "INVALID_ARGUMENT",
        "API key not valid. Please pass a valid API key.",
        {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"},
    ),
    "403": _google_error(403, "PERMISSION_DENIED", "The caller does not have permission"),
    "404": _google_error(404, "NOT_FOUND", "models/m is not found for API version v1beta"),
    "400 context length": _google_error(
        400,
        "INVALID_ARGUMENT",
        "The input token count (1048577) exceeds the maximum number of tokens allowed (1048576).",
    ),
    "billing": _google_error(
        403,
        "PERMISSION_DENIED",
        "This API method requires billing to be enabled. Please enable billing on the project.",
        {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "BILLING_DISABLED"},
    ),
}
ERRORS: dict[str, dict[str, Reply]] = {
    "openai": {
        **_OPENAI_ERRORS,
        "429": _openai_error(
            429, "Rate limit reached", "requests", "rate_limit_exceeded", retry_after_ms="7000"
        ),
    },
    "openai-generic": {
        **_OPENAI_ERRORS,
        "billing": _openai_error(402, "Insufficient credits. Add more using https://x.test", "x"),
    },
    "openai-responses": {
        **_OPENAI_ERRORS,
        "429": _openai_error(
            429,
            "Rate limit reached",
            "requests",
            "rate_limit_exceeded",
            x_ratelimit_remaining_requests="0",
            x_ratelimit_reset_requests="7s",
        ),
    },
    "azure-openai": {
        "429": _azure_error(
            429,
            "429",
            "Requests to the ChatCompletions_Create Operation have exceeded call rate limit. Please retry after 7 seconds.",
        ),
        "503": _azure_error(503, "ServiceUnavailable", "The service is temporarily unable to process it."),
        "529": _azure_error(529, "529", "Overloaded"),
        "401": _azure_error(
            401, "401", "Access denied due to invalid subscription key or wrong API endpoint."
        ),
        "403": _azure_error(403, "AuthorizationFailed", "The client does not have authorization."),
        "404": _azure_error(
            404, "DeploymentNotFound", "The API deployment for this resource does not exist."
        ),
        "400 context length": _OPENAI_ERRORS["400 context length"],
        "billing": _OPENAI_ERRORS["billing"],
    },
    "anthropic": {
        "429": _anthropic_error(
            429, "rate_limit_error", "This request would exceed your rate limit.", retry_after="7"
        ),
        "503": _anthropic_error(503, "api_error", "Service unavailable"),
        "529": _anthropic_error(529, "overloaded_error", "Overloaded"),
        "401": _anthropic_error(401, "authentication_error", "invalid x-api-key"),
        "403": _anthropic_error(403, "permission_error", "Your API key does not have permission to use it."),
        "404": _anthropic_error(404, "not_found_error", "model: m"),
        "400 context length": _anthropic_error(
            400, "invalid_request_error", "prompt is too long: 200001 tokens > 200000 maximum"
        ),
        "billing": _anthropic_error(
            400,
            "invalid_request_error",
            "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing.",
        ),
    },
    **dict.fromkeys(GOOGLE_PROVIDERS, _GOOGLE_ERRORS),
    "aws-bedrock": {
        "429": _bedrock_error(429, "ThrottlingException", "Too many requests, please wait."),
        "503": _bedrock_error(503, "ServiceUnavailableException", "Bedrock is unable to process it."),
        "529": _bedrock_error(529, "ModelNotReadyException", "Model is not ready for inference"),
        "401": _bedrock_error(
            403, "UnrecognizedClientException", "The security token included in the request is invalid."
        ),
        "403": _bedrock_error(
            403, "AccessDeniedException", "You don't have access to the model with the specified model ID."
        ),
        "404": _bedrock_error(
            404, "ResourceNotFoundException", "Could not resolve the foundation model from the identifier."
        ),
        "400 context length": _bedrock_error(
            400, "ValidationException", "Input is too long for requested model."
        ),
        "billing": _bedrock_error(
            403,
            "AccessDeniedException",
            "Model access is denied due to INVALID_PAYMENT_INSTRUMENT: a valid payment instrument must be provided.",
        ),
    },
    "ollama": {
        **_OPENAI_ERRORS,
        "429": _openai_error(429, "too many concurrent requests", "api_error", retry_after="7"),
        "404": _openai_error(404, 'model "m" not found, try pulling it first', "api_error"),
        "billing": _openai_error(
            402, "you have reached your weekly usage limit, upgrade for higher limits", "api_error"
        ),
    },
}
"""The error response of each provider, by the name of the fault."""


def client_options(provider: str, url: str) -> Json:
    """Return the options of a BAML client of *provider* that asks the server at *url*."""
    own: dict[str, Json] = {
        "azure-openai": {"base_url": url, "api_version": "2024-10-21", "api_key": KEY},
        "vertex-ai": {"base_url": url, "query_params": {"key": KEY}},  # express mode: a key, no account
        "aws-bedrock": {
            "endpoint_url": url,
            "region": "us-east-1",
            "access_key_id": "x",
            "secret_access_key": "y",
        },
        "ollama": {"base_url": url},
    }
    return {"model": "m", **own.get(provider, {"base_url": url, "api_key": KEY})}
