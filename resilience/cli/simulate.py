"""`resilience simulate`: the provider simulator on the command line, until Ctrl-C.

With it an agent of any language can be tried against faults that real providers show rarely: the variables that it prints point
a client at the simulator.
"""

from __future__ import annotations

import shlex
import signal
import sys
import threading
from collections.abc import Sequence
from typing import Annotated, Final

import typer

from resilience.cli.output import note, print_line, print_value
from resilience.testing import Answer, ProviderSimulator, notation

_CLIENTS: Final = "Primary,Secondary,Tertiary"
_CANNOT_LISTEN: Final = 1
"""The exit code when the port is taken."""


def simulate(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on at 127.0.0.1; 0 is any free port.")
    ] = 0,
    clients: Annotated[
        str, typer.Option(help="Names of the clients to simulate, separated by commas.")
    ] = _CLIENTS,
    outage: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CLIENT:START-END:BEHAVIOUR",
            help="A fault and its time in seconds since the start: Primary:2-7:503, Primary:8-9:429=3 (with a Retry-After of "
            "3 seconds), Secondary:0-5:hang, Primary:0-9:stream=stall@content (silence after half of a stream's content). Can be "
            "given several times.",
        ),
    ] = None,
    latency: Annotated[float, typer.Option(min=0, help="Seconds before each good answer.")] = 0.0,
    answer: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="The text of each good answer, such as the JSON that a function of your own parses. Without it answers fit the "
            "functions of the demo.",
        ),
    ] = None,
) -> None:
    """Simulate LLM providers on this machine until Ctrl-C, then print the requests they received.

    Prints the environment variables to export, for the clients of `baml_src` or of any provider that BAML has.
    """
    # A supervisor and a shell's `kill` send SIGTERM. As KeyboardInterrupt it ends with the summary, too.
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with ProviderSimulator.in_thread(clients=_names(clients), port=port) as simulator:
            _schedule(simulator, outage or (), Answer(answer, delay=latency))
            _run(simulator)
    except ValueError as exc:
        raise typer.BadParameter(str(exc)) from exc
    except OSError as exc:
        note(f"cannot listen on 127.0.0.1:{port}: {exc.strerror}; choose another --port")
        raise typer.Exit(_CANNOT_LISTEN) from exc
    finally:
        signal.signal(signal.SIGTERM, previous)


def _names(clients: str) -> list[str]:
    """Split the value of --clients. The simulator itself refuses empty and doubled names, with a message."""
    return [name.strip() for name in clients.split(",")]


def _schedule(simulator: ProviderSimulator, outages: Sequence[str], answer: Answer) -> None:
    """Tell the simulator how each client answers, and when one fails.

    Args:
        simulator: a running simulator.
        outages: values of --outage.
        answer: the good answer of every client.

    Raises:
        ValueError: an outage is not written as the option describes, or names a client that does not exist.
    """
    for name in simulator.counts:
        simulator.client(name).set(answer)
    for text in outages:
        outage = notation.outage(text)
        simulator.client(outage.client).outage(outage.start, outage.end, outage.behaviour)


def _run(simulator: ProviderSimulator) -> None:
    """Print the variables and wait for the end. The simulator answers in a thread of its own."""
    try:
        for name, value in simulator.environment().items():
            # Quoted for a shell, because these lines are pasted into one.
            print_value(f"export {name}={shlex.quote(value)}")
        sys.stdout.flush()  # a pipe is buffered, and the program that started us waits for the variables
        note("simulating until Ctrl-C")
        threading.Event().wait()
    except KeyboardInterrupt:
        _print_summary(simulator)


def _print_summary(simulator: ProviderSimulator) -> None:
    print_line("")
    print_line(f"{simulator.elapsed():.1f} s, requests by client and response:")
    width = max((len(name) for name in simulator.counts), default=0)
    for name, responses in simulator.counts.items():
        # Sorted, so that two runs can be compared line by line.
        parts = ", ".join(f"{count} x {response}" for response, count in sorted(responses.items())) or "none"
        print_line(f"{name:<{width}} {sum(responses.values()):>6}  {parts}")
