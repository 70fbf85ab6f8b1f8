"""A campaign of planted prompts and secrets: `uv run python benchmarks/leak_campaign.py [--events 2200] [--seed 1]`.

Each event is a failed call whose exception, headers or body repeat the prompt in some spelling, or hold a secret, in some place that a
provider or a caller controls. All levels of privacy are run. Then every sink is searched: the bytes of the history and its write-ahead log,
log lines, spans, standard error, metrics. It prints what it planted and found, and exits with 1 if a sink has anything.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import html
import io
import json
import logging
import random
import re
import sys
import tempfile
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

from resilience import BAMLErrorHandler, BreakerPolicy, RetryPolicy, Settings, telemetry
from resilience.prometheus import Exposition

LEVELS = ("off", "metadata", "hashed", "masked", "full")
MARK = "zqx"
"""Begins each planted word, so that one search finds all of them."""
KEY = "Zqk"
COMMON = ("was admitted on", "lives in", "owes", "wrote to", "is afraid of", "sold", "met")

SPELLINGS: dict[str, Callable[[str], str]] = {
    "verbatim": str,
    "upper": str.upper,
    "title": str.title,
    "underscores": lambda text: text.replace(" ", "_"),
    "dots": lambda text: text.replace(" ", "."),
    "commas": lambda text: text.replace(" ", ","),
    "plus": urllib.parse.quote_plus,
    "joined": lambda text: text.replace(" ", ""),
    "camel": lambda text: text.title().replace(" ", ""),
    "listed": lambda text: repr(text.split()),
    "numbered": lambda text: "; ".join(f"{at}: {word}" for at, word in enumerate(text.split())),
    "reversed": lambda text: " ".join(reversed(text.split())),
    "cut": lambda text: f"'{text[:14]}...'",
    "middle": lambda text: text[4:30],
    "url": urllib.parse.quote,
    "url, all": lambda text: "".join(f"%{byte:02X}" for byte in text.encode()),
    "url twice": lambda text: urllib.parse.quote(urllib.parse.quote(text)),
    "json": json.dumps,
    "json escapes": lambda text: "".join(f"\\u{ord(char):04x}" for char in text),
    "html": lambda text: html.escape(f'<b>"{text}"'),
    "html numbers": lambda text: "".join(f"&#{ord(char)};" for char in text),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 for urls": lambda text: base64.urlsafe_b64encode(text.encode()).decode().rstrip("="),
    "base64, cut": lambda text: base64.b64encode(text.encode()).decode()[2:30],
    "hexadecimal": lambda text: text.encode().hex(),
    "python bytes": lambda text: repr(text.encode()),
}


def card(rng: random.Random) -> str:
    """Return the number of a card that passes Luhn's check."""
    digits = [4, *(rng.randrange(10) for _ in range(14))]
    total = sum(digit if at % 2 else sum(divmod(2 * digit, 10)) for at, digit in enumerate(digits))
    return "".join(map(str, (*digits, -total % 10)))


def iban(rng: random.Random) -> str:
    """Return a German IBAN whose check digits hold."""
    account = f"{rng.randrange(10**17, 10**18)}"
    return f"DE{98 - int(f'{account}131400') % 97:02}{account}"


SECRETS: dict[str, Callable[[random.Random, str], str]] = {
    "OpenAI": lambda _, mark: f"sk-proj-{mark}abcdefgh",
    "AWS": lambda rng, mark: f"AKIA{mark.upper()}{rng.randrange(10**7, 10**8)}",
    "GitHub": lambda _, mark: f"ghp_{mark}abcdefghijklmnop",
    "Stripe": lambda _, mark: f"sk_live_{mark}abcdef",
    "Slack": lambda _, mark: f"xoxb-{mark}-abcdefgh",
    "JWT": lambda _, mark: f"eyJhbGciOiJIUzI1NiJ9.{mark}abcdefgh.{mark}xyz",
    "bearer": lambda _, mark: f"Bearer {mark}abcdefgh",
    "named": lambda _, mark: f"api_key={mark}abcdefgh",
    "password": lambda _, mark: f'"password": "{mark}!x"',
    "URL": lambda _, mark: f"postgres://user:{mark}pw@db.example.com/x",
    "Vercel": lambda _, mark: f"vck_{mark}abcdefgh",
    "LlamaCloud": lambda _, mark: f"llx-{mark}abcdefgh",
    "e-mail": lambda _, mark: f"{mark}@mail.example.org",
    "card": lambda rng, _: card(rng),
    "card, dashes": lambda rng, _: "-".join(re.findall("....", card(rng))),
    "card, underscores": lambda rng, _: "_".join(re.findall("....", card(rng))),
    "IBAN": lambda rng, _: iban(rng),
    "SSN": lambda rng, _: f"{rng.randrange(101, 660)}-{rng.randrange(10, 99)}-{rng.randrange(1000, 9999)}",
    "phone": lambda rng, _: f"+49 30 {rng.randrange(10**7, 10**8)}",
    "phone, US": lambda rng, _: f"({rng.randrange(201, 989)}) 555-{rng.randrange(1000, 9999)}",
}


