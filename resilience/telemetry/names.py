"""All names of telemetry: attributes, events, and one table of the metrics.

The semantic conventions for generative AI are still in development: each release of their package may rename constants
and move them. So the names of `gen_ai.*` are written here; they follow version 1.37.

OpenTelemetry's Prometheus exporter derives the name of a metric by fixed rules. `Metric.prometheus` follows them, so that
one dashboard reads both OpenTelemetry's metrics and those of `resilience metrics`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

SCOPE: Final = "resilience"
"""The instrumentation scope of our spans and metrics."""
SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.37.0"

# Dashboards and alerts of users depend on every name below: renaming one is a breaking change, also of its labels.

# --- attributes -------------------------------------------------------------------------------------------------

OPERATION: Final = "gen_ai.operation.name"
CHAT: Final = "chat"
PROVIDER: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
STREAM: Final = "gen_ai.request.stream"
TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
TOKEN_TYPE: Final = "gen_ai.token.type"  # noqa: S105 - the name of an attribute
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
ERROR_TYPE: Final = "error.type"
STATUS: Final = "http.response.status_code"
EXCEPTION_TYPE: Final = "exception.type"
EXCEPTION_MESSAGE: Final = "exception.message"

FUNCTION: Final = "baml.function"
CLIENT: Final = "resilience.client"
CLIENT_FINAL: Final = "resilience.client.final"
OUTCOME: Final = "resilience.outcome"
REQUEST_ID: Final = "resilience.request_id"
ATTEMPT: Final = "resilience.attempt"
ATTEMPTS: Final = "resilience.attempts"
FALLBACKS: Final = "resilience.fallbacks"
ACTION: Final = "resilience.action"
BACKOFF: Final = "resilience.backoff"
DENIED: Final = "resilience.denied"
RETRY_AFTER: Final = "resilience.retry_after"
FROM_CLIENT: Final = "resilience.from_client"
TO_CLIENT: Final = "resilience.to_client"

# --- events -----------------------------------------------------------------------------------------------------

ATTEMPT_EVENT: Final = "resilience.attempt"
"""An attempt failed."""
REFUSED_EVENT: Final = "resilience.refused"
"""A circuit refused the attempt: the client was not asked."""
FALLBACK_EVENT: Final = "resilience.fallback"
"""The call went on to another client. The event has the time of that step."""
EXCEPTION_EVENT: Final = "gen_ai.client.operation.exception"
"""The failure that ended the call, with the redacted message."""

PROVIDERS: Final = {
    "openai": "openai",
    "openai-generic": "openai",
    "openai-responses": "openai",
    "azure-openai": "azure.ai.openai",
    "anthropic": "anthropic",
    "aws-bedrock": "aws.bedrock",
    "vertex-ai": "gcp.vertex_ai",
    "google-ai": "gcp.gemini",
}
"""BAML's providers, in the words of the conventions. A provider that is missing here keeps its name."""

# --- metrics ----------------------------------------------------------------------------------------------------


class Kind(StrEnum):
    """Kinds of metrics, in the words of Prometheus."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Attributes:
        name: its name in OpenTelemetry.
        kind: counter, gauge or histogram.
        unit: its unit in the notation of OpenTelemetry, where braces hold a remark.
        help: what it counts or measures, and its labels.
    """

    name: str
    kind: Kind
    unit: str
    help: str

    @property
    def prometheus(self) -> str:
        """Its name in Prometheus, by OpenTelemetry's rules: the unit is spelled out, and counters end in `_total`."""
        # `{call}` and other units in braces are remarks, and the exporter leaves them out.
        name = self.name.replace(".", "_") + _UNITS.get(self.unit, "")
        if self.unit == "1" and self.kind is Kind.GAUGE:
            return name + "_ratio"
        return name + "_total" if self.kind is Kind.COUNTER else name


# Only units that the metrics below use. A new unit needs its word here, as OpenTelemetry's exporter spells it.
_UNITS: Final = {"s": "_seconds"}

SECONDS: Final = tuple(0.01 * 2**power for power in range(14))
"""Buckets of durations, from 0.01 to 81.92 seconds, as the conventions demand."""
TOKENS: Final = tuple(float(4**power) for power in range(14))
"""Buckets of token counts, from 1 to 67,108,864, as the conventions demand."""

