"""What is made of whole bodies of streams, as providers document and send them."""

from __future__ import annotations

import pytest

from resilience.baml.stream_outcome import StreamReading
from resilience.failure import ErrorCategory as Category


def read(provider: str, body: str) -> StreamReading:
    """Return the reading of a body of server-sent events: BAML hands on what stands after `data:`."""
    reading = StreamReading(provider)
    for line in body.splitlines():
        if line.startswith("data:"):
            reading.feed(line.removeprefix("data:"))
    return reading


AZURE = """\
data: {"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":[{"prompt_index":0,"content_filter_results":{"hate":{"filtered":false,"severity":"safe"}}}]}

data: {"choices":[{"content_filter_results":{},"delta":{"content":"","refusal":null,"role":"assistant"},"finish_reason":null,"index":0,"logprobs":null}],"id":"chatcmpl-1","object":"chat.completion.chunk"}

data: {"choices":[{"content_filter_results":{"hate":{"filtered":false}},"delta":{"content":"Hello"},"finish_reason":null,"index":0}],"id":"chatcmpl-1","object":"chat.completion.chunk"}

"""
AZURE_END = """\
data: {"choices":[{"content_filter_results":{},"delta":{},"finish_reason":"stop","index":0}],"id":"chatcmpl-1","object":"chat.completion.chunk"}

data: [DONE]

"""
AZURE_FILTERED = """\
data: {"error":{"message":"The response was filtered due to the prompt triggering Azure OpenAI's content management policy.","type":null,"param":"prompt","code":"content_filter","status":400,"innererror":{"code":"ResponsibleAIPolicyViolation","content_filter_result":{"jailbreak":{"filtered":true,"detected":true}}}}}

"""
OPENROUTER = """\
: OPENROUTER PROCESSING

data: {"id":"gen-1","provider":"X","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"role":"assistant","content":"Hel"},"finish_reason":null,"native_finish_reason":null}]}

data: {"id":"cmpl-1","object":"chat.completion.chunk","provider":"X","error":{"code":502,"message":"Provider disconnected unexpectedly"},"choices":[{"index":0,"delta":{"content":""},"finish_reason":"error","native_finish_reason":"error"}]}

data: [DONE]

"""
GROQ = """\
data: {"id":"chatcmpl-1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"Hel"},"finish_reason":null}],"x_groq":{"id":"req_1"}}

data: {"id":"chatcmpl-1","object":"chat.completion.chunk","choices":[],"x_groq":{"id":"req_1","error":"over_capacity: the model is overloaded"}}

"""
CEREBRAS = """\
data: {"error":{"message":"Encountered a server error, please try again.","type":"server_error","code":""},"status_code":500}

"""
TGI = """\
data: {"error":"Model is overloaded","error_type":"overloaded"}

"""
RESPONSES = """\
event: response.created
data: {"type":"response.created","sequence_number":0,"response":{"id":"resp_1","object":"response","status":"in_progress","error":null,"incomplete_details":null,"output":[],"usage":null}}

event: response.output_item.added
data: {"type":"response.output_item.added","output_index":0,"item":{"id":"msg_1","type":"message","status":"in_progress","role":"assistant","content":[]}}

event: response.output_text.delta
data: {"type":"response.output_text.delta","item_id":"msg_1","output_index":0,"content_index":0,"delta":"Hel"}

"""
RESPONSES_WHOLE = """\
event: response.output_text.delta
data: {"type":"response.output_text.delta","item_id":"msg_1","output_index":0,"content_index":0,"delta":"lo"}

event: response.completed
data: {"type":"response.completed","response":{"id":"resp_1","status":"completed","error":null,"incomplete_details":null,"output":[{"id":"rs_1","type":"reasoning","summary":[]},{"id":"msg_1","type":"message","role":"assistant","content":[{"type":"output_text","text":"Hello","annotations":[]}]}]}}

"""
RESPONSES_FAILED = """\
event: error
data: {"type":"error","sequence_number":2,"error":{"type":"unknown","code":null,"message":"An error occurred.","param":null}}

event: response.failed
data: {"type":"response.failed","sequence_number":3,"response":{"id":"resp_1","status":"failed","error":{"code":"rate_limit_exceeded","message":"Rate limit reached on tokens per min (TPM): Limit 30000, Used 29990, Requested 30."},"output":[]}}

"""
RESPONSES_COMPLETED_CUT = """\
event: response.completed
data: {"type":"response.completed","response":{"id":"resp_1","status":"incomplete","incomplete_details":{"reason":"max_output_tokens"},"output":[]}}

"""
ANTHROPIC = """\
event: message_start
data: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","content":[],"model":"claude","stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":25,"output_tokens":1}}}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}

event: ping
data: {"type": "ping"}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hello"}}

event: content_block_stop
data: {"type":"content_block_stop","index":0}

"""
ANTHROPIC_END = """\
event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":15}}

event: message_stop
data: {"type":"message_stop"}

"""
ANTHROPIC_OVERLOADED = """\
event: error
data: {"type":"error","error":{"details":null,"type":"overloaded_error","message":"Overloaded"},"request_id":"req_1"}

"""
ANTHROPIC_REFUSAL = """\
event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"refusal","stop_sequence":null,"stop_details":{"type":"refusal","category":"cyber","explanation":null}},"usage":{"output_tokens":15}}

event: message_stop
data: {"type":"message_stop"}

"""
GEMINI = """\
data: {"candidates":[{"content":{"parts":[{"text":"Hello"}],"role":"model"},"index":0}],"promptFeedback":{"blockReason":"BLOCK_REASON_UNSPECIFIED"},"usageMetadata":{"promptTokenCount":4,"totalTokenCount":6},"modelVersion":"gemini"}

"""
GEMINI_END = """\
data: {"candidates":[{"content":{"parts":[{"text":""}],"role":"model"},"finishReason":"STOP","index":0}],"usageMetadata":{"promptTokenCount":4,"totalTokenCount":6}}

"""
GEMINI_SAFETY = """\
data: {"candidates":[{"finishReason":"SAFETY","index":0,"safetyRatings":[{"category":"HARM_CATEGORY_HARASSMENT","probability":"HIGH","blocked":true}]}],"usageMetadata":{"promptTokenCount":4}}

"""
GEMINI_ERROR = """\
data: {"error":{"code":503,"message":"The model is overloaded. Please try again later.","status":"UNAVAILABLE"}}

"""