def body_of(text: str, **fields: Any) -> dict[str, Any]:
    """Return the body of an error."""
    return {"error": {"message": f"Invalid value {text} in the request", **fields}}


PLACES: dict[str, Callable[[str], dict[str, Any]]] = {
    "message": lambda text: {"body": body_of(text)},
    "second sentence": lambda text: {"body": body_of("", detail=f"The input was refused. Got {text}")},
    "plain text": lambda text: {"body": f"The gateway says: {text}. Please try again later."},
    "page": lambda text: {"body": f"<html><title>Bad input {text}</title></html>"},
    "nested": lambda text: {"body": body_of(json.dumps(body_of(text)))},
    "long message": lambda text: {"body": body_of(f"{'very ' * 50} {text}")},
    "list": lambda text: {
        "body": {"detail": [{"msg": f"Input should be a list, got {text}", "type": "list_type"}]}
    },
    "code": lambda text: {"body": body_of("no", code=text)},
    "type": lambda text: {"body": body_of("no", type=text)},
    "status": lambda text: {"body": body_of("no", status=text)},
    "reason": lambda text: {"body": body_of("no", reason=text)},
    "id in body": lambda text: {"body": {**body_of("no"), "request_id": text}},
    "id": lambda text: {"headers": {"x-request-id": text}, "body": body_of("no")},
    "AWS id": lambda text: {"headers": {"x-amzn-requestid": text}, "body": body_of("no")},
    "ray": lambda text: {"headers": {"cf-ray": text}, "body": body_of("no")},
    "error type": lambda text: {"headers": {"x-amzn-errortype": text}, "body": body_of("no")},
    "other headers": lambda text: {"headers": {"retry-after": text, "server": text}, "body": body_of("no")},
    "class": lambda text: {"class": text},
    "class with body": lambda text: {"class": text, "body": body_of("no")},
    "text of the exception": lambda text: {"args": (text,)},
    "operating system": lambda text: {"os": text},
    "note": lambda text: {"note": text},
    "cause": lambda text: {"cause": text},
    "group": lambda text: {"group": body_of(text)},
    "finish reason": lambda text: {"finish_reason": text, "body": body_of("no")},
}


def exception_of(given: dict[str, Any]) -> Exception:
    """Return an exception as a library would raise it, with the planted text in one place."""
    if "os" in given:
        return OSError(111, given["os"])
    if "group" in given:
        return ExceptionGroup("several", [ValueError("x"), exception_of({"body": given["group"]})])
    name = re.sub(r"\W", "_", given.get("class", "ProviderError"))
    exc: Any = type(f"E{name}" if name[:1].isdigit() else name, (Exception,), {})(*given.get("args", ()))
    for attribute in ("body", "headers", "finish_reason"):
        if attribute in given:
            setattr(exc, attribute, given[attribute])
    if "body" in given or "headers" in given:
        exc.status_code = 400
    if "note" in given:
        exc.add_note(given["note"])
    if "cause" in given:
        exc.__cause__ = RuntimeError(given["cause"])
    failed: Exception = exc
    return failed


@dataclass
class Planted:
    """What was planted at one level.

    Attributes:
        counts: events by kind.
        numbers: digits of planted numbers, by their kind.
        where: what each mark was planted as.
    """

    counts: Counter[str] = field(default_factory=Counter)
    numbers: dict[str, str] = field(default_factory=dict)
    where: dict[str, str] = field(default_factory=dict)

    def echo(self, rng: random.Random, number: int) -> tuple[str, Exception]:
        """Return a prompt, and an exception that repeats it."""
        words = [f"{MARK}{_letters(rng)}" for _ in range(3)]
        prompt = f"{words[0].title()} {words[1]} {rng.choice(COMMON)} {words[2]}"
        if number % 7 == 0:
            prompt = " ".join(words[:2])
        place, spelling = rng.choice(list(PLACES)), rng.choice(list(SPELLINGS))
        self.counts["echo"] += 1
        self.where |= dict.fromkeys(words, f"echo, {spelling}, {place}")
        return prompt, exception_of(PLACES[place](SPELLINGS[spelling](prompt)))

    def secret(self, rng: random.Random, number: int) -> tuple[str, Exception]:
        """Return a prompt, and an exception that has a secret which is not of the prompt."""
        place, kind = rng.choice(list(PLACES)), rng.choice(list(SECRETS))
        mark = f"{KEY}{number:06}"
        text = SECRETS[kind](rng, mark)
        self.counts["secret"] += 1
        self.where[mark.lower()] = f"{kind}, {place}"
        digits = re.sub(r"\D", "", text)
        if mark not in text and mark.upper() not in text:
            self.numbers[digits] = f"{kind}, {place}"
        return "Summarise the meeting.", exception_of(PLACES[place](text))


