"""`resilience simulate`: the simulated provider on the command line, until Ctrl-C."""

from __future__ import annotations

import shlex
import signal
import threading
from collections.abc import Sequence
from typing import Annotated

import typer

from resilience.testing import Answer, ProviderSimulator, notation

_CLIENTS = "Primary,Secondary,Tertiary"


def simulate(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Where to listen on 127.0.0.1; 0 is any free port.")
    ] = 0,
    clients: Annotated[str, typer.Option(help="The clients to simulate, separated by commas.")] = _CLIENTS,
    outage: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CLIENT:START-END:BEHAVIOUR",
            help="What goes wrong when, in seconds since the start: Primary:2-7:503, Primary:8-9:429=3 (with "
            "Retry-After), Secondary:0-5:hang. Give it as often as you like.",
        ),
    ] = None,
    latency: Annotated[float, typer.Option(min=0, help="Seconds before each good answer.")] = 0.0,
) -> None:
    """Simulate LLM providers on this machine until Ctrl-C, then say what they were asked.

    Prints the environment to export, for the clients of `baml_src` or any OpenAI-compatible client.
    """
    # A supervisor, and a shell's `kill`, end us with SIGTERM: they get the summary too.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with ProviderSimulator.in_thread(clients=_names(clients), port=port) as simulator:
            _arrange(simulator, outage or (), latency)
            _run(simulator)
    except ValueError as exc:
        raise typer.BadParameter(str(exc)) from exc
    except OSError as exc:
        typer.echo(f"cannot listen on 127.0.0.1:{port}: {exc.strerror}; choose another --port", err=True)
        raise typer.Exit(1) from exc
    finally:
        signal.signal(signal.SIGTERM, before)


def _names(clients: str) -> list[str]:
    return [name.strip() for name in clients.split(",")]


def _arrange(simulator: ProviderSimulator, outages: Sequence[str], latency: float) -> None:
    for name in simulator.counts:
        simulator.client(name).set(Answer(delay=latency))
    for text in outages:
        planned = notation.outage(text)
        simulator.client(planned.client).outage(planned.start, planned.end, planned.behaviour)


def _run(simulator: ProviderSimulator) -> None:
    try:
        for name, value in simulator.environment().items():
            typer.echo(f"export {name}={shlex.quote(value)}")
        typer.echo("simulating until Ctrl-C", err=True)
        threading.Event().wait()
    except KeyboardInterrupt:
        typer.echo(_summary(simulator))


def _summary(simulator: ProviderSimulator) -> str:
    lines = [f"\n{simulator.elapsed():.1f} s, requests by client and what was sent:"]
    for name, sent in simulator.counts.items():
        told = ", ".join(f"{times} x {what}" for what, times in sorted(sent.items())) or "none"
        lines.append(f"{name:<12} {sum(sent.values()):>6}  {told}")
    return "\n".join(lines)