OPERATION_DURATION: Final = Metric(
    "gen_ai.client.operation.duration", Kind.HISTOGRAM, "s", "How long one client took, its retries included."
)
FIRST_CHUNK: Final = Metric(
    "gen_ai.client.operation.time_to_first_chunk",
    Kind.HISTOGRAM,
    "s",
    "Time from the request of a streamed attempt to its first content. Opening events and pings are no content.",
)
TOKEN_USAGE: Final = Metric(
    "gen_ai.client.token.usage", Kind.HISTOGRAM, "{token}", "Tokens of one attempt, by gen_ai.token.type."
)
CALLS: Final = Metric(
    "resilience.calls", Kind.COUNTER, "{call}", "Calls that ended, by client, function and outcome."
)
CALL_DURATION: Final = Metric(
    "resilience.call.duration", Kind.HISTOGRAM, "s", "How long calls took, retries and fallbacks included."
)
ATTEMPT_DURATION: Final = Metric(
    "resilience.attempt.duration",
    Kind.HISTOGRAM,
    "s",
    "How long single attempts took, by client and error.type.",
)
FIRST_TOKEN: Final = Metric(
    "resilience.attempt.time_to_first_token",
    Kind.HISTOGRAM,
    "s",
    "Time from the request of a streamed attempt to its first content, by client.",
)
ATTEMPTS_MADE: Final = Metric(
    "resilience.attempts", Kind.COUNTER, "{attempt}", "Attempts that ended, by client and function."
)
ERRORS: Final = Metric(
    "resilience.errors", Kind.COUNTER, "{error}", "Attempts that failed, by client, function and error.type."
)
TOKENS_USED: Final = Metric(
    "resilience.tokens",
    Kind.COUNTER,
    "{token}",
    "Tokens of calls, by client, function and type (input, output).",
)
RETRIES: Final = Metric(
    "resilience.retries",
    Kind.COUNTER,
    "{retry}",
    "Retries by client and result: scheduled, succeeded (the call had its answer from one), exhausted, and those denied "
    "by the fleet's budget, by the deadline or by a stated wait that is too long.",
)
BREAKER_STATE: Final = Metric(
    "resilience.breaker.state",
    Kind.GAUGE,
    "{state}",
    "1 for the state a client's circuit is in, 0 for the others.",
)
BREAKER_FAILURE_RATE: Final = Metric(
    "resilience.breaker.failure_rate",
    Kind.GAUGE,
    "1",
    "Failed calls among all in the circuit's window, 0 to 1.",
)
BREAKER_TRANSITIONS: Final = Metric(
    "resilience.breaker.transitions",
    Kind.COUNTER,
    "{transition}",
    "Moves of circuits, by client, to_state and reason.",
)
BREAKER_REJECTED: Final = Metric(
    "resilience.breaker.rejected", Kind.COUNTER, "{attempt}", "Attempts a circuit refused, by client."
)
BREAKER_COOLDOWN: Final = Metric(
    "resilience.breaker.cooldown",
    Kind.GAUGE,
    "s",
    "Seconds during which a client will not be asked; 0 without a cool-down.",
)
RETRY_TOKENS: Final = Metric(
    "resilience.retry.budget", Kind.GAUGE, "{retry}", "Retries the fleet has left for a client."
)
FALLBACKS_TAKEN: Final = Metric(
    "resilience.fallbacks",
    Kind.COUNTER,
    "{fallback}",
    "Steps to another client, by from_client, to_client, reason and succeeded.",
)
QUEUE_DEPTH: Final = Metric(
    "resilience.history.queue_depth", Kind.GAUGE, "{record}", "Records that wait for the history's database."
)
LAG: Final = Metric(
    "resilience.history.lag", Kind.GAUGE, "s", "Seconds since the database had every record; 0 while it has."
)
FLUSH_DURATION: Final = Metric(
    "resilience.history.flush.duration", Kind.HISTOGRAM, "s", "How long transactions of the history took."
)
DROPPED: Final = Metric(
    "resilience.history.dropped",
    Kind.COUNTER,
    "{record}",
    "Records given up because the database was away too long.",
)
DEGRADED: Final = Metric(
    "resilience.degraded",
    Kind.GAUGE,
    "{process}",
    "Processes whose shared store is away, so that their own circuits decide.",
)
DAMAGED: Final = Metric(
    "resilience.damaged",
    Kind.COUNTER,
    "{value}",
    "Values that were read and not believed, by kind: circuit and transition of the store, log_line of a killed process.",
)
SOURCE_UP: Final = Metric(
    "resilience.source.up",
    Kind.GAUGE,
    "{source}",
    "1 when this source could be read for the text of Prometheus: history or circuits.",
)

# docs/reference.md lists these, and the dashboards may use no others: a test compares their queries with this table.
METRICS: Final = (
    OPERATION_DURATION,
    FIRST_CHUNK,
    TOKEN_USAGE,
    CALLS,
    CALL_DURATION,
    ATTEMPT_DURATION,
    FIRST_TOKEN,
    ATTEMPTS_MADE,
    ERRORS,
    TOKENS_USED,
    RETRIES,
    BREAKER_STATE,
    BREAKER_FAILURE_RATE,
    BREAKER_TRANSITIONS,
    BREAKER_REJECTED,
    BREAKER_COOLDOWN,
    RETRY_TOKENS,
    FALLBACKS_TAKEN,
    QUEUE_DEPTH,
    LAG,
    FLUSH_DURATION,
    DROPPED,
    DEGRADED,
    DAMAGED,
    SOURCE_UP,
)
"""All metrics. `OPERATION_DURATION`, `FIRST_CHUNK`, `TOKEN_USAGE`, and the durations of the history's flushes and its lag exist in OpenTelemetry
only. `SOURCE_UP` and `BREAKER_COOLDOWN` exist in the text of Prometheus only."""