BODIES: list[tuple[str, str, Category | None]] = [
    ("azure-openai", AZURE + AZURE_END, None),
    ("azure-openai", AZURE, Category.OUTPUT_TRUNCATED),
    ("azure-openai", AZURE + AZURE_FILTERED, Category.CONTENT_POLICY),
    ("azure-openai", AZURE + AZURE_END + CEREBRAS, None),
    ("openai-generic", OPENROUTER, Category.SERVER_ERROR),
    ("openai-generic", GROQ, Category.OVERLOADED),
    ("openai-generic", CEREBRAS, Category.SERVER_ERROR),
    ("openai-generic", TGI, Category.OVERLOADED),
    ("openai-responses", RESPONSES + RESPONSES_WHOLE, None),
    ("openai-responses", RESPONSES + "data: {bro\n\n" + RESPONSES_WHOLE, None),
    ("openai-responses", RESPONSES, Category.OUTPUT_TRUNCATED),
    ("openai-responses", RESPONSES + RESPONSES_FAILED, Category.RATE_LIMIT),
    ("openai-responses", RESPONSES + RESPONSES_COMPLETED_CUT, Category.OUTPUT_TRUNCATED),
    ("anthropic", ANTHROPIC + ANTHROPIC_END, None),
    ("anthropic", ANTHROPIC, Category.OUTPUT_TRUNCATED),
    ("anthropic", ANTHROPIC + ANTHROPIC_REFUSAL, Category.CONTENT_POLICY),
    ("anthropic", ANTHROPIC + ANTHROPIC_OVERLOADED, Category.OVERLOADED),
    ("anthropic", ANTHROPIC + ANTHROPIC_END + ANTHROPIC_OVERLOADED, None),
    ("google-ai", GEMINI + GEMINI_END, None),
    ("google-ai", GEMINI, Category.OUTPUT_TRUNCATED),
    ("google-ai", GEMINI + GEMINI_SAFETY, Category.CONTENT_POLICY),
    ("vertex-ai", GEMINI + GEMINI_ERROR, Category.OVERLOADED),
    ("vertex-ai", GEMINI + GEMINI_END + GEMINI_ERROR, None),
    # An old model: its first event states STOP already, so what comes after it may be a part of the answer.
    ("vertex-ai", GEMINI_END + GEMINI_ERROR, Category.OVERLOADED),
]


@pytest.mark.parametrize(("provider", "body", "category"), BODIES)
def test_a_body(provider: str, body: str, category: Category | None) -> None:
    """A whole answer is one, whatever is sent beside and after it; else the provider's own words say what failed."""
    reading = read(provider, body)

    assert reading.verdict() is category
    assert category is not None or reading.text == "Hello"


def test_old_models_of_google_may_go_on() -> None:
    """`STOP` in the first event of a candidate may be repeated; after an event without it, it is final."""
    assert read("vertex-ai", GEMINI_END).finish_may_repeat
    assert not read("vertex-ai", GEMINI + GEMINI_END).finish_may_repeat
    assert not read("anthropic", ANTHROPIC + ANTHROPIC_END).finish_may_repeat
