"""`resilience demo`: a fleet of agent processes that survives outages of a simulated provider."""
