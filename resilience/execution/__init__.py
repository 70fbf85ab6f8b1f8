"""Execute one call: fallback outermost, retry inside it, the circuit breaker inside that, then the client, then the record."""
