"""Bodies of providers that are not in the labelled corpus, each with the thread it comes from."""

from __future__ import annotations

import pytest

from resilience.failure import ErrorCategory as Kind
from resilience.failure import Evidence, classify_evidence

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
    # truefoundry/models#826: who may answer is restricted, not what may be said
    (
        "openrouter-404-guardrail-restrictions",
        404,
        (
            '{"error":{"message":"No endpoints available matching your guardrail restrictions and data policy. Configure: '
            'https://openrouter.ai/settings/privacy","code":404}}'
        ),
        Kind.NOT_FOUND,
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
    # refly-ai/refly#1177
    (
        "refly-1177",
        400,
        (
            "Error: 400 This endpoint's maximum context length is 32768 tokens. However, you requested about 42832 tokens "
            '(42832 of text input). Please reduce the length of either one, or use the "middle-out" transform to compress '
            "your prompt automatically."
        ),
        Kind.CONTEXT_LENGTH,
        None,
    ),
    # the-open-agent/openagent#2344
    (
        "openagent-2344",
        None,
        (
            'received error while streaming: ("type": "invalid request_error","code":"context_length_exceeded", "message" '
            ': "Your input exceeds the context window of this model. Please adjust your input and try again.","param": '
            '"input")'
        ),
        Kind.CONTEXT_LENGTH,
        None,
    ),
    # james-6-23/codex2api#415
    (
        "codex2api-415",
        None,
        (
            "context_length_exceeded · invalid_request_error · Your input exceeds the context window of this model. Please "
            "adjust your input and try again."
        ),
        Kind.CONTEXT_LENGTH,
        None,
    ),
    # crewAIInc/crewAI-examples#121
    (
        "crewai-examples-121",
        400,
        (
            "openai.BadRequestError: Error code: 400 - {'error': {'message': \"This model's maximum context length is "
            '8192 tokens. However, your messages resulted in 8227 tokens. Please reduce the length of the messages.", '
            "'type': 'invalid_request_error', 'param': 'messages', 'code': 'context_length_exceeded'}}"
        ),
        Kind.CONTEXT_LENGTH,
        None,
    ),
    # Niek/chatgpt-web#525
    (
        "chatgpt-web-525",
        400,
        "Error: 400 - This model's maximum context length has been exceeded. Please reduce the length of the messages.",
        Kind.CONTEXT_LENGTH,
        None,
    ),
    # tencentmusic/supersonic#1572
    (
        "supersonic-1572",
        400,
        (
            'com.alibaba.dashscope.exception.ApiException: {"statusCode":400,"message":"Access denied, please make sure '
            'your account is in good standing.","code":"Arrearage","isJson":true,"requestId":"8af536f9"}'
        ),
        Kind.QUOTA_EXHAUSTED,
        None,
    ),
    # infiniflow/ragflow#1552
    (
        "ragflow-1552",
        None,
        "**ERROR**: Access denied, please make sure your account is in good standing.",
        Kind.QUOTA_EXHAUSTED,
        None,
    ),
    # 1Panel-dev/MaxKB#5297
    (
        "maxkb-5297",
        400,
        (
            "sync_call Failed, status_code: 400, code: Arrearage, message: Access denied, please make sure your account is "
            "in good standing. For details, see: https://help.aliyun.com/zh/model-studio/error-code#overdue-payment"
        ),
        Kind.QUOTA_EXHAUSTED,
        None,
    ),
    # camel-ai/owl#432
    (
        "owl-432",
        400,
        (
            "Error code: 400 - {'error': {'code': 'data_inspection_failed', 'param': None, 'message': 'Input data may "
            "contain inappropriate content.', 'type': 'data_inspection_failed'}, 'id': 'chatcmpl-x', 'request_id': 'x'}"
        ),
        Kind.CONTENT_POLICY,
        None,
    ),
    # QwenLM/qwen-code#2905
    (
        "qwen-code-2905",
        400,
        (
            "[API Error: 400 <400> InternalError.Algo.DataInspectionFailed: Input text data may contain inappropriate "
            "content.]"
        ),
        Kind.CONTENT_POLICY,
        None,
    ),
    # anomalyco/opencode#46561
    (
        "opencode-46561",
        None,
        (
            "Error from provider (Console Go): Upstream request failed: [data_inspection_failed] <400> "
            "InternalError.Algo.DataInspectionFailed: Input text data may contain inappropriate content."
        ),
        Kind.CONTENT_POLICY,
        None,
    ),
    # openai/openai-cookbook#1224
    (
        "openai-cookbook-1224",
        400,
        (
            "openai.BadRequestError: Error code: 400 - {'error': {'message': 'input contains sensitive words: [test] "
            "(request id: 20240523152007160608893pVIxONYS)', 'type': 'new_api_error', 'param': '', 'code': "
            "'sensitive_words_detected'}}"
        ),
        Kind.CONTENT_POLICY,
        None,
    ),
    # aws/amazon-sagemaker-examples#799
    (
        "amazon-sagemaker-examples-799",
        424,
        (
            "com.amazonaws.services.sagemakerruntime.model.ModelErrorException: Received server error (0) from model with "
            'message "Your invocation timed out while waiting for a response from container model. Review the latency '
            "metrics for each container in Amazon CloudWatch, resolve the issue, and try again. (Service: "
            "AmazonSageMakerRuntime; Status Code: 424; Error Code: ModelError; Request ID: 956d1805)"
        ),
        Kind.TIMEOUT,
        None,
    ),
    # aws/amazon-sagemaker-examples#1407
    (
        "amazon-sagemaker-examples-1407",
        None,
        (
            "An error occurred (ModelError) when calling the InvokeEndpoint operation: Received server error (0) from "
            'model with message "Your invocation timed out while waiting for a response from container model. Review the '
            'latency metrics for each container in Amazon CloudWatch, resolve the issue, and try again.". See '
            "https://us-east-1.console.aws.amazon.com/cloudwatch/home for more information."
        ),
        Kind.TIMEOUT,
        None,
    ),
    # triton-inference-server/pytriton#92
    (
        "pytriton-92",
        404,
        "{'error': \"Request for unknown model: _MODEL_NAME_ is not found\"}",
        Kind.NOT_FOUND,
        None,
    ),
    # huggingface/transformers#32665
    (
        "transformers-32665",
        503,
        '{"error":"Model meta-llama/Llama-2-13b-chat is currently loading","estimated_time":20.0}',
        Kind.SERVICE_UNAVAILABLE,
        20.0,
    ),
    # Alishahryar1/free-claude-code#30
    (
        "free-claude-code-30",
        429,
        "Error code: 429 - {'status': 429, 'title': 'Too Many Requests'}",
        Kind.RATE_LIMIT,
        None,
    ),
    # Alishahryar1/free-claude-code#1485
    (
        "free-claude-code-1485",
        429,
        (
            "API Error: Request rejected (429) · Upstream provider NIM returned HTTP 429.\n  Category: rate_limit\n  "
            "Mapped message: Provider rate limit reached. Please retry shortly.\n\n  Upstream error:\n  "
            '{"status":429,"title":"Too Many Requests"}\n\n  Request ID: req_fa21'
        ),
        Kind.RATE_LIMIT,
        None,
    ),
    # continuedev/continue#11823
    ("continue-11823", 429, "429 余额不足或无可用资源包,请充值。", Kind.QUOTA_EXHAUSTED, None),
    # zai-org/GLM-5#148
    (
        "glm-5-148",
        429,
        '{"error":{"code":"1113","message":"Insufficient balance or no resource package. Please recharge."}}',
        Kind.QUOTA_EXHAUSTED,
        None,
    ),
    # zhayujie/CowAgent#2910
    (
        "cowagent-2910",
        500,
        (
            "{'error': True, 'message': 'Error code: 429, with error text "
            '{"error":{"code":"1113","message":"余额不足或无可用资源包,请充值。"}}\', \'status_code\': 500}'
        ),
        Kind.QUOTA_EXHAUSTED,
        None,
    ),
    # anthropics/claude-code#9201
    (
        "claude-code-9201",
        429,
        (
            '429 {"type":"error","error":{"type":"1113","message":"Insufficient balance or no resource package. \n     '
            'Please recharge."},"request_id":"202510091744123546de24396949b8"}'
        ),
        Kind.QUOTA_EXHAUSTED,
        None,
    ),
    # vercel/ai#9290
    (
        "ai-9290",
        429,
        (
            '{"error":{"message":"Insufficient balance or no resource package. Please '
            'recharge.","type":"AI_APICallError","param":{"error":"Insufficient balance or no resource package. Please '
            'recharge.","statusCode":429,"name":"AI_APICallError","message":"Insufficient balance or no resource package. '
            "Please "
            'recharge.","url":"https://api.z.ai/api/paas/v4/chat/completions","isRetryable":t'
            'rue,"type":"AI_APICallError"}}}'
        ),
        Kind.QUOTA_EXHAUSTED,
        None,
    ),
    # FoundationAgents/OpenManus#438
    (
        "openmanus-438",
        403,
        (
            "Error code: 403 - {'code': 30011, 'message': 'The selected model requires paid balance. Your paid balance is "
            "insufficient. Please top up and try again.', 'data': None}"
        ),
        Kind.QUOTA_EXHAUSTED,
        None,
    ),
    # MiniMax-AI/MiniMax-M2#62
    (
        "minimax-m2-62",
        500,
        (
            '500 {"type":"error","error":{"type":"api_error","message":"insufficient balance '
            '(1008)"},"request_id":"05997465"}'
        ),
        Kind.QUOTA_EXHAUSTED,
        None,
    ),
    # modelscope/modelscope#1691
    (
        "modelscope-1691",
        429,
        (
            "Error code: 429 - {'error': {'http_code': '429', 'message': 'insufficient balance (1008)', 'type': "
            "'insufficient_balance_error'}, 'request_id': 'xxxx'}"
        ),
        Kind.QUOTA_EXHAUSTED,
        None,
    ),
    # aws-samples/foundation-model-benchmarking-tool#247
    (
        "foundation-model-benchmarking-tool-247",
        None,
        (
            "litellm.APIConnectionError: Bad response code, expected 200: {'status_code': 400, 'headers': "
            "{':exception-type': 'serviceUnavailableException', ':content-type': 'application/json', ':message-type': "
            "'exception'}, 'body': b'{\"message\":\"Bedrock is unable to process your request.\"}'}"
        ),
        Kind.SERVICE_UNAVAILABLE,
        None,
    ),
    # danny-avila/LibreChat#4217
    (
        "librechat-4217",
        None,
        (
            '{"$fault":"server","$metadata":{},"level":"error","message":"[api/server/controllers/agents/client.js '
            "#sendCompletion] Unhandled error type Bedrock is unable to process your "
            'request.","name":"ServiceUnavailableException","stack":"ServiceUnavailableException: Bedrock is unable to '
            'process your request."}'
        ),
        Kind.SERVICE_UNAVAILABLE,
        None,
    ),
    # Aider-AI/aider#2467
    (
        "aider-2467",
        None,
        (
            "httpx.HTTPStatusError: Server error '503 Service Unavailable' for url "
            "'https://bedrock-runtime.us-west-2.amazonaws.com/model/anthropic.claude-3-5-sonnet-20241022-v2:0/converse'\n"
            "For more information check: https://developer.mozilla.org/en-US/docs/Web/HTTP/Status/503"
        ),
        Kind.SERVICE_UNAVAILABLE,
        None,
    ),
    # BerriAI/litellm#2584
    (
        "litellm-2584",
        401,
        (
            "AuthenticationError: <html>\n<head><title>401 Authorization Required</title></head>\n<body>\n<center><h1>401 "
            "Authorization Required</h1></center>\n<hr><center>openresty/1.21.4.3</center>\n</body>\n</html>"
        ),
        Kind.AUTHENTICATION,
        None,
    ),
    # arbs-io/vscode-openai#260
    (
        "vscode-openai-260",
        400,
        "Error: 400 After the (optional) system message(s), user and assistant roles should be alternating.",
        Kind.INVALID_REQUEST,
        None,
    ),
    # raycast/extensions#23957
    (
        "extensions-23957",
        400,
        (
            "Error: 400 After the (optional) system message(s), user or tool message(s) should alternate with assistant "
            "message(s)."
        ),
        Kind.INVALID_REQUEST,
        None,
    ),
    # nodetool-ai/nodetool#5196
    (
        "nodetool-5196",
        429,
        (
            '{"detail":"Request was throttled. Your rate limit for creating predictions is reduced to 6 requests per '
            "minute with a burst of 1 requests while you have less than $5.0 in credit. Your rate limit resets in "
            '~5s.","status":429,"retry_after":5}'
        ),
        Kind.RATE_LIMIT,
        5.0,
    ),
    # freelawproject/courtlistener#7655
    (
        "courtlistener-7655",
        429,
        '{"detail":"Request was throttled. Rate limit exceeded: 5/min. Expected available in 48 seconds."}',
        Kind.RATE_LIMIT,
        48.0,
    ),
    # PokeAPI/pokeapi#248
    (
        "pokeapi-248",
        429,
        'StatusCodeError: 429 - {"detail":"Request was throttled. Expected available in 831.0 seconds."}',
        Kind.RATE_LIMIT,
        831.0,
    ),
    # ecmwf/WeatherGenerator#1482
    (
        "weathergenerator-1482",
        429,
        (
            '{"error_code": "RESOURCE_EXHAUSTED", "message": "Too many requests. Please wait a moment and try again. If '
            'the issue persists, consider adjusting your request frequency or reaching out to support for assistance."}'
        ),
        Kind.RATE_LIMIT,
        None,
    ),
    # databricks-demos/dbdemos#244
    (
        "dbdemos-244",
        429,
        (
            '{"error_code": "REQUEST_LIMIT_EXCEEDED", "message": "There are already 5 active runs (limit: 5).", "details": '
            '[{"@type": "type.googleapis.com/google.rpc.RequestInfo", "request_id": "d7b0", "serving_data": ""}]}'
        ),
        Kind.RATE_LIMIT,
        None,
    ),
    # ssc-sp/datahub-portal#362
    (
        "datahub-portal-362",
        429,
        "Error: REQUEST_LIMIT_EXCEEDED: GetUserPermissionsRequest RPC token bucket limit has been exceeded.",
        Kind.RATE_LIMIT,
        None,
    ),
    # GordeyZuev/LEAP#6
    (
        "leap-6",
        429,
        (
            "{'error': 'Too Many Requests', 'message': 'You have exceeded your usage limits. Please try again later or "
            "contact Fireworks to explore dedicated capacity.'}"
        ),
        Kind.RATE_LIMIT,
        None,
    ),
    # pgainullin/pa-workflow#20
    (
        "pa-workflow-20",
        503,
        (
            "503 UNAVAILABLE. {'error': {'code': 503, 'message': 'The model is overloaded. Please try again later.', "
            "'status': 'UNAVAILABLE'}}"
        ),
        Kind.OVERLOADED,
        None,
    ),
    # AkshitIreddy/AI-Powered-Video-Tutorial-Generator#3
    (
        "ai-powered-video-tutorial-generator-3",
        404,
        (
            "cohere.error.CohereAPIError: model not found, make sure the correct model ID was used and that you have "
            "access to the model."
        ),
        Kind.NOT_FOUND,
        None,
    ),
    # MaartenGr/BERTopic#1864
    (
        "bertopic-1864",
        None,
        (
            "CohereAPIError: model 'xlarge' not found, make sure the correct model ID was used and that you have access to "
            "the model."
        ),
        Kind.NOT_FOUND,
        None,
    ),
    # yym68686/uni-api#6
    (
        "uni-api-6",
        400,
        (
            "{\"message\": \"All command-r-plus error: {'message': 'invalid request: message must be at least 1 token long "
            "or tool results must be specified.'}\"}"
        ),
        Kind.INVALID_REQUEST,
        None,
    ),
    # kwaroran/Risuai#453
    (
        "risuai-453",
        400,
        '{"message": "invalid request: all elements in history must have a message."}',
        Kind.INVALID_REQUEST,
        None,
    ),
    # Kilo-Org/kilocode#1178
    (
        "kilocode-1178-stream",
        None,
        (
            "Unknown Error: The pending stream has been canceled (caused by: getaddrinfo ENOTFOUND "
            "bedrock-runtime.ap-east-1.amazonaws.com)"
        ),
        Kind.NETWORK,
        None,
    ),
    # Kilo-Org/kilocode#1178
    (
        "kilocode-1178-model",
        None,
        "Unknown Error: The provided model identifier is invalid.",
        Kind.NOT_FOUND,
        None,
    ),
    # continuedev/continue#10277
    ("continue-10277", 401, "401 status code (no body)", Kind.AUTHENTICATION, None),
    # continuedev/continue#11800
    ("continue-11800", 403, "403 status code (no body)", Kind.PERMISSION, None),
    # agent0ai/agent-zero#539
    (
        "agent-zero-539",
        401,
        'Error response 401 while fetching https://api.mistral.ai/v1/chat/completions: {"detail":"Unauthorized"}',
        Kind.AUTHENTICATION,
        None,
    ),
    # pollinations/pollinations#4580
    (
        "pollinations-4580",
        403,
        (
            '{"error":"403 Forbidden","status":403,"details":{"error":{"message":"openai error: '
            'undefined","type":null,"param":null,"code":null},"provider":"openai"}}'
        ),
        Kind.PERMISSION,
        None,
    ),
    # appstrate/appstrate#138
    ("appstrate-138", 422, "422 status code (no body)", Kind.INVALID_REQUEST, None),
    # coolcline/CoolCline#36
    (
        "coolcline-36",
        401,
        (
            "API error occurred: Status 401 Content-Type application/json; charset=utf-8 Body \n{\n  "
            '"message":"Unauthorized",\n  "request_id":"933f233947ff6d346065bb297e4a4d56"\n}'
        ),
        Kind.AUTHENTICATION,
        None,
    ),
    # yym68686/uni-api#120
    (
        "uni-api-120",
        400,
        (
            "Error 400 with provider vertex API key: None: {'error': {'code': 400, 'message': 'Unable to submit request "
            "because it must have a text parameter. Add a text parameter and try again. Learn more: "
            "https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/gemini', 'status': 'INVALID_ARGUMENT'}}"
        ),
        Kind.INVALID_REQUEST,
        None,
    ),
    # yym68686/uni-api#41
    (
        "uni-api-41-429",
        429,
        (
            "429 Too Many Requests {\"error\":\"All claude-3-5-sonnet error: [{'error': {'code': 429, 'message': "
            "'Quota exceeded for aiplatform.googleapis.com/online_prediction_requests_per_base_model with base model: "
            "anthropic-claude-3-5-sonnet. Please submit a quota increase request. "
            "https://cloud.google.com/vertex-ai/docs/generative-ai/quotas-genai.', 'status': 'RESOUR"
        ),
        Kind.RATE_LIMIT,
        None,
    ),
    # rpurinton/gemini-php#4
    (
        "gemini-php-4",
        403,
        (
            "Error Code: 403,\nMessage: Permission 'aiplatform.endpoints.predict' denied on resource "
            "'//aiplatform.googleapis.com/projects/x/locations/us-east4/publishers/google/models/gemini-pro' (or it may "
            "not exist).,\nStatus: PERMISSION_DENIED"
        ),
        Kind.PERMISSION,
        None,
    ),
    # Kilo-Org/kilocode#2842
    (
        "kilocode-2842",
        403,
        (
            '{"error": {"message": {"error": {"code": 403, "message": "Permission denied on resource project '
            'gen-lang-client-xxxxx.", "status": "PERMISSION_DENIED", "details": [{"@type": '
            '"type.googleapis.com/google.rpc.ErrorInfo", "reason": "CONSUMER_INVALID", "domain": "googleapis.com", '
            '"metadata": {"service": "aiplatform.googleapis.com"}}]}}, "code": 403, "status": "Forbidden"}}'
        ),
        Kind.PERMISSION,
        None,
    ),
    # google-gemini/deprecated-generative-ai-python#10
    (
        "deprecated-generative-ai-python-10",
        403,
        (
            "403 Generative Language API has not been used in project 411082643095 before or it is disabled. Enable it by "
            "visiting "
            "https://console.developers.google.com/apis/api/generativelanguage.googleapis.com"
            "/overview?project=411082643095 then retry. If you enabled this API recently, wait a few minutes for the "
            'action to propagate to our systems and retry. [links {\n  description: "Google developers console API '
            'activation"\n}\n, reason: "SERVICE_DISABLED"\ndomain: "googleapis.com"\n]'
        ),
        Kind.PERMISSION,
        None,
    ),
    # google/generative-ai-docs#356
    (
        "generative-ai-docs-356",
        403,
        (
            '{"error": {"code": 403, "message": "Permission denied: Consumer \'api_key:x\' has been suspended.", "status": '
            '"PERMISSION_DENIED", "details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": '
            '"CONSUMER_SUSPENDED", "domain": "googleapis.com", "metadata": {"service": '
            '"generativelanguage.googleapis.com"}}]}}'
        ),
        Kind.PERMISSION,
        None,
    ),
    # GoogleCloudPlatform/generative-ai#2008
    (
        "generative-ai-2008",
        None,
        (
            '<_InactiveRpcError of RPC that terminated with:\n\tstatus = StatusCode.PERMISSION_DENIED\n\tdetails = "Cloud '
            "Text-to-Speech API has not been used in project 522309567947 before or it is disabled. Enable it by visiting "
            "https://console.developers.google.com/apis/api/texttospeech.googleapis.com/overview?project=522309567947 then "
            "retry. If you enabled this API recently, wait a few minutes for the action to propagate to our systems and "
            'retry."\n>'
        ),
        Kind.PERMISSION,
        None,
    ),
    # google-gemini/deprecated-generative-ai-python#294
    (
        "deprecated-generative-ai-python-294",
        504,
        "google.api_core.exceptions.DeadlineExceeded: 504 Deadline Exceeded",
        Kind.TIMEOUT,
        None,
    ),
    # googleapis/python-datastore#432
    (
        "python-datastore-432",
        None,
        (
            "google.api_core.exceptions.RetryError: Deadline of 60.0s exceeded while calling target function, last "
            "exception: 504 Deadline Exceeded"
        ),
        Kind.TIMEOUT,
        None,
    ),
    # patibandlavenkatamanideep/memoryops-ai#142
    (
        "memoryops-ai-142",
        400,
        "400 INVALID_ARGUMENT\nManually set deadline 8s is too short. Minimum allowed deadline is 10s.",
        Kind.INVALID_REQUEST,
        None,
    ),
    # continuedev/continue#10778
    (
        "continue-10778",
        400,
        '400 "Incorrect API key provided: na***ys. You can obtain an API key from https://console.x.ai."',
        Kind.AUTHENTICATION,
        None,
    ),
    # nark/WiredSwift#44
    (
        "wiredswift-44",
        401,
        (
            'LLM error: HTTP 401: {"error":{"message":"Invalid API '
            'Key","type":"invalid_request_error","code":"invalid_api_key"}}'
        ),
        Kind.AUTHENTICATION,
        None,
    ),
    # continuedev/continue#11714
    ("continue-11714", 401, "401 Invalid API Key", Kind.AUTHENTICATION, None),
    # continuedev/continue#10250
    (
        "continue-10250",
        401,
        (
            "401 Incorrect API key provided: https://****lETQ. You can find your API key at "
            "https://platform.openai.com/account/api-keys."
        ),
        Kind.AUTHENTICATION,
        None,
    ),
    # continuedev/continue#11331
    (
        "continue-11331",
        None,
        "Unable to connect to local Ollama instance. Ollama may not be installed or may not running.",
        Kind.NETWORK,
        None,
    ),
    # continuedev/continue#12740
    (
        "continue-12740",
        None,
        'The model "llama3.1:8b" was not found. To download it, run `ollama run llama3.1:8b`.',
        Kind.NOT_FOUND,
        None,
    ),
    # continuedev/continue#11953
    ("continue-11953", 500, '"llama runner process has terminated: %!w(<nil>)"', Kind.SERVER_ERROR, None),
    # continuedev/continue#12843
    (
        "continue-12843",
        500,
        '"an error was encountered while running the model: unexpected EOF"',
        Kind.SERVER_ERROR,
        None,
    ),
    # continuedev/continue#10536
    ("continue-10536", 500, '"llama runner process has terminated: CUDA error"', Kind.SERVER_ERROR, None),
    # vybestack/llxprt-code#775
    (
        "llxprt-code-775",
        404,
        '[API Error: {"error":{"message":"404 page not found","code":404,"status":"Not Found"}} (Status: 404)]',
        Kind.NOT_FOUND,
        None,
    ),
    # aws-samples/assessment-generator#2
    (
        "assessment-generator-2",
        400,
        (
            '{"errorType": "ValidationException", "errorMessage": "Input is too long for requested model.", "name": '
            '"ValidationException", "$fault": "client", "$metadata": {"httpStatusCode": 400, "requestId": "16fb", '
            '"attempts": 1, "totalRetryDelay": 0}}'
        ),
        Kind.CONTEXT_LENGTH,
        None,
    ),
    # aws-samples/bedrock-chat#95
    (
        "bedrock-chat-95",
        None,
        (
            "EventStreamError: An error occurred (validationException) when calling the InvokeModelWithResponseStream "
            "operation: Input is too long for requested model."
        ),
        Kind.CONTEXT_LENGTH,
        None,
    ),
    # bytedance/UI-TARS-desktop#626
    (
        "ui-tars-desktop-626",
        422,
        (
            '422 "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 65537. Given: 79993 `inputs` '
            'tokens and 1024 `max_new_tokens`"'
        ),
        Kind.CONTEXT_LENGTH,
        None,
    ),
    # danilop/multimodal-chat#7
    (
        "multimodal-chat-7",
        None,
        (
            "An error occurred (AccessDeniedException) when calling the Converse operation: You don't have access to the "
            "model with the specified model ID."
        ),
        Kind.PERMISSION,
        None,
    ),
    # aws-samples/amazon-bedrock-workshop#386
    (
        "amazon-bedrock-workshop-386",
        404,
        (
            "ResourceNotFoundException: An error occurred (ResourceNotFoundException) when calling the InvokeModel "
            "operation: Access denied. This Model is marked by provider as Legacy and you have not been actively using the "
            "model in the last 15 days. Please upgrade to an active model on Amazon Bedrock"
        ),
        Kind.NOT_FOUND,
        None,
    ),
    # awslabs/llmeter#35
    (
        "llmeter-35",
        None,
        (
            "An error occurred (ResourceNotFoundException) when calling the Converse operation: Access denied. This Model "
            "is marked by provider as Legacy and you have not been actively using the model in the last 15 days. Please "
            "upgrade to an active model on Amazon Bedrock"
        ),
        Kind.NOT_FOUND,
        None,
    ),
    # ministryofjustice/modernisation-platform-environments#18323
    (
        "modernisation-platform-environments-18323",
        500,
        (
            '{"error":{"message":"litellm.APIConnectionError: BedrockException - {\\"message\\":\\"Model access is denied '
            "due to IAM user or service role is not authorized to perform the required AWS Marketplace actions "
            "(aws-marketplace:ViewSubscriptions, aws-marketplace:Subscribe) to enable access to this model. Refer to the "
            "Amazon Bedrock documentation for further details. Your AWS Marketplace subscription for this model cannot be "
            'completed at this time. If you recently fixed this issue, try again after 5 minutes.\\"}."}}'
        ),
        Kind.PERMISSION,
        None,
    ),
    # aws-samples/amazon-bedrock-client-for-mac#11
    (
        "amazon-bedrock-client-for-mac-11",
        400,
        (
            "ValidationException(message: Optional(\"1 validation error detected: Value 'anthropic.claude-v2:0:100k' at "
            "'modelId' failed to satisfy constraint: Member must satisfy regular expression pattern: "
            '(arn:aws(-[^:]+)?:bedrock:[a-z0-9-]{1,20}:(([0-9]{12}:custom-model/[a-z0-9-]{1,63}))"))'
        ),
        Kind.INVALID_REQUEST,
        None,
    ),
    # open-webui/computer#293
    (
        "computer-293",
        429,
        (
            '{"error":{"message":"Provider returned error","code":429,"metadata":{"raw":"z-ai/glm-5.3-flash is temporarily '
            "rate-limited upstream. Please retry shortly, or add your own key to accumulate your rate limits: "
            '...","provider_name":"BaseTen","limit_source":"upstream_provider_shared_pool","remedy_hint":"Retry shortly, '
            'add your own provider key, or route to another provider"}}}'
        ),
        Kind.RATE_LIMIT,
        None,
    ),
    # diegosouzapw/OmniRoute#3044
    (
        "omniroute-3044",
        400,
        (
            '{"error": {"message": "Provider returned error", "code": 400, "metadata": {"raw": '
            '"{\\"error\\":{\\"type\\":\\"invalid_request_error\\",\\"code\\":\\"invalid_request_error'
            '\\",\\"message\\":\\"Model \'moonshotai/kimi-k2.6\' supports at most 1 image per '
            'prompt.\\",\\"request_id\\":\\"req_x\\"}}", "provider_name": "Crucible", "is_byok": false}}, "user_id": '
            '"user_x"}'
        ),
        Kind.INVALID_REQUEST,
        None,
    ),
    # reVrost/go-openrouter#21
    (
        "go-openrouter-21",
        400,
        (
            '{"error": {"message": "Provider returned error", "code": 400, "metadata": {"raw": "{\\n  \\"error\\": {\\n    '
            "\\\"message\\\": \\\"Response input messages must contain the word 'json' in some form to use 'text.format' "
            'of type \'json_object\'.\\",\\n    \\"type\\": \\"invalid_request_error\\",\\n    \\"param\\": '
            '\\"input\\",\\n    \\"code\\": null\\n  }\\n}", "provider_name": "OpenAI"}}, "user_id": "org_2x...f5"}'
        ),
        Kind.INVALID_REQUEST,
        None,
    ),
    # decocms/studio#6827
    (
        "studio-6827",
        400,
        (
            "AI_APICallError: [Alibaba] \"'messages' must contain the word 'json' in some form, to use "
            "'response_format' of type 'json_object'.\""
        ),
        Kind.INVALID_REQUEST,
        None,
    ),
    # diegosouzapw/OmniRoute#1718
    (
        "omniroute-1718",
        400,
        (
            '{"error": {"message": "[400]: Error from provider: Provider returned error", "type": "invalid_request_error", '
            '"code": "bad_request"}, "upstream_details": {"error": {"message": "context_length_exceeded", "type": '
            '"invalid_request_error"}}}'
        ),
        Kind.CONTEXT_LENGTH,
        None,
    ),
    # nat/openplayground#143
    (
        "openplayground-143",
        401,
        (
            "Error code: 401 - {'error': {'message': 'The OpenAI account associated with this API key has been "
            "deactivated. If you are the developer for this OpenAI app, please check your email for more information. If "
            "you are seeing this error while using another app or site, please reach out to them for more help.', 'type': "
            "'invalid_request_error', 'param': None, 'code': 'account_deactivated'}}"
        ),
        Kind.AUTHENTICATION,
        None,
    ),
    # QwenLM/qwen-code#606
    (
        "qwen-code-606",
        400,
        (
            "OpenAI API Streaming Error: 400 <400> InternalError.Algo.InvalidParameter: An assistant message with "
            '"tool_calls" must be followed by tool messages responding to each "tool_call_id". The following tool_call_ids '
            "did not have response messages: message[532].role"
        ),
        Kind.INVALID_REQUEST,
        None,
    ),
    # minoism/freecc#2
    (
        "freecc-2",
        400,
        (
            'API Error: 400 {"detail":"litellm.BadRequestError: OpenAIException - An assistant message with \'tool_calls\' '
            "must be followed by tool messages responding to each 'tool_call_id'. The following tool_call_ids did not have "
            'response messages: call_sVab"}'
        ),
        Kind.INVALID_REQUEST,
        None,
    ),
    # langgenius/dify#32222
    (
        "dify-32222",
        400,
        (
            '[models] Error: API request failed with status code 400: {"error":{"message":"An assistant message with '
            "'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. (insufficient tool messages "
            'following tool_calls message)","type":"invalid_request_error"}}'
        ),
        Kind.INVALID_REQUEST,
        None,
    ),
    # MoonshotAI/kimi-cli#2405
    (
        "kimi-cli-2405",
        400,
        (
            "Error: [provider.api_error] 400 an assistant message with 'tool_calls' must be followed by tool messages "
            "responding to each 'tool_call_id'. The following tool_call_ids did not have response messages: Agent:0"
        ),
        Kind.INVALID_REQUEST,
        None,
    ),
    # huggingface/text-generation-inference#439
    (
        "text-generation-inference-439",
        429,
        '{"error":"Model is overloaded","error_type":"overloaded"}',
        Kind.OVERLOADED,
        None,
    ),
    # philschmid/easyllm#34
    ("easyllm-34", None, "OverloadedError: Model is overloaded", Kind.OVERLOADED, None),
    # google-gemini/gemini-cli#7392
    (
        "gemini-cli-7392",
        503,
        (
            '[API Error: got status: UNAVAILABLE. {"error":{"code":503,"message":"The model is overloaded. Please try '
            'again later.","status":"UNAVAILABLE"}}]'
        ),
        Kind.OVERLOADED,
        None,
    ),
    # appatalks/eva-agent#83
    (
        "eva-agent-83",
        400,
        (
            '{"error": {"message": "Unsupported parameter: \'temperature\' is not supported with this model.", "type": '
            '"invalid_request_error", "param": "temperature", "code": "unsupported_parameter"}}'
        ),
        Kind.INVALID_REQUEST,
        None,
    ),
    # microsoft/vscode#255504
    (
        "vscode-255504",
        400,
        (
            'Request Failed: 400 { "error": { "message": "Unsupported value: \'temperature\' does not support 0.1 with '
            'this model. Only the default (1) value is supported.", "type": "invalid_request_error", "param": '
            '"temperature", "code": "unsupported_value" } }'
        ),
        Kind.INVALID_REQUEST,
        None,
    ),
    # xorbitsai/xagent#437
    (
        "xagent-437",
        400,
        (
            "OpenAI bad request:\nError code: 400 -\n{\n  'error': {\n    'message': \"'temperature' must be "
            "Float\",\n    'type': 'invalid request error',\n    'param': None,\n    'code': 'invalid value'\n  "
            "},\n  'request_id': 'chatcmpl-x'\n}"
        ),
        Kind.INVALID_REQUEST,
        None,
    ),
    # anthropics/claude-code#10612
    (
        "claude-code-10612",
        400,
        (
            "API Error: 400\n    "
            '{"type":"error","error":{"type":"invalid_request_error","message":"messages.0.co'
            "ntent.2.image.source.base64:\n    image exceeds 5 MB maximum: 15908784 bytes > 5242880 "
            'bytes"},"request_id":"req_011"}'
        ),
        Kind.INVALID_REQUEST,
        None,
    ),
    # AIDotNet/OpenDeepWiki#269
    (
        "opendeepwiki-269",
        429,
        (
            'System.ClientModel.ClientResultException: Request failed with status code 429: {"message":"Request was '
            'rejected due to rate limiting. Details: TPM limit reached.","data":null}'
        ),
        Kind.RATE_LIMIT,
        None,
    ),
    # infiniflow/ragflow#6542
    (
        "ragflow-6542",
        None,
        (
            "**ERROR**: MAX_RETRIES_EXCEEDED - Error code: 429 - {'message': 'Request was rejected due to rate limiting. "
            "Details: TPM limit reached.', 'data': None}"
        ),
        Kind.RATE_LIMIT,
        None,
    ),
    # Vizards/deepseek-v4-for-copilot#279
    (
        "deepseek-v4-for-copilot-279",
        None,
        (
            "status_code=429, TPM (Tokens Per Minute) limit of the model deepseek-v4-1-flash is exceeded. Please try again "
            "later"
        ),
        Kind.RATE_LIMIT,
        None,
    ),
    # PaddlePaddle/ERNIE#1031
    (
        "ernie-1031",
        429,
        (
            "openai.RateLimitError: Error code: 429 - {'error': {'code': 'rpm_rate_limit_exceeded', 'message': 'Rate limit "
            "reached for RPM', 'type': 'rate_limit_exceeded'}, 'id': 'as-wbx23eriqh'}"
        ),
        Kind.RATE_LIMIT,
        None,
    ),
    # meta-llama/llama-models#354
    (
        "llama-models-354",
        429,
        (
            "API Error (Llama-3.3-8B-Instruct): Error code: 429 - {'title': 'Too Many Requests', 'detail': 'You have "
            "exceeded the maximum number of tokens allowed within a given time frame. Wait a bit and try again.', "
            "'status': 429}"
        ),
        Kind.RATE_LIMIT,
        None,
    ),
    # microsoft/vscode-copilot-release#5795
    (
        "vscode-copilot-release-5795",
        None,
        (
            "Sorry, you have been rate-limited. Please wait a moment before trying again. Learn More\n\nServer Error: "
            "Sorry, you have exceeded your Copilot token usage. Please review our Terms of Service. Error Code: "
            "rate_limited"
        ),
        Kind.RATE_LIMIT,
        None,
    ),
    # github/copilot-cli#2696
    (
        "copilot-cli-2696",
        None,
        (
            "Sorry, you've hit a rate limit that restricts the number of Copilot model requests you can make within a "
            "specific time period. Please try again in 58 hours. Please review our Terms of Service"
        ),
        Kind.RATE_LIMIT,
        208800.0,
    ),
    # microsoft/vscode-copilot-release#4925
    (
        "vscode-copilot-release-4925",
        None,
        "Sorry, your request was rate-limited. Please wait 28 minutes before trying again.",
        Kind.RATE_LIMIT,
        1680.0,
    ),
    # microsoft/vscode-copilot-release#3519
    (
        "vscode-copilot-release-3519",
        None,
        "Sorry, your request was rate-limited. Please wait 10 hours 58 minutes before trying again.",
        Kind.RATE_LIMIT,
        39480.0,
    ),
    # BerriAI/litellm#13898
    (
        "litellm-13898",
        429,
        (
            "429: LiteLLM Rate Limit Handler for rate limit type = team. Crossed TPM / RPM / Max Parallel Request Limit. "
            "current rpm: 1, rpm limit: 15, current tpm: 12260, tpm limit: 5000, current max_parallel_requests: 0, "
            "max_parallel_requests: 9223372036854775807"
        ),
        Kind.RATE_LIMIT,
        None,
    ),
    # BerriAI/litellm#20615
    (
        "litellm-20615",
        400,
        "Message: Budget has been exceeded! Current cost: 76.16, Max budget: 10.0",
        Kind.QUOTA_EXHAUSTED,
        None,
    ),
    # CSOAI-ORG/councilof-ai#1102
    (
        "councilof-ai-1102",
        403,
        (
            '{"error":"This authentication method does not have sufficient permissions to call Inference Providers on '
            'behalf of user x"}'
        ),
        Kind.PERMISSION,
        None,
    ),
    # huggingface/agents-course#558
    (
        "agents-course-558",
        403,
        (
            "403 Forbidden: This authentication method does not have sufficient permissions to call Inference Providers on "
            "behalf of user x.\nCannot access content at: "
            "https://router.huggingface.co/hf-inference/models/meta-llama/Llama-3.3-70B-Instruct.\nMake sure your token "
            "has the correct permissions."
        ),
        Kind.PERMISSION,
        None,
    ),
    # openai/openai-python#2065
    (
        "openai-python-2065",
        None,
        "RemoteProtocolError: peer closed connection without sending complete message body (incomplete chunked read)",
        Kind.NETWORK,
        None,
    ),
    # Wei-Shaw/sub2api#4192
    (
        "sub2api-4192",
        503,
        "503 Service temporarily unavailable (1b1c5c1367829adad320015f1d488753/17fedf72-06c7-4896-9852-46541c011ffc)",
        Kind.SERVICE_UNAVAILABLE,
        None,
    ),
    # router-for-me/EasyCLIProxyAPI#118
    (
        "easycliproxyapi-118",
        503,
        (
            "unexpected status 503 Service Unavailable: auth_unavailable: no auth available "
            "(providers=openai-compatible-ustc, model=k3), url: http://127.0.0.1:8317/v1/responses"
        ),
        Kind.SERVICE_UNAVAILABLE,
        None,
    ),
    # anthropics/claude-code#2909
    (
        "claude-code-2909-404",
        404,
        'API Error: 404 {"type":"error","error":{"type":"not_found_error","message":"model: \n     sonnet"}}',
        Kind.NOT_FOUND,
        None,
    ),
    # anthropics/claude-code#50229
    (
        "claude-code-50229",
        None,
        (
            "There's an issue with the selected model (claude-haiku-4-5-20251001). It may not exist or you may not have "
            "access to it. Run /model to pick a different model."
        ),
        Kind.NOT_FOUND,
        None,
    ),
    # ECuiDev/obsidian-quiz-generator#45
    (
        "obsidian-quiz-generator-45",
        404,
        (
            '404 {"type": "error","error": {"type":"not_found_error","message":"model:claude-3-sonnet-20240229},\n'
            '"request_id":"req_01C}'
        ),
        Kind.NOT_FOUND,
        None,
    ),
    # continuedev/continue#12161
    (
        "continue-12161",
        404,
        (
            '{"message":"mwsgpt.NotFoundError: AnthropicException - '
            'b\'{\\"type\\":\\"error\\",\\"error\\":{\\"type\\":\\"not_found_error\\",\\"message\\":\\"model: '
            'claude-3-5-sonnet-latest\\"},\\"request_id\\":\\"req_011\\"}\'. Received Model '
            'Group=claude-3-5-sonnet\\nAvailable Model Group Fallbacks=None","type":null,"param":null,"code":"404"}'
        ),
        Kind.NOT_FOUND,
        None,
    ),
    # anthropics/claude-code#68120
    (
        "claude-code-68120",
        404,
        (
            'Error: 404 {"type":"error","error":{"type":"not_found_error","message":"Claude Fable 5 is not available. '
            'Please use Opus 4.8. Learn more: https://www.anthropic.com/news/fable-mythos-access"},"request_id":"req_011"}'
        ),
        Kind.NOT_FOUND,
        None,
    ),
    # mattermost/mattermost-plugin-agents#257
    (
        "mattermost-plugin-agents-257",
        None,
        (
            "non 200 response from anthropic: 404 Not Found\nBody:\n"
            '{"type":"error","error":{"type":"not_found_error","message":"model: claude-3-5-sonnet-20241022 "}}'
        ),
        Kind.NOT_FOUND,
        None,
    ),
    # vllm-project/vllm#20409
    (
        "vllm-20409",
        None,
        (
            "ValueError: This model's maximum context length is 16384 tokens. However, you requested 122946 tokens (112946 "
            "in the messages, 10000 in the completion). Please reduce the length of the messag"
        ),
        Kind.CONTEXT_LENGTH,
        None,
    ),
    # vllm-project/vllm#12165
    (
        "vllm-12165",
        None,
        (
            "ValueError: The prompt (total length 25938) is too long to fit into the model (context length 4096). Make "
            "sure that `max_model_len` is no smaller than the number of text tokens plus multimodal tokens."
        ),
        Kind.CONTEXT_LENGTH,
        None,
    ),
    # vllm-project/vllm#10440
    (
        "vllm-10440",
        None,
        "Input prompt (35247 tokens) is too long and exceeds limit of 1000",
        Kind.CONTEXT_LENGTH,
        None,
    ),
    # xorbitsai/inference#3785
    (
        "inference-3785",
        None,
        (
            "ValueError: [address=0.0.0.0:37591, pid=324770] The decoder prompt (length 17772) is longer than the maximum "
            "model length of 16384."
        ),
        Kind.CONTEXT_LENGTH,
        None,
    ),
    # OpenBMB/MiniCPM-V#1048
    (
        "minicpm-v-1048",
        400,
        (
            "openai.BadRequestError: Error code: 400 - {'error': {'message': 'The decoder prompt (length 2136) is longer "
            "than the maximum model length of 2048. }}"
        ),
        Kind.CONTEXT_LENGTH,
        None,
    ),
    # Azure-Samples/azure-sql-db-chatbot#3
    (
        "azure-sql-db-chatbot-3",
        403,
        '{"error":{"code":"403","message": "Access denied due to Virtual Network/Firewall rules."}}',
        Kind.PERMISSION,
        None,
    ),
    # rusiaaman/chat.md#2
    (
        "chat.md-2",
        404,
        'OpenAI API Error (404): {"error":{"code":"404","message": "Resource not found"}}',
        Kind.NOT_FOUND,
        None,
    ),
    # openai/codex#3764
    (
        "codex-3764",
        None,
        "stream disconnected before completion: Rate limit is exceeded. Try again in 17 seconds.",
        Kind.RATE_LIMIT,
        17.0,
    ),
    # openai/codex#7075
    (
        "codex-7075",
        None,
        "stream error: stream disconnected before completion: Rate limit reached for gpt-5-codex in organization org",
        Kind.RATE_LIMIT,
        None,
    ),
    # openai/codex#38000
    (
        "codex-38000",
        None,
        (
            "[System Error] stream disconnected before completion: An error occurred while processing your request. You "
            "can retry your request, or contact us through our help center at help.openai.com if the error persists. "
            "Please include the request ID 240ea33f in your message."
        ),
        Kind.SERVER_ERROR,
        None,
    ),
    # openai/codex#10985
    (
        "codex-10985",
        None,
        (
            "stream disconnected before completion: error sending request for url "
            "(https://chatgpt.com/backend-api/codex/responses)"
        ),
        Kind.NETWORK,
        None,
    ),
    # openai/codex#7197
    (
        "codex-7197",
        None,
        (
            "stream disconnected before completion: Transport error: Error while reading the server response: error "
            "decoding response body"
        ),
        Kind.NETWORK,
        None,
    ),
    # router-for-me/CLIProxyAPI#2410
    (
        "cliproxyapi-2410",
        None,
        "stream disconnected before completion: stream closed before response.completed",
        Kind.NETWORK,
        None,
    ),
    # google-gemini/gemini-cli#12214
    (
        "gemini-cli-12214",
        400,
        (
            '[API Error: [{"error": {"code": 400, "message": "The input token count (134123) exceeds the maximum number of '
            'tokens allowed (131072).", "errors": [{"message": "The input token count (134123) exceeds the maximum number '
            'of tokens allowed (131072).", "domain": "global", "reason": "badRequest"}], "status": "INVALID_ARGUMENT"}}]]'
        ),
        Kind.CONTEXT_LENGTH,
        None,
    ),
    # google-gemini/gemini-cli#3972
    (
        "gemini-cli-3972",
        400,
        (
            '[API Error: [{"error": {"code": 400, "message": "Please ensure that the number of function response parts is '
            'equal to the number of function call parts of the function call turn.", "errors": [{"message": "Please ensure '
            "that the number of function response parts is equal to the number of function call parts of the function call "
            'turn.", "domain": "global", "reason": "badRequest"}], "status": "INVALID_ARGUMENT"}}]]'
        ),
        Kind.INVALID_REQUEST,
        None,
    ),
    # HeyPuter/puter#1977
    (
        "puter-1977",
        None,
        (
            'Object { success: false, error: "429 You exceeded your current quota, please check your plan and billing '
            "details. For more information on this error, read the docs: "
            'https://platform.openai.com/docs/guides/error-codes/api-errors." }'
        ),
        Kind.QUOTA_EXHAUSTED,
        None,
    ),
    # openai/openai-quickstart-python#52
    (
        "openai-quickstart-python-52",
        None,
        "openai.error.RateLimitError: You exceeded your current quota, please check your plan and billing details.",
        Kind.QUOTA_EXHAUSTED,
        None,
    ),
    # Taiko3615/Danse-Macabre#2
    (
        "danse-macabre-2",
        429,
        "You exceeded your quota, please check your plan and billing details",
        Kind.QUOTA_EXHAUSTED,
        None,
    ),
    # anthropics/claude-code#51757
    (
        "claude-code-51757",
        None,
        "You're out of extra usage · resets Apr 23 at 4pm (America/Sao_Paulo)",
        Kind.QUOTA_EXHAUSTED,
        None,
    ),
    # anthropics/claude-code#12789
    (
        "claude-code-12789-429",
        429,
        (
            '[{"error":"Error: 429 '
            '{\\"type\\":\\"error\\",\\"error\\":{\\"type\\":\\"rate_limit_error\\",\\"message\\":\\"This request would '
            'exceed your account\'s rate limit. Please try again later.\\"},\\"request_id\\":\\"req_011\\"}\\n    at '
            't2.generate (file:///cli.js:459:9635)"}]'
        ),
        Kind.RATE_LIMIT,
        None,
    ),
    # anomalyco/opencode#12219
    (
        "opencode-12219-402",
        402,
        (
            "This request requires more credits, or fewer max_tokens. You requested up to 32000 tokens, but can only "
            "afford 0. To increase, visit https://openrouter.ai/settings/keys and create a key with a higher monthly limit"
        ),
        Kind.QUOTA_EXHAUSTED,
        None,
    ),
    # anomalyco/opencode#12219
    (
        "opencode-12219-prompt",
        402,
        (
            "Prompt tokens limit exceeded: 230799 > 91442. To increase, visit https://openrouter.ai/settings/keys and "
            "create a key with a higher monthly limit"
        ),
        Kind.QUOTA_EXHAUSTED,
        None,
    ),
    # tailcallhq/forgecode#571
    (
        "forgecode-571",
        None,
        (
            'Failed to parse OpenRouter response: {"error":{"error":{"message":"More credits are required to run this '
            "request. 128000 token capacity required, 19484 available. To increase, visit "
            'https://openrouter.ai/settings/keys and create a key with a higher limit","code":402},"code":402}}'
        ),
        Kind.QUOTA_EXHAUSTED,
        None,
    ),
    # RooCodeInc/Roo-Code#515
    (
        "roo-code-515",
        403,
        "403 Key limit exceeded. Manage it using https://openrouter.ai/keys",
        Kind.QUOTA_EXHAUSTED,
        None,
    ),
    # MCPJam/inspector#1287
    (
        "inspector-1287",
        None,
        (
            'An error occurred: {"ok":false,"error":"Key limit exceeded (total limit). Manage it using '
            'https://openrouter.ai/settings/keys"}'
        ),
        Kind.QUOTA_EXHAUSTED,
        None,
    ),
    # Gitlawb/openclaude#43
    (
        "openclaude-43",
        402,
        (
            'API Error: OpenAI API error 402: {"error":{"message":"Insufficient credits. This account never purchased '
            "credits. Make sure your key is on the correct account or org, and if so, purchase more at \n     "
            'https://openrouter.ai/settings/credits","code":402}}'
        ),
        Kind.QUOTA_EXHAUSTED,
        None,
    ),
    # abetlen/llama-cpp-python#416
    (
        "llama-cpp-python-416",
        None,
        "ValueError: Requested tokens exceed context window of 512",
        Kind.CONTEXT_LENGTH,
        None,
    ),
    # kortix-ai/suna#217
    (
        "suna-217",
        None,
        (
            'data: {"status": "error", "message": "Failed to make API call after 3 attempts. Last error: '
            "litellm.ContextWindowExceededError: litellm.BadRequestError: AnthropicError - "
            'b\'{\\"type\\":\\"error\\",\\"error\\":{\\"type\\":\\"invalid_request_error\\",\\"message\\":\\"prompt is too '
            'long: 205668 tokens > 200000 maximum\\"}}\'"}'
        ),
        Kind.CONTEXT_LENGTH,
        None,
    ),
    # zylon-ai/private-gpt#839
    (
        "private-gpt-839",
        None,
        (
            "ERROR: The prompt size exceeds the context window size and cannot be processed.GPT-J ERROR: The prompt "
            "is2614tokens and the context window is2048!"
        ),
        Kind.CONTEXT_LENGTH,
        None,
    ),
    # lmstudio-ai/lmstudio-bug-tracker#546
    (
        "lmstudio-bug-tracker-546",
        None,
        (
            "Trying to keep the first 111490 tokens when context the overflows. However, the model is loaded with context "
            "length of only 32768 tokens, which is not enough. Try to load the model with a larger context length, or "
            "provide a shorter input. Error Data: n/a, Additional Data: n/a"
        ),
        Kind.CONTEXT_LENGTH,
        None,
    ),
    # tinyhumansai/openhuman#2074
    ("openhuman-2074", 400, "token count 203783 exceeds model max context 202752", Kind.CONTEXT_LENGTH, None),
    # stackblitz/bolt.new#2449
    ("bolt.new-2449", None, "prompt is too long: 202095 tokens > 200000 maximum", Kind.CONTEXT_LENGTH, None),
    # Wei-Shaw/claude-relay-service#773
    (
        "claude-relay-service-773",
        429,
        "429 Too many concurrent requests. Limit: 1 concurrent requests",
        Kind.RATE_LIMIT,
        None,
    ),
    # QwenLM/qwen-code#3409
    (
        "qwen-code-3409",
        429,
        'Error: 429 "Too many concurrent requests for this model"',
        Kind.RATE_LIMIT,
        None,
    ),
    # QwenLM/qwen-code#3409
    ("qwen-code-3409-text", None, "Too many concurrent requests for this model", Kind.RATE_LIMIT, None),
    # MoonshotAI/kimi-cli#901
    (
        "kimi-cli-901",
        429,
        (
            "LLM provider error: Error code: 429 - {'error': {'message': \"We're receiving too many requests at the "
            "moment. Please wait a moment and try again.\", 'type': 'rate_limit_reached_error'}}"
        ),
        Kind.RATE_LIMIT,
        None,
    ),
    # wangyingsm/dr-strange#17
    (
        "dr-strange-17",
        429,
        (
            '{"error":{"message":"Too many requests. Your current concurrency is 5, which exceeds your concurrency limit '
            'of 5 based on your remaining balance. …","type":"rate_limit_error"}}'
        ),
        Kind.RATE_LIMIT,
        None,
    ),
    # continuedev/continue#11250
    ("continue-11250", 429, "429 Provider returned error", Kind.RATE_LIMIT, None),
    # tashfeenahmed/freellmapi#1206
    (
        "freellmapi-1206",
        None,
        "exceeded retry limit, last status: 429 Too Many Requests, request id: cd0cb454-5912-491c-aafc-0531bb9689ca",
        Kind.RATE_LIMIT,
        None,
    ),
    # voocel/ainovel-cli#79
    (
        "ainovel-cli-79",
        None,
        "[litellm: openrouter: timeout] stream idle timeout: no chunks received for 5m0s",
        Kind.TIMEOUT,
        None,
    ),
    # co-l/openfox#332
    (
        "openfox-332",
        None,
        'LLM stream error {"error":"Error: LLM stream idle timeout: no chunks received for 300000ms"}',
        Kind.TIMEOUT,
        None,
    ),
    # KunAgent/Kun#317
    (
        "kun-317",
        None,
        "Code: stream_idle_timeout\nSeverity: error\nMessage:\nmodel stream stalled for 45000ms without data",
        Kind.TIMEOUT,
        None,
    ),
    # rakyll/openai-go#24
    (
        "openai-go-24",
        None,
        (
            'error making request: Post "https://api.openai.com/v1/chat/completions": context deadline exceeded '
            "(Client.Timeout exceeded while awaiting headers)"
        ),
        Kind.TIMEOUT,
        None,
    ),
    # Wei-Shaw/sub2api#5827
    (
        "sub2api-5827",
        None,
        "Selected model is at capacity. Please try a different model.",
        Kind.OVERLOADED,
        None,
    ),
    # google-gemini/gemini-cli#23520
    (
        "gemini-cli-23520",
        503,
        (
            '{"error": {"code": 503, "details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "domain": '
            '"cloudcode-pa.googleapis.com", "reason": "MODEL_CAPACITY_EXHAUSTED"}], "message": "No capacity available for '
            'model on the server", "status": "UNAVAILABLE"}}'
        ),
        Kind.OVERLOADED,
        None,
    ),
    # FoundationAgents/OpenManus#746
    (
        "openmanus-746",
        429,
        (
            "OpenAI API error: Error code: 429 - {'error': {'code': 'rate_limit_error', 'message': 'This request would "
            "exceed the rate limit for your organization of 20,000 input tokens per minute. For details, refer to: "
            "https://docs.anthropic.com/en/api/rate-limits. You can see the response headers for current usage. Please "
            "reduce the prompt length or the maximum tokens requested, or try again later. You may also contact sales at "
            "https://www.anthropic.com/contact-sales to discuss your options for a rate limit increase.', 'type': "
            "'invalid_request_error', 'param': None}}"
        ),
        Kind.RATE_LIMIT,
        None,
    ),
    # mmz-001/knowledge_gpt#5
    (
        "knowledge_gpt-5",
        None,
        (
            "Rate limit reached for default-global-with-image-limits in organization org-x on requests per min. Limit: "
            "60.000000 / min. Current: 70.000000 / min. Contact support@openai.com if you continue to have issues. Please "
            "add a payment method to your account to increase your rate limit. Visit "
            "https://platform.openai.com/account/billing to add a payment method."
        ),
        Kind.RATE_LIMIT,
        None,
    ),
    # normandmickey/MrsStax#5
    (
        "mrsstax-5",
        None,
        (
            "'errors': {'error': [{'message': 'update vector: failed with status: 429%!!(MISSING)(EXTRA string=Rate limit "
            "reached for default-global-with-image-limits in organization org-x on requests per min. Limit: 60 / min. "
            "Please try again in 1s. Contact support@openai.com if you continue to have issues. Please add a payment "
            "method to your account to increase your rate limit.)'}]}}"
        ),
        Kind.RATE_LIMIT,
        1.0,
    ),
    # UKGovernmentBEIS/inspect_ai#2267
    (
        "inspect_ai-2267",
        403,
        (
            "Error code: 403 - {'code': 'The caller does not have permission to execute the specified operation', 'error': "
            "'Content violates usage guidelines. Team: [REDACTED], API key ID: [REDACTED], Model: grok-4-0709, Failed "
            "check: SAFETY_CHECK_TYPE_BIO'}"
        ),
        Kind.CONTENT_POLICY,
        None,
    ),
    # anthropics/claude-code#65116
    (
        "claude-code-65116",
        None,
        (
            "API Error: Claude Code is unable to respond to this request, which appears to violate our Usage Policy "
            "(https://www.anthropic.com/legal/aup). This request triggered restrictions on violative cyber content and was "
            "blocked under Anthropic's Usage Policy."
        ),
        Kind.CONTENT_POLICY,
        None,
    ),
    # anthropics/claude-code#6195
    (
        "claude-code-6195",
        400,
        (
            'API Error: 400 {"type":"error","error":{"type":"invalid_request_error","message":"Output blocked by '
            'content\n     filtering policy"},"request_id":null}'
        ),
        Kind.CONTENT_POLICY,
        None,
    ),
    # alan-turing-institute/t0-1#69
    (
        "t0-1-69",
        400,
        (
            "BadRequestError: Error code: 400 - {'error': {'message': 'Invalid prompt: your \nprompt was flagged as "
            "potentially violating our usage policy. Please try again \nwith a different prompt: \n"
            "https://platform.openai.com/docs/guides/reasoning#advice-on-prompting', 'type': \n'invalid_request_error', "
            "'param': None, 'code': 'invalid_prompt'}}"
        ),
        Kind.CONTENT_POLICY,
        None,
    ),
]


@pytest.mark.parametrize(
    ("status", "body", "kind", "delay"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_unseen_bodies(status: int | None, body: str, kind: Kind, delay: float | None) -> None:
    """Bodies that the rules were not written from get the right category and the wait they state."""
    failure = classify_evidence(Evidence(status=status, body=body))

    assert (kind, delay) == (failure.category, failure.retry_after)


@pytest.mark.parametrize(
    ("status", "body", "kind"), [case[1:4] for case in CASES], ids=[case[0] for case in CASES]
)
def test_unseen_texts(status: int | None, body: str, kind: Kind) -> None:
    """The same text as that of an exception, as SDKs raise it, means the same."""
    failure = classify_evidence(Evidence(status=status, exception=Exception(body)))

    assert kind == failure.category
