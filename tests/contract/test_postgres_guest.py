"""The history as a guest: in the database of an application with its own Alembic, in one schema, for roles with few rights, behind a pooler."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from support.history_records import error
from support.poolers import PGBOUNCER, pgbouncer, played
from support.postgres import Postgres, asked, fresh

from resilience import BAMLErrorHandler, RetryPolicy, doctor
from resilience.config.settings import Settings
from resilience.errors import HistoryError
from resilience.history import History, Recorder, Retention, admin
from resilience.history.schema import migrations, urls
from resilience.history.schema.engine import open_engine

TABLES = "SELECT table_schema, table_name FROM information_schema.tables WHERE table_schema !~ '^(pg_|information)'"


def tables(url: str) -> dict[str, set[str]]:
    """Return the tables and views of each schema."""
    found: dict[str, set[str]] = {}
    for schema, table in asked(url, TABLES):
        found.setdefault(schema, set()).add(table)
    return found


def record_one(url: str) -> None:
    """Write one error as an agent does."""
    recorder = Recorder(url)
    recorder.record(error())
    written = recorder.flush(30)
    recorder.close(30)
    assert written


async def errors_in(url: str) -> int:
    """Return the number of errors as both faces of the history read it, and as SQL does."""
    history = History(url)
    awaited = len(await history.errors())
    blocking = len(await asyncio.to_thread(history.sync.errors))
    by_sql = await history.sql("SELECT COUNT(*) FROM errors WHERE function <> :none", {"none": ""})
    await history.aclose()
    assert awaited == blocking == by_sql.rows[0][0]
    return awaited


def application(url: str, revision: str) -> None:
    """Create what an application with its own Alembic has."""
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"
        )
        connection.exec_driver_sql("INSERT INTO alembic_version VALUES (%(number)s)", {"number": revision})
        connection.exec_driver_sql("CREATE TABLE calls (id INTEGER PRIMARY KEY, phone TEXT)")
    engine.dispose()


@pytest.mark.parametrize(
    ("options", "schema"),
    [
        ("-csearch_path%3Dobservability", "observability"),
        ("-c%20search_path%3Dobservability%2Cpublic%20-c%20statement_timeout%3D9s", "observability"),
        ("--search-path%3D%22Our%20Own%22".replace("%20", "%5C%20"), "Our Own"),
    ],
)
async def test_the_first_schema_of_the_url_is_used(postgres_url: str, options: str, schema: str) -> None:
    """`options` as libpq spells them: the history is in the first schema of its search_path, and nothing is in another one."""
    url = f"{postgres_url}&options={options}"
    migrations.upgrade(url)
    record_one(url)

    assert set(tables(postgres_url)) == {schema}
    assert await errors_in(url) == 1


async def test_the_setting_names_the_schema_before_the_url(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RESILIENCE_DATABASE_SCHEMA decides, and other options of the URL stay."""
    monkeypatch.setenv("RESILIENCE_DATABASE_SCHEMA", "llm")
    monkeypatch.setenv(
        "RESILIENCE_DATABASE_URL", f"{postgres_url}&options=-csearch_path%3Da%20-cstatement_timeout%3D9s"
    )
    url = Settings().complete().database_url or ""
    migrations.upgrade(url)

    assert set(tables(postgres_url)) == {"llm"}
    assert Settings(database_url=url).complete().database_url == url
    engine = open_engine(urls.parse(url), wait=1.0)
    with engine.begin() as connection:
        shown = [
            connection.exec_driver_sql(f"SHOW {name}").scalar()
            for name in ("search_path", "statement_timeout")
        ]
    engine.dispose()
    assert shown == ['"llm", "a"', "9s"]


def test_options_of_the_url_take_precedence(postgres_url: str) -> None:
    """The URL's application_name, connect_timeout and settings replace ours, for the writer as for readers."""
    url = urls.parse(f"{postgres_url}&application_name=billing&connect_timeout=7&options=-clock_timeout%3D2s")
    engine = open_engine(url, wait=1.0)
    with engine.begin() as connection:
        shown = [
            connection.exec_driver_sql(f"SHOW {name}").scalar()
            for name in ("application_name", "lock_timeout")
        ]
        parameters = connection.connection.driver_connection.info.get_parameters()  # type: ignore[union-attr]  # psycopg's
    engine.dispose()

    assert shown == ["billing", "2s"]
    assert parameters["connect_timeout"] == "7"
    assert "options" not in parameters


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg", "postgres+psycopg2"])
def test_every_spelling_of_a_url_names_the_same_database(postgres_url: str, scheme: str) -> None:
    """`postgres://`, and URLs for other drivers with their own options, open the database with psycopg."""
    own = "&ssl=disable&prepared_statement_cache_size=0" if scheme.endswith("asyncpg") else ""
    migrations.upgrade(postgres_url.replace("postgresql+psycopg", scheme) + own)

    assert migrations.current(postgres_url) == migrations.head()


