"""Reading `.baml` files: every legal spelling of a client is found, and nothing that only looks like one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience.baml.declarations import Client, read_declarations
from resilience.baml.routing import Router
from resilience.baml.syntax import Block, _SourceReader, blocks

PROMPT = '  prompt #"\n    {{ _.role("user") }} {{ it }}\n  "#\n'


def function(body: str, argument: str = "it: string", result: str = "string") -> str:
    return f"function Ask({argument}) -> {result} {{\n{body}}}\n"


SPELLINGS = {
    "plain": function("  client A\n" + PROMPT),
    "quoted": function('  client "A"\n' + PROMPT),
    "comment behind the client": function("  client A // the fast one\n" + PROMPT),
    "comment behind a quoted client": function('  client "A" // the fast one\n' + PROMPT),
    "comment without a space": function('  client "A"//the fast one\n' + PROMPT),
    "tabs": function("\tclient\t\tA\t\n" + PROMPT),
    "prompt first, with a line on clients": function(
        '  prompt #"\n    Tell\n    client Acme\n    {{ it }}\n  "#\n  client A\n'
    ),
    "another client in a block comment": function("  {//\n  client B\n  //}\n  client A\n" + PROMPT),
    "comments inside a comment": function(
        "  {// a {// b //} client B {// //} client B //}\n  client A\n" + PROMPT
    ),
    "the last of two clients": function("  client B\n  client A\n" + PROMPT),
    "another client in a line comment": function("  // client B\n  client A\n" + PROMPT),
    "block comment between key and value": function("  client {// B //} A\n" + PROMPT),
    "prompt of two hashes holding one of one": function(
        '  prompt ##"\n    say "#\n    client B\n    {{ it }}\n  "##\n  client A\n'
    ),
    "prompt of five hashes": function('  prompt #####"\n  "####\n  client B\n  "#####\n  client A\n'),
    "prompt with a language": function('  prompt markdown#"\n  client B\n  "#\n  client A\n'),
    "comment with a brace": function("  // a { here\n  client A\n" + PROMPT),
    "comment behind the opening brace": function("// } it\n  client A\n" + PROMPT),
    "literal type with a brace": function("  client A\n" + PROMPT, 'it: string | "{"'),
    "literal result with a brace": function("  client A\n" + PROMPT, result='"{" | "}"'),
    "arguments over several lines": function("  client A\n" + PROMPT, "\n  it: string, // {\n  b: int\n"),
    "attribute with jinja": function(
        "  client A\n" + PROMPT, result='string @assert(short, {{ this != "{" }})'
    ),
    "after a class with a field of that name": "class C {\n  client Client\n  a int//{\n}\n"
    + function("  client A\n" + PROMPT),
    "after a template that shows a function": 'template_string T() #"\nfunction Ask() -> x {\n client B\n}\n"#\n'
    + function("  client A\n" + PROMPT),
    "before a test that names another": function("  client A\n" + PROMPT)
    + 'test T {\n  functions [Ask]\n  args {\n    it "client B"\n  }\n}\n',
    "after a function of expressions": "function F(x: int) -> int {\n  if (x > 1) { 2 } else { 3 }\n}\n"
    + function("  client A\n" + PROMPT),
}


@pytest.mark.parametrize("ending", ["\n", "\r\n"], ids=["unix", "windows"])
@pytest.mark.parametrize("text", SPELLINGS.values(), ids=SPELLINGS)
def test_the_client_of_a_function_is_found_in_every_spelling(text: str, ending: str) -> None:
    """Comments, strings, line ends and neighbours do not change which client a function asks."""
    declared = read_declarations([text.replace("\n", ending)])

    assert "A" == declared.functions["Ask"]


@pytest.mark.parametrize(
    ("written", "client"),
    [
        ('"openai/gpt-4o@2024"', "openai/gpt-4o@2024"),
        ("openai/gpt-4o", "openai/gpt-4o"),
        ("openai/gpt-4o // fast", "openai/gpt-4o"),
        (
            '"openai-responses/gpt-5-mini" // Set OPENAI_API_KEY to use this client.',
            "openai-responses/gpt-5-mini",
        ),
    ],
)
def test_shorthands_are_clients(written: str, client: str) -> None:
    """A `provider/model` shorthand is a client by itself, quoted or not."""
    declared = read_declarations([function(f"  client {written}\n" + PROMPT)])

    assert {"Ask": client} == declared.functions


def test_an_unknown_client_is_not_guessed() -> None:
    """A function without a readable client is not listed, so that its calls go where BAML sends them."""
    declared = read_declarations([function(PROMPT), "function F(x: int) -> int { x }\n"])

    assert {} == declared.functions


def test_clients_with_their_options() -> None:
    """Strategies, retry policies, addresses without quotes and environment variables are read."""
    text = """
        retry_policy Patient {
          max_retries 3
          strategy { type constant_delay delay_ms 20 }
        }
        client<llm> One { // { not a block
          provider openai-generic
          retry_policy Patient
          options {
            base_url http://127.0.0.1:9/one
            api_key env.ONE_KEY
            headers { "X-Team" "{{ env.NOT_READ }}", other {{ env.TEAM }} }
            note "env.NOT_READ"
          }
        }
        client<llm> Chain {
          provider "baml-fallback"
          options { strategy [
              One, // first
              "openai/gpt-4o"
              Ring
            ]
          }
        }
        client<llm> Ring {
          provider round-robin
          options {
            start 1
            strategy [One, Two]
          }
        }
    """
    clients = read_declarations([text, 'client<llm> Two {\n  provider "anthropic"\n}']).clients

    assert ["One", "Chain", "Ring", "Two"] == list(clients)
    assert (
        Client(
            name="One",
            provider="openai-generic",
            retry_policy="Patient",
            max_retries=3,
            variables=("ONE_KEY", "TEAM"),
        )
        == (clients["One"])
    )
    assert ("One", "openai/gpt-4o", "Ring") == clients["Chain"].members
    assert 1 == clients["Ring"].start
    assert [True, True, True, False] == [client.multiplies for client in clients.values()]


def test_nested_strategies_have_their_leaves_in_order() -> None:
    """A nested strategy counts as its members, each client once; one that contains itself ends."""
    text = "".join(
        f"client<llm> {name} {{\n  provider fallback\n  options {{\n    strategy [{members}]\n  }}\n}}\n"
        for name, members in (("Outer", "A, Inner, B"), ("Inner", "C, A"), ("Loop", "A, Loop"))
    )
    declared = read_declarations([text])

    assert ("A", "C", "B") == declared.leaves("Outer")
    assert ("A",) == declared.leaves("Loop")
    assert ("Leaf",) == declared.leaves("Leaf")


@given(st.text(alphabet='abc {}[]()"#/\\\n\r\t,:@<>-._|1', max_size=60))
def test_no_text_stops_the_reader(text: str) -> None:
    """Any text is read to its end, also a broken one."""
    list(blocks(text))
    list(blocks("function F() -> string {" + text))
    list(blocks("client<llm> F { options { " + text))


NOISE = st.sampled_from(
    [
        "// client B {\n",
        "{// client B } //}\n",
        '\n  note #"client B }"#\n',
        '\n  note "client B }"\n',
        "\n  list [B, {// ] //} C]\n",
        "\n  map { client B }\n",
        "\n\n",
    ]
)


@given(before=st.lists(NOISE), after=st.lists(NOISE), name=st.sampled_from(["A", '"A"', "A // B", "A\r"]))
def test_noise_around_a_client_changes_nothing(before: list[str], after: list[str], name: str) -> None:
    """Comments, strings, lists and maps around the client are not taken for it."""
    text = function("".join(before) + f"\n  client {name}\n" + "".join(after) + PROMPT)

    assert [Block] == [type(block) for block in blocks(text)]
    assert {"Ask": "A"} == read_declarations([text]).functions


@pytest.mark.parametrize("nest", ["{\n", "a { a ", "[", "a [ { "])
def test_deep_nesting_is_skipped(nest: str) -> None:
    """Nesting beyond any real project neither raises a RecursionError nor hides what follows it."""
    deep = "client<llm> Deep { options { a " + nest * 10_000
    closed = (
        "client<llm> Deep {\n options {\n a " + "[" * 10_000 + "]" * 10_000 + "\n }\n provider openai\n}\n"
    )

    assert ["Deep"] == [block.name for block in blocks(deep)]
    assert "openai" == read_declarations([closed]).clients["Deep"].provider


@pytest.mark.parametrize("text", ["#", "a#", "function F { client #", "client<", "function F { a @(#"])
def test_hostile_text_is_read_once(text: str) -> None:
    """The number of steps grows with the length of the text, and not with its square: a run of hashes is one step."""
    steps = []
    for count in (100, 200):
        reader = _SourceReader(text + "#" * count if text.endswith("#") else text * count)
        seen = 0
        while not reader.at_end():
            reader.skip_one()
            seen += 1
        steps.append(seen)

    assert steps[1] <= 2 * steps[0]
    assert text.endswith("#") is (steps[1] == steps[0])


def test_a_strategy_that_contains_itself_has_an_end() -> None:
    """Strategies in each other, many times, are each expanded once; a number of 5000 digits is no number."""
    text = "".join(
        f"client<llm> S{number} {{\n provider fallback\n options {{ strategy [{f'S{number + 1}, S0, ' * 4} Leaf] }}\n}}\n"
        for number in range(30)
    )
    huge = "retry_policy R {\n max_retries " + "9" * 5000 + "\n}\n"
    declarations = read_declarations([text, huge])

    assert {"Leaf", "S30"} == set(declarations.leaves("S0"))
    route = Router(declarations).route("Ask", {"client": "S0"}, lambda _: True)
    assert {"Leaf", "S30"} == {route.client, *route.members}
