"""The examples for Docker Compose and Kubernetes: what they name exists in the application, in the command line and in themselves."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml  # type: ignore[import-untyped]  # ships no types
from support.pages import ROOT

from resilience.cli import app
from resilience.config import settings
from resilience.config.sources import PREFIX

EXAMPLES = ROOT / "examples"
MANIFESTS = sorted((EXAMPLES / "kubernetes").glob("*.yaml"))
EXIT_LIMIT = 5.0
"""The longest exit timeout that applies by default, in seconds."""
METRICS = {"/metrics", "/healthz"}
"""What `resilience metrics --serve` answers; tests/cli/test_metrics.py asks it."""


def documents(path: Path) -> list[Any]:
    return list(yaml.safe_load_all(path.read_text()))


def compose() -> Any:
    (only,) = documents(EXAMPLES / "compose.yaml")
    return only


def containers(path: Path) -> Iterator[Any]:
    for document in documents(path):
        yield from document["spec"].get("template", {}).get("spec", {}).get("containers", [])


def commands() -> Iterator[list[str]]:
    """Yield every command that starts a process of ours or of the application."""
    for path in MANIFESTS:
        yield from (container["command"] for container in containers(path))
    yield from (service["command"] for service in compose()["services"].values() if "build" in service)
    (line,) = re.findall(r"^CMD (\[.*\])$", (EXAMPLES / "Dockerfile").read_text(), re.MULTILINE)
    yield ast.literal_eval(line)


def parse(words: list[str]) -> None:
    """Parse a command line of `resilience` with commands that do nothing."""
    pending: list[Any] = [command := typer.main.get_command(app)]
    while pending:
        each = pending.pop()
        each.callback = None
        pending += getattr(each, "commands", {}).values()
    command.main(words, prog_name="resilience", standalone_mode=False)


def test_every_command_exists() -> None:
    """Commands of ours parse with their options; servers and workers are given modules and files that lie beside them."""
    seen = set()
    for program, *words in commands():
        seen.add(program)
        if program == "resilience":
            parse(words)
        elif program == "gunicorn":
            assert (EXAMPLES / words[words.index("-c") + 1]).exists()
        else:
            assert (EXAMPLES / f"{words[words.index('-A') + 1]}.py").exists()

    assert {"resilience", "gunicorn", "celery"} == seen


def test_every_setting_exists() -> None:
    """Each variable with our prefix in a manifest, in the compose file and in the image is one that a setting reads."""
    names = {
        each["name"] for path in MANIFESTS for container in containers(path) for each in container["env"]
    }
    for service in compose()["services"].values():
        names |= set(service.get("environment", {}))
    names |= set(re.findall(r"^ENV (\w+)=", (EXAMPLES / "Dockerfile").read_text(), re.MULTILINE))
    ours = {name for name in names if name.startswith(PREFIX)}

    assert {f"{PREFIX}DATABASE_URL", f"{PREFIX}REDIS_URL", f"{PREFIX}LOG_DIR"} <= ours
    assert ours <= set(settings.all_settings())


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_probes_ask_what_is_there(path: Path) -> None:
    """Probes name a port of their container and a path that it answers, the port is the one of the command, and volumes exist."""
    routes = set(re.findall(r'@app\.\w+\("(/[^"]*)"\)', (EXAMPLES / "fastapi_app.py").read_text()))
    pods = [document["spec"].get("template", {}).get("spec", {}) for document in documents(path)]
    volumes = {volume["name"] for pod in pods for volume in pod.get("volumes", [])}
    for container in containers(path):
        ports = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
        answered = METRICS if container["command"][0] == "resilience" else routes
        for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
            probe = container.get(kind, {"httpGet": None})["httpGet"]
            assert probe is None or (probe["port"] in ports and probe["path"] in answered), (
                container["name"],
                kind,
            )
        assert all(any(word.endswith(f":{port}") for word in container["command"]) for port in ports.values())
        assert {mount["name"] for mount in container.get("volumeMounts", [])} <= volumes


def test_services_lead_to_pods() -> None:
    """Each Service selects the labels of a Deployment and names a port of its containers; Prometheus is sent to the port of the metrics."""
    found = documents(EXAMPLES / "kubernetes" / "agents.yaml")
    template = next(each for each in found if each["kind"] == "Deployment")["spec"]["template"]
    ports = {
        port["name"]: port["containerPort"]
        for container in template["spec"]["containers"]
        for port in container["ports"]
    }
    services = [each for each in found if each["kind"] == "Service"]

    assert 2 == len(services)
    for service in services:
        assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
        assert all(port["targetPort"] in ports for port in service["spec"]["ports"])
    scraped = services[1]["metadata"]["annotations"]
    assert (str(ports["metrics"]), "/metrics") == (
        scraped["prometheus.io/port"],
        scraped["prometheus.io/path"],
    )


def test_a_pod_may_end_as_slowly_as_its_server() -> None:
    """The grace periods of a pod and of a compose service are longer than gunicorn's graceful timeout and the exit timeout together."""
    configuration: dict[str, Any] = {}
    exec((EXAMPLES / "gunicorn.conf.py").read_text(), configuration)  # noqa: S102 - ours
    needed = configuration["graceful_timeout"] + EXIT_LIMIT
    pod = documents(EXAMPLES / "kubernetes" / "agents.yaml")[0]["spec"]["template"]["spec"]

    assert pod["terminationGracePeriodSeconds"] > needed
    assert float(compose()["services"]["web"]["stop_grace_period"].removesuffix("s")) > needed


def test_compose_services_wait_for_what_they_need() -> None:
    """Every dependency is a service, and those that must be healthy have a health check."""
    services = compose()["services"]
    for service in services.values():
        for name, condition in service.get("depends_on", {}).items():
            assert ("healthcheck" in services[name]) == (condition["condition"] == "service_healthy")