# --- rights ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def roles(postgres: Postgres, postgres_url: str) -> Iterator[Callable[[str], str]]:
    """URLs of the roles `owner_of_one`, `agent` and `reader`, which may nothing at first but connect."""
    names = ("owner_of_one", "agent", "reader")
    for name in names:
        postgres.order(f"CREATE ROLE {name} LOGIN")
    asked(postgres_url, "REVOKE ALL ON SCHEMA public FROM PUBLIC")
    yield lambda name: postgres_url.replace("postgres:@", f"{name}@")
    for name in names:
        asked(postgres_url, f"DROP OWNED BY {name} CASCADE")
        postgres.order(f"DROP ROLE {name}")


async def test_each_role_needs_no_more_than_its_schema(
    postgres_url: str, roles: Callable[[str], str]
) -> None:
    """The owner of one schema upgrades; an agent with rights on its rows writes; a reader with SELECT reads, and nothing more."""
    asked(postgres_url, "CREATE SCHEMA resilience AUTHORIZATION owner_of_one")
    migrations.upgrade(roles("owner_of_one"))
    with pytest.raises(
        HistoryError, match=r'GRANT USAGE ON SCHEMA "resilience" TO "agent"; GRANT SELECT, INSERT'
    ):
        migrations.prepare(urls.parse(roles("agent")))
    for right, role in (("SELECT, INSERT, UPDATE, DELETE", "agent"), ("SELECT", "reader")):
        asked(postgres_url, f"GRANT USAGE ON SCHEMA resilience TO {role}")
        asked(postgres_url, f"GRANT {right} ON ALL TABLES IN SCHEMA resilience TO {role}")
    record_one(roles("agent"))

    assert await errors_in(roles("reader")) == 1
    assert len((await History(roles("reader")).sql("SELECT * FROM v_mttr")).columns) > 1
    assert admin.prune(roles("agent"), Retention()) == {}
    recorder = Recorder(roles("reader"))
    recorder.record(error())
    assert not recorder.flush(10)
    recorder.close(1)


async def test_a_missing_schema_is_one_error_with_the_grant(
    postgres_url: str, roles: Callable[[str], str]
) -> None:
    """A role that may not create the schema gets the statements that help. The first of them does."""
    with pytest.raises(HistoryError) as caught:
        migrations.upgrade(roles("owner_of_one"))
    text = str(caught.value)

    assert 'CREATE SCHEMA "resilience" AUTHORIZATION "owner_of_one"' in text
    assert "GRANT CREATE ON DATABASE" in text
    assert tables(postgres_url) == {}
    asked(postgres_url, text.split("`")[1])
    migrations.upgrade(roles("owner_of_one"))
    assert set(tables(postgres_url)) == {"resilience"}


def test_a_schema_of_another_role_is_an_error_with_the_grant(
    postgres_url: str, roles: Callable[[str], str]
) -> None:
    """The schema exists, but the role may not create tables in it."""
    asked(postgres_url, "CREATE SCHEMA resilience")
    asked(postgres_url, "GRANT USAGE ON SCHEMA resilience TO agent")

    with pytest.raises(HistoryError, match=r'GRANT USAGE, CREATE ON SCHEMA "resilience" TO "agent"'):
        migrations.upgrade(roles("agent"))


# --- the first edition ----------------------------------------------------------------------------------------------


def test_tables_of_the_first_edition_are_left_alone_and_named(postgres_url: str) -> None:
    """They stay in `public` as they are; the new history is in its own schema, and the doctor names the old ones."""
    asked(postgres_url, "CREATE TABLE public.calls (call_id CHAR(32), client_final TEXT)")
    asked(postgres_url, "CREATE TABLE public.alembic_version (version_num VARCHAR(32))")
    asked(postgres_url, "INSERT INTO public.alembic_version VALUES ('0003')")
    assert migrations.current(postgres_url) is None
    migrations.upgrade(postgres_url)
    findings = list(doctor.history.examine(Settings(database_url=postgres_url).complete()))

    assert tables(postgres_url)["public"] == {"calls", "alembic_version"}
    assert any("schema public has tables of the first edition" in finding.message for finding in findings)


def test_a_schema_with_foreign_tables_is_an_error_with_the_remedy(postgres_url: str) -> None:
    """`public` was asked for and has a table `calls`: nothing is changed, and the error names the setting."""
    application(postgres_url, "ae1027a6acf0")

    with pytest.raises(HistoryError, match="RESILIENCE_DATABASE_SCHEMA a schema of its own"):
        migrations.upgrade(f"{postgres_url}&options=-csearch_path%3Dpublic")
    assert set(tables(postgres_url)) == {"public"}


# --- poolers --------------------------------------------------------------------------------------------------------


async def test_a_pooler_in_transaction_mode(postgres_url: str) -> None:
    """Behind a pooler that refuses start-up options and changes the session with each transaction, everything works."""
    with played(postgres_url) as pooled:
        await _use(pooled(), postgres_url)