def _letters(rng: random.Random) -> str:
    return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(6))


def settings_of(level: str, folder: Path) -> Settings:
    """Return settings with all that is written in one folder."""
    return Settings(
        privacy=level,
        store_url="memory://",
        database_url=f"sqlite:///{folder}/history.db",
        log_dir=folder / "logs",
    )


async def run(level: str, folder: Path, events: int, rng: random.Random) -> Planted:
    """Make the calls of one level."""
    planted = Planted()
    handler = BAMLErrorHandler(
        settings=settings_of(level, folder),
        retry=RetryPolicy(max_retries=0),
        breaker=BreakerPolicy(enabled=False),
    )

    async def ask(_prompt: str, exc: Exception) -> None:
        raise exc

    for number in range(events):
        prompt, exc = (planted.echo if number % 3 else planted.secret)(rng, number)
        with contextlib.suppress(Exception):
            # Not as an argument that is searched: the exception is what the provider answers.
            await handler.call_with_retry(lambda text, exc=exc: ask(text, exc), "Own", "Ask", prompt)
    await handler.aclose()
    return planted


def sinks(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of everything that was written."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield str(path.relative_to(folder)), path.read_bytes().decode("utf-8", "replace")


def readings(text: str) -> Iterator[str]:
    """Yield *text* in every reading in which a planted word may hide."""
    yield text
    yield urllib.parse.unquote_plus(urllib.parse.unquote(text))
    yield html.unescape(text)
    yield re.sub(r"\\+u([0-9a-fA-F]{4})", lambda match: chr(int(match[1], 16)), text)
    blobs = set(re.findall(r"[A-Za-z0-9+/_-]{12,}", text))
    for blob in blobs:
        piece = blob.translate(str.maketrans("-_", "+/"))
        for offset in range(4):
            part = piece[offset:][: (len(piece) - offset) // 4 * 4]
            with contextlib.suppress(ValueError):
                yield base64.b64decode(part).decode("utf-8", "ignore")
        with contextlib.suppress(ValueError):
            yield bytes.fromhex(blob).decode("utf-8", "ignore")


def found_in(text: str, planted: Planted) -> set[str]:
    """Return what was planted and stands in *text*."""
    found: set[str] = set()
    for reading in readings(text):
        lowered = reading.lower()
        found |= {planted.where.get(mark, mark) for mark in re.findall(rf"{MARK}[a-z]{{6}}", lowered)}
        found |= {planted.where.get(mark, mark) for mark in re.findall(rf"{KEY.lower()}\d{{6}}", lowered)}
    groups = re.findall(r"\d[\d ()._-]{7,}\d", text)
    return found | {
        planted.numbers[digits] for group in groups if (digits := re.sub(r"\D", "", group)) in planted.numbers
    }


def main(arguments: Iterable[str] | None = None) -> int:
    """Run the campaign. Return 1 if a sink has anything that was planted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=2200, help="planted events at each level")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    rng, started = random.Random(options.seed), time.monotonic()  # noqa: S311 - a seed, so that a run can be repeated
    total, leaks = 0, 0
    for level in LEVELS:
        with tempfile.TemporaryDirectory() as name:
            folder, spans, stderr = Path(name), io.StringIO(), io.StringIO()
            provider = TracerProvider()
            provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(out=spans)))
            telemetry.use(tracer_provider=provider)
            logging.basicConfig(level=logging.DEBUG, stream=stderr, force=True)
            with contextlib.redirect_stderr(stderr):
                planted = asyncio.run(run(level, folder, options.events, rng))
                settings = settings_of(level, folder)
                (folder / "metrics.txt").write_text(Exposition(settings).render())
            texts = [*sinks(folder), ("spans", spans.getvalue()), ("stderr", stderr.getvalue())]
            found = {sink: kinds for sink, text in texts if (kinds := found_in(text, planted))}
        total += planted.counts.total()
        leaks += sum(map(len, found.values()))
        size = sum(len(text) for _, text in texts)
        sys.stdout.write(
            f"{level}: {dict(planted.counts)} planted, {len(texts)} sinks of {size:,} characters, found {found}\n"
        )
        sys.stdout.flush()
    seconds = time.monotonic() - started
    sys.stdout.write(f"{total} events, {leaks} found, seed {options.seed}, {seconds:.0f} s\n")
    return int(leaks > 0)


if __name__ == "__main__":
    raise SystemExit(main())
