"""Bodies of providers that are not in the labelled corpus, each with the thread it was read in."""

from __future__ import annotations

import pytest

from resilience.failure import ErrorCategory as Kind
from resilience.failure import Evidence, judge

CASES: list[tuple[str, int | None, str, Kind, float | None]] = [
    # expectedparrot/edsl#2098: Together
    (
        "together-402",
        402,
        (
            "Error code: 402 - {'id': 'x', 'error': {'message': 'Credit limit exceeded. Please navigate to "
            "https://api.together.xyz/settings/billing to add credit or upgrade your plan.', 'type': 'credit_limit', "
            "'param': None, 'code': None}}"
        ),
        Kind.QUOTA_EXHAUSTED,
        None,
    ),
    # togethercomputer/MoA#27: the type of the case above, but throttling
    (
        "together-429-credit-limit-type",
        429,
        (
            "{'error': {'message': 'You have been rate limited. Your rate limit is 60 queries per minute. Please navigate to "
            "https://api.together.xyz/settings/billing to upgrade to a paid plan.', 'type': 'credit_limit', 'param': None}}"
        ),
        Kind.RATE_LIMIT,
        None,
    ),
    # xtekky/gpt4free#3032: Together, nothing but the sentence
    (
        "together-text",
        None,
        (
            "Error None: You have reached the rate limit specific to this model black-forest-labs/FLUX.1-kontext-pro. "
            "The maximum rate limit for this model is 9.0 queries per minute."
        ),
        Kind.RATE_LIMIT,
        None,
    ),
    # pollinations/pollinations#12136: Fireworks behind a gateway, 412
    (
        "fireworks-412-suspended",
        412,
        (
            '{"success": false, "error": {"message": "Image provider error: Fireworks FLUX generation failed: {\\"error\\":'
            '{\\"message\\":\\"Account pollinations is suspended, possibly due to reaching the monthly spending limit or failure '
            'to pay past invoices.\\",\\"param\\":null,\\"code\\":\\"PRECONDITION_FAILED\\",\\"type\\":\\"error\\"}}", '
            '"code": "UNKNOWN_ERROR"}, "status": 412}'
        ),
        Kind.QUOTA_EXHAUSTED,
        None,
    ),
    # anomalyco/opencode#24462: Moonshot behind OpenRouter's wrapping
    (
        "moonshot-429-suspended",
        429,
        (
            '{"error": {"message": "Error from provider: Provider returned error", "code": 429, "metadata": {"raw": "{\\"error\\":'
            '{\\"message\\":\\"Your account org-0 <ak-0> is suspended due to insufficient balance, please recharge your account or '
            'check your plan and billing details\\",\\"type\\":\\"exceeded_current_quota_error\\"}}"}}}'
        ),
        Kind.QUOTA_EXHAUSTED,
        None,
    ),
    # MoonshotAI/MoonshotAI-Cookbook#16
    (
        "moonshot-overloaded",
        429,
        (
            'error: {"error":{"message":"The engine is currently overloaded, please try again later","type":'
            '"engine_overloaded_error"}}'
        ),
        Kind.OVERLOADED,
        None,
    ),
    # harry0703/MoneyPrinterTurbo#339: "after", and a plural for one second
    (
        "moonshot-429-after-1-seconds",
        429,
        (
            "Error code:429 {error:{ message': \"Your account request reached max request: 3, please try again after 1 seconds', "
            "'type': 'rate limit reached error'}}"
        ),
        Kind.RATE_LIMIT,
        1.0,
    ),
    # vybestack/llxprt-code#813: Code Assist, a wait in words only
    (
        "code-assist-429-26s",
        429,
        (
            '[{"error": {"code": 429, "message": "You have exhausted your capacity on this model. Your quota will reset after '
            '26s.", "errors": [{"message": "You have exhausted your capacity on this model.", "domain": "global", "reason": '
            '"rateLimitExceeded"}], "status": "RESOURCE_EXHAUSTED", "details": [{"@type": '
            '"type.googleapis.com/google.rpc.ErrorInfo", "reason": "RATE_LIMIT_EXCEEDED"}]}}]'
        ),
        Kind.RATE_LIMIT,
        26.0,
    ),
    # google-gemini/gemini-cli#27548: the reason says rate limit, the sentence says capacity
    (
        "code-assist-429-no-capacity",
        429,
        (
            '{"error": {"code": 429, "message": "No capacity available for model gemini-3.1-flash-lite on the server", "errors": '
            '[{"message": "No capacity available for model gemini-3.1-flash-lite on the server", "reason": '
            '"rateLimitExceeded"}], "status": "RESOURCE_EXHAUSTED"}}'
        ),
        Kind.OVERLOADED,
        None,
    ),
    # google-gemini/gemini-cli#14831
    (
        "vertex-429-resource-exhausted",
        429,
        (
            '[{"error": {"code": 429, "message": "Resource exhausted. Please try again later. Please refer to '
            'https://cloud.google.com/vertex-ai/generative-ai/docs/error-code-429 for more details.", "status": '
            '"RESOURCE_EXHAUSTED"}}]'
        ),
        Kind.RATE_LIMIT,
        None,
    ),
    # continuedev/continue#9662: no free tier for this model, whatever delay is stated
    (
        "gemini-429-limit-0",
        429,
        (
            '{"error":{"message":"{\\n  \\"error\\": {\\n    \\"code\\": 429,\\n    \\"message\\": \\"You exceeded your current '
            "quota, please check your plan and billing details. \\\\n* Quota exceeded for metric: "
            "generativelanguage.googleapis.com/generate_content_free_tier_requests, limit: 0, model: gemini-2.5-pro\\\\nPlease "
            'retry in 16.614023621s.\\",\\n    \\"status\\": \\"RESOURCE_EXHAUSTED\\"}}"}}'
        ),
        Kind.QUOTA_EXHAUSTED,
        16.614023621,
    ),
    # zeroclaw-labs/zeroclaw#194
    (
        "gemini-400-key",
        400,
        (
            '{"error": {"code": 400, "message": "API key not valid. Please pass a valid API key.", "status": "INVALID_ARGUMENT", '
            '"details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}]}}'
        ),
        Kind.AUTHENTICATION,
        None,
    ),
    # google-gemini/gemini-cli#25103
    (
        "code-assist-429-4h28m20s",
        429,
        "You have exhausted your capacity on this model. Your quota will reset after 4h28m20s.",
        Kind.RATE_LIMIT,
        16_100.0,
    ),
    # earendil-works/pi#4172: Codex, the wait three times over, also as headers inside the body
    (
        "codex-429-usage-limit",
        429,
        (
            'Codex error: {"type":"error","error":{"type":"usage_limit_reached","message":"The usage limit has been reached",'
            '"plan_type":"plus","resets_at":1777936568,"eligible_promo":null,"resets_in_seconds":13872},"status_code":429,'
            '"headers":{"X-Codex-Primary-Used-Percent":"100","X-Codex-Primary-Reset-After-Seconds":"13873"}}'
        ),
        Kind.QUOTA_EXHAUSTED,
        13_873.0,
    ),
    # openai/codex#3899
    (
        "codex-text-days",
        None,
        (
            "You've hit your usage limit. Upgrade to Pro (https://openai.com/chatgpt/pricing) or try again in 5 days 22 hours "
            "11 minutes."
        ),
        Kind.QUOTA_EXHAUSTED,
        511_860.0,
    ),
    # anthropics/claude-code#66314
    (
        "anthropic-400-credit",
        400,
        (
            '{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the '
            'Anthropic API. Please go to Plans & Billing to upgrade or purchase credits."}}'
        ),
        Kind.QUOTA_EXHAUSTED,
        None,
    ),
    # anthropics/claude-code#8132: JSON in JSON, 500
    (
        "anthropic-500-overloaded",
        500,
        (
            '[{"error":"Error: 500 {\\"type\\":\\"error\\",\\"error\\":{\\"type\\":\\"api_error\\",\\"message\\":\\"Overloaded\\"},'
            '\\"request_id\\":null}\\n    at a9.generate (file:///cli.js:977:2654)"}]'
        ),
        Kind.OVERLOADED,
        None,
    ),
    # docker/docker-agent#569
    (
        "anthropic-400-input-and-max-tokens",
        400,
        (
            '{"type": "error", "error": {"type": "invalid_request_error", "message": "input length and `max_tokens` exceed '
            'context limit: 178959 + 64000 > 200000, decrease input length or `max_tokens` and try again"}}'
        ),
        Kind.CONTEXT_LENGTH,
        None,
    ),
    # anthropics/claude-code#6380
    (
        "anthropic-413",
        413,
        '{"type":"error","error":{"type":"invalid_request_error","message":"Request size exceeds model context window"}}',
        Kind.CONTEXT_LENGTH,
        None,
    ),
    # fuzz4all/fuzz4all#9: OpenRouter's moderation inside a 200, as Python prints it
    (
        "openrouter-200-moderation",
        200,
        (
            "error={'message': 'openai/gpt-4 requires moderation on OpenAI. Your input was flagged for \"harassment\". No credits "
            "were charged.', 'code': 403, 'metadata': {'reasons': ['harassment'], 'flagged_input': 'You are an auto', "
            "'provider_name': 'OpenAI'}})"
        ),
        Kind.CONTENT_POLICY,
        None,
    ),
    # can1357/oh-my-pi#9569
    (
        "openrouter-402",
        402,
        (
            "402 This request requires more credits, or fewer max_tokens. You requested up to 65536 tokens, but can only afford "
            "30104."
        ),
        Kind.QUOTA_EXHAUSTED,
        None,
    ),
    # huggingface/agents-course#386
    (
        "hf-402",
        402,
        (
            '{"error":"You have exceeded your monthly included credits for Inference Providers. Subscribe to PRO to get 20x more '
            'monthly included credits."}'
        ),
        Kind.QUOTA_EXHAUSTED,
        None,
    ),
    # huggingface/transformers#23793
    (
        "hf-503-300s",
        503,
        '{"error":"Model ZeroWw/Mistral-7B is currently loading","estimated_time":300.8891906738281}',
        Kind.SERVICE_UNAVAILABLE,
        300.8891906738281,
    ),
    # continuedev/continue#6185: type says permanent
    (
        "mistral-429-tier",
        429,
        (
            '{"object":"error","message":"Service tier capacity exceeded for this model.","type":"invalid_request_error",'
            '"param":null,"code":null}'
        ),
        Kind.OVERLOADED,
        None,
    ),
    # Gitlawb/openclaude#739: FastAPI's list, which echoes the input
    (
        "mistral-422-detail",
        422,
        (
            '{"detail":[{"type":"extra_forbidden","loc":["body","store"],"msg":"Extra inputs are not permitted","input":"quota '
            'exceeded"}]}'
        ),
        Kind.INVALID_REQUEST,
        None,
    ),
    # continuedev/continue#9800
    (
        "cerebras-429",
        429,
        '"Tokens per minute limit exceeded - too many tokens processed."',
        Kind.RATE_LIMIT,
        None,
    ),
    # sandialabs/atlas-ui-3#111
    (
        "cerebras-high-traffic",
        429,
        (
            "litellm.RateLimitError: RateLimitError: CerebrasException - We're experiencing high traffic right now! Please try "
            "again soon."
        ),
        Kind.OVERLOADED,
        None,
    ),
    # mostlygeek/llama-swap#146
    (
        "llamacpp-503-loading",
        503,
        '{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}',
        Kind.SERVICE_UNAVAILABLE,
        None,
    ),
    # mindverse/Second-Me#20: the same in a stream, wrapped by a client
    (
        "llamacpp-stream-loading",
        None,
        (
            "{'error': {'code': 1, 'message': \"Request processing failed: Error code: 503 - {'error': {'code': 503, 'message': "
            "'Loading model', 'type': 'unavailable_error'}}\", 'data': None}}"
        ),
        Kind.SERVICE_UNAVAILABLE,
        None,
    ),
    # pelikhan in lmstudio-ai/lms#107
    (
        "lmstudio-404",
        404,
        '{"error":{"message":"No models loaded. Please load a model in the developer page or use the `lms load` command"}}',
        Kind.NOT_FOUND,
        None,
    ),
    # valentinfrlch/ha-llmvision#648
    (
        "ollama-503-busy",
        503,
        '{"error":"server busy, please try again.  maximum pending requests exceeded"}',
        Kind.OVERLOADED,
        None,
    ),
    # BerriAI/litellm#4208: a budget as an authentication error
    (
        "litellm-budget-400",
        400,
        (
            '{"error":{"message":"Budget has been exceeded! Current cost: 0.0010747, Max budget: 0.0","type":"auth_error",'
            '"param":null,"code":400}}'
        ),
        Kind.QUOTA_EXHAUSTED,
        None,
    ),
    # BrokkAi/brokk-app#2628
    (
        "gateway-402-unauthorized",
        402,
        (
            '{"error":"unauthorized","code":"unauthorized","details":"Authentication failed: code=402, message=user has exceeded '
            'their budget"}'
        ),
        Kind.QUOTA_EXHAUSTED,
        None,
    ),
    # tailcallhq/forgecode#2008
    (
        "deepseek-400-body",
        400,
        (
            '{"error":{"message":"Failed to deserialize the JSON body into the target type: messages[9]: invalid type: sequence, '
            'expected a string at line 1 column 45446","type":"invalid_request_error","param":null,"code":"invalid_request_error"}}'
        ),
        Kind.INVALID_REQUEST,
        None,
    ),
    # PDFMathTranslate/PDFMathTranslate#696: the code says less than the type
    (
        "deepseek-401",
        401,
        (
            "Error code: 401 - {'error': {'message': 'Authentication Fails (no such user)', 'type': 'authentication_error', "
            "'param': None, 'code': 'invalid_request_error'}}"
        ),
        Kind.AUTHENTICATION,
        None,
    ),
    # run-llama/llama_index#16503
    (
        "azure-400-operation",
        400,
        (
            "Error code: 400 - {'error': {'code': 'OperationNotSupported', 'message': 'The chatCompletion operation does not work "
            "with the specified model, gpt-4o-mini. Please choose different model and try again.'}}"
        ),
        Kind.INVALID_REQUEST,
        None,
    ),
    # cocacola-lab/ChatIE#8: under `detail`
    (
        "openai-401-token-expired",
        401,
        (
            '{"detail":{"message":"Your authentication token has expired. Please try signing in again.","type":'
            '"invalid_request_error","param":null,"code":"token_expired"}}'
        ),
        Kind.AUTHENTICATION,
        None,
    ),
    # ztjhz/BetterChatGPT#419: an object where a sentence is expected, no status
    (
        "gateway-message-object",
        None,
        (
            '{"error":{"code":"error","message":{"code":"token_expired","message":"Your authentication token has expired. Please '
            'try signing in again.","param":null,"type":"invalid_request_error"},"param":null,"type":"401 Unauthorized"}}'
        ),
        Kind.AUTHENTICATION,
        None,
    ),
    # Mintplex-Labs/anything-llm#1722: HAProxy
    (
        "haproxy-504",
        504,
        "<html><body><h1>504 Gateway Time-out</h1>\nThe server didn't respond in time.\n</body></html>",
        Kind.TIMEOUT,
        None,
    ),
    # etalab-ia/OpenGateLLM#116
    (
        "nginx-504",
        504,
        (
            "<html>\n<head><title>504 Gateway Time-out</title></head>\n<body>\n<center><h1>504 Gateway Time-out</h1></center>\n"
            "<hr><center>nginx/1.27.0</center>\n</body>\n</html>"
        ),
        Kind.TIMEOUT,
        None,
    ),
    # decolua/9router#3794: the gateway wraps a 429 and states its own wait
    (
        "9router-429",
        429,
        (
            '{"error":{"message":"[nvidia/moonshotai/kimi-k3] [429]: {\\"status\\":429,\\"title\\":\\"Too Many Requests\\"} '
            '(reset after 30s)"}}'
        ),
        Kind.RATE_LIMIT,
        30.0,
    ),
    # anthropics/claude-code#19028
    (
        "anthropic-400-disabled",
        400,
        '{"type":"error","error":{"type":"invalid_request_error","message":"This organization has been disabled."}}',
        Kind.PERMISSION,
        None,
    ),
]


@pytest.mark.parametrize(
    ("status", "body", "kind", "delay"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_unseen_bodies(status: int | None, body: str, kind: Kind, delay: float | None) -> None:
    """Bodies the rules were not written from are sorted rightly, with the delay they state."""
    failure = judge(Evidence(status=status, body=body))

    assert (kind, delay) == (failure.category, failure.retry_after)


@pytest.mark.parametrize(
    ("status", "body", "kind"), [case[1:4] for case in CASES], ids=[case[0] for case in CASES]
)
def test_unseen_texts(status: int | None, body: str, kind: Kind) -> None:
    """The same text as an exception's own, as SDKs raise it, means the same."""
    failure = judge(Evidence(status=status, exception=Exception(body)))

    assert kind == failure.category