@pytest.mark.skipif(PGBOUNCER is None, reason="PgBouncer is not installed (apt-get install pgbouncer)")
async def test_pgbouncer_in_transaction_mode(postgres_url: str, tmp_path: Path) -> None:
    """Behind a real PgBouncer in transaction mode everything works."""
    with pgbouncer(postgres_url, tmp_path) as pooled:
        await _use(pooled(), postgres_url)


async def _use(url: str, direct: str) -> None:
    """Upgrade, write, read, query, check and prune through a pooler; no session keeps a setting of ours."""
    migrations.upgrade(url)
    migrations.upgrade(url)
    recorder = Recorder(url)
    for _ in range(5):  # more transactions than the pooler has sessions
        recorder.record(error())
        assert recorder.flush(30)
    recorder.close(30)
    assert await errors_in(url) == 5
    with pytest.raises(HistoryError, match="may only read"):
        await History(url).sql(
            "WITH gone AS (SELECT 1) SELECT set_config('transaction_read_only', 'off', true)"
        )
    assert admin.check(url).problems == []
    admin.vacuum(url)
    engine = sa.create_engine(url, poolclass=sa.NullPool, connect_args={"prepare_threshold": None})
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SHOW search_path").scalar() == '"$user", public'
    engine.dispose()
    assert set(tables(direct)) == {"resilience"}


def test_words_for_the_pooler_itself_are_sent_at_start(postgres: Postgres) -> None:
    """`options=endpoint=...` of Neon is no setting, and reaches the start-up packet as it is."""
    with fresh(postgres) as url:
        parsed = urls.parse(f"{url}&options=endpoint%3Dep-cool-1%20-csearch_path%3Dobs")

    assert urls.writing(parsed).query["options"] == "endpoint=ep-cool-1"


# --- all of it together ---------------------------------------------------------------------------------------------


APPLICATION_ENV = """
from alembic import context
from sqlalchemy import NullPool, create_engine

with create_engine(context.config.attributes["url"], poolclass=NullPool).connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
"""
APPLICATION_MIGRATION = """
from alembic import op
revision, down_revision = {revision!r}, {before!r}

def upgrade():
    op.execute("CREATE TABLE {table} (id INTEGER PRIMARY KEY)")

def downgrade():
    op.execute("DROP TABLE {table}")
"""


class Application:
    """An application with its own Alembic: its revisions have the numbers and one of the tables the names that ours have."""

    def __init__(self, url: str, folder: Path) -> None:
        (folder / "versions").mkdir(parents=True)
        (folder / "env.py").write_text(APPLICATION_ENV)
        for revision, before, table in (("0001", None, "customers"), ("0002", "0001", "calls")):
            text = APPLICATION_MIGRATION.format(revision=revision, before=before, table=table)
            (folder / "versions" / f"{revision}_{table}.py").write_text(text)
        self._config = Config(attributes={"url": url})
        self._config.set_main_option("script_location", str(folder))
        self._config.set_main_option("path_separator", "os")

    def upgrade(self, revision: str) -> None:
        command.upgrade(self._config, revision)

    def downgrade(self, revision: str) -> None:
        command.downgrade(self._config, revision)


@pytest.mark.parametrize("first", ["application", "history"])
async def test_a_guest_of_an_application_behind_a_pooler_with_one_schema(
    postgres_url: str, roles: Callable[[str], str], tmp_path: Path, first: str
) -> None:
    """In both orders of deployment, as a role that owns one schema, behind a pooler: both migrate, calls are recorded, and neither touches the other."""
    application = Application(postgres_url, tmp_path / "alembic")
    asked(postgres_url, "CREATE SCHEMA resilience AUTHORIZATION owner_of_one")
    with played(roles("owner_of_one")) as pooled:
        if first == "application":
            application.upgrade("0001")
        migrations.upgrade(pooled())
        await call_once(pooled())
        application.upgrade("head")
        migrations.upgrade(pooled())
        await call_once(pooled())

        assert await errors_in(pooled()) == 2
        assert admin.check(pooled()).problems == []
        assert migrations.current(pooled()) == migrations.head()
    assert tables(postgres_url)["public"] == {"alembic_version", "customers", "calls"}
    assert asked(postgres_url, "SELECT version_num FROM public.alembic_version") == [("0002",)]
    application.downgrade("base")
    assert set(tables(postgres_url)) == {"public", "resilience"}
    assert [(2, 4)] == asked(postgres_url, "SELECT COUNT(*), SUM(attempts) FROM resilience.calls")


async def call_once(url: str) -> None:
    """Call a function that fails once, then answers, by a handler of an agent whose history is at *url*."""
    outcomes: list[str | ConnectionError] = [ConnectionResetError("reset"), "an answer"]

    async def ask() -> str:
        outcome = outcomes.pop(0)
        if isinstance(outcome, ConnectionError):
            raise outcome
        return outcome

    settings = Settings(store_url="memory://", database_url=url, exit_timeout=60)
    async with BAMLErrorHandler(settings=settings, retry=RetryPolicy(initial_delay=0.001)) as handler:
        assert await handler.call_with_retry(ask, "Primary", "Search") == "an answer"
