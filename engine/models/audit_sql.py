"""SQL that models cannot say: the triggers that keep the audit log as it is, and the indexes that search it."""

from sqlalchemy import TextClause, text


def _refusals(table: str) -> tuple[TextClause, ...]:
    return tuple(
        text(
            f"CREATE TRIGGER IF NOT EXISTS {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
            "BEGIN SELECT RAISE(ABORT, 'audit entries are never changed'); END"
        )
        for verb in ("UPDATE", "DELETE")
    )


AUDIT_IMMUTABLE_SQLITE = _refusals("audit_entry")
CHECKPOINT_IMMUTABLE_SQLITE = _refusals("audit_checkpoint")

# Old entries may leave, and only they: those up to the newest beginning of their chain, which is signed and is never
# changed itself (docs/decisions/0035). A beginning names an entry that is there, behind the beginning before.
_LEFT_BEHIND = "coalesce((SELECT max(seq) FROM audit_beginning WHERE chain = {row}.chain), 0)"
_MAY_NOT_GO = f"OLD.seq > {_LEFT_BEHIND.format(row='OLD')}"
_IS_NO_BEGINNING = (
    "NOT EXISTS (SELECT 1 FROM audit_entry WHERE chain = NEW.chain AND seq = NEW.seq AND hash = NEW.hash) "  # noqa: S608
    f"OR NEW.seq <= {_LEFT_BEHIND.format(row='NEW')}"
)
AUDIT_BEGINNING_SQLITE = (
    "DROP TRIGGER audit_entry_no_delete",
    (
        f"CREATE TRIGGER audit_entry_no_delete BEFORE DELETE ON audit_entry WHEN {_MAY_NOT_GO} "
        "BEGIN SELECT RAISE(ABORT, 'audit entries are never changed'); END"
    ),
    (
        f"CREATE TRIGGER audit_beginning_is_an_entry BEFORE INSERT ON audit_beginning WHEN {_IS_NO_BEGINNING} "
        "BEGIN SELECT RAISE(ABORT, 'a chain begins behind an entry of its own'); END"
    ),
    *(str(statement) for statement in _refusals("audit_beginning")),
)
_FOR_EACH_ROW = "FOR EACH ROW EXECUTE FUNCTION"
AUDIT_BEGINNING_POSTGRESQL = (
    (
        "CREATE FUNCTION audit_entry_is_left_behind() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN IF {_MAY_NOT_GO} THEN RAISE EXCEPTION 'audit entries are never changed'; END IF; RETURN OLD; END $$"
    ),
    (
        "CREATE FUNCTION audit_beginning_is_an_entry() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN IF {_IS_NO_BEGINNING} THEN RAISE EXCEPTION 'a chain begins behind an entry of its own'; END IF; "
        "RETURN NEW; END $$"
    ),
    "DROP TRIGGER audit_entry_no_change ON audit_entry",
    f"CREATE TRIGGER audit_entry_no_change BEFORE UPDATE ON audit_entry {_FOR_EACH_ROW} audit_entry_is_immutable()",
    f"CREATE TRIGGER audit_entry_no_delete BEFORE DELETE ON audit_entry {_FOR_EACH_ROW} audit_entry_is_left_behind()",
    (
        "CREATE TRIGGER audit_beginning_is_an_entry BEFORE INSERT ON audit_beginning "
        f"{_FOR_EACH_ROW} audit_beginning_is_an_entry()"
    ),
    (
        "CREATE TRIGGER audit_beginning_no_change BEFORE UPDATE OR DELETE ON audit_beginning "
        f"{_FOR_EACH_ROW} audit_entry_is_immutable()"
    ),
    *(
        f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_entry_is_immutable()"
        for table in ("audit_entry", "audit_checkpoint", "audit_beginning")
    ),
)

# Each entry follows the one before it: two that follow the same one would need the same number, and that is unique. A
# unique index over `prev_hash` said less and took most of what an entry costs: hashes come in no order, so each was
# another page of it, read, written, and copied to the write-ahead log (docs/decisions/0004).
_FOLLOWS = (  # down the index of numbers, whatever a server believes of a table that was small a moment ago
    f"({{row}}.seq = 1 AND {{row}}.prev_hash = '{'0' * 64}') OR "  # noqa: S608
    "({row}.seq - 1, {row}.prev_hash) = (SELECT seq, hash FROM audit_entry "
    "WHERE chain = {row}.chain AND seq < {row}.seq ORDER BY seq DESC LIMIT 1)"
)
_DOES_NOT_FOLLOW = "an audit entry follows the one before it"
AUDIT_FOLLOWS_TRIGGER_SQLITE = (
    "CREATE TRIGGER audit_entry_follows BEFORE INSERT ON audit_entry "
    f"WHEN ({_FOLLOWS.format(row='NEW')}) IS NOT TRUE BEGIN SELECT RAISE(ABORT, '{_DOES_NOT_FOLLOW}'); END"
)
AUDIT_NOT_FOLLOWING_SQLITE = (  # the same rule for the entries `:first` to `:last` of `:chain` at once
    "SELECT count(*) FROM audit_entry AS kept WHERE chain = :chain AND seq BETWEEN :first AND :last "  # noqa: S608
    f"AND ({_FOLLOWS.format(row='kept')}) IS NOT TRUE"
)
AUDIT_SEQUENCE_POSTGRESQL = (
    (
        "CREATE FUNCTION audit_entry_follows() RETURNS trigger LANGUAGE plpgsql "
        "SET enable_seqscan = off AS "
        f"$$ BEGIN IF {_FOLLOWS.format(row='NEW')} THEN RETURN NEW; END IF; "
        f"RAISE EXCEPTION '{_DOES_NOT_FOLLOW}' USING ERRCODE = 'integrity_constraint_violation'; END $$"
    ),
    f"CREATE TRIGGER audit_entry_follows BEFORE INSERT ON audit_entry {_FOR_EACH_ROW} audit_entry_follows()",
)

# What finds audit entries among ten million of one account (docs/decisions/0024). A row's number there is the chain's
# number times 2^40 plus the entry's: so one range is one account, newest last. Both tables keep no text, only where it
# stands. `body`: every stored value and the names of changed fields, in trigrams. `facet`: a letter and the value in
# hex for each thing that is looked for as a whole; `h` and how the entry's hash begins.
_VALUES = (
    "SELECT group_concat(coalesce(atom, key), char(10)) FROM json_tree({row}.entry) "
    "WHERE atom IS NOT NULL OR path = '$.changes'"
)
_FACETS = (
    "'e' || hex({row}.event) || ' o' || hex({row}.outcome) || ' c' || hex({row}.category) || ' x' || hex({row}.access) "
    "|| ' v' || hex({row}.verb) || ' a' || hex({row}.actor_id) || ' n' || hex({row}.actor_name) "
    "|| ' r' || hex({row}.resource_id) || ' t' || hex({row}.resource_type) || ' i' || hex({row}.ip) "
    "|| ' h' || substr({row}.hash, 1, 8)"
)
_PLACE = "(SELECT number << 40 FROM audit_search_chain WHERE chain = {row}.chain) + {row}.seq"


def _filled(row: str) -> tuple[str, str]:
    place, values, facets = (part.format(row=row) for part in (_PLACE, _VALUES, _FACETS))
    return (
        f"INSERT INTO audit_search_text (rowid, body, ip) SELECT {place}, ({values}), {row}.ip",
        f"INSERT INTO audit_search_facet (rowid, facet) SELECT {place}, {facets}",
    )


_NUMBERED = (
    "INSERT INTO audit_search_chain (chain) SELECT {chain} "
    "WHERE NOT EXISTS (SELECT 1 FROM audit_search_chain WHERE chain = {chain})"
)
AUDIT_SEARCH_TRIGGER_SQLITE = (  # an entry is noted as owed to the indexes, at the end of the range before it
    "CREATE TRIGGER audit_entry_search AFTER INSERT ON audit_entry BEGIN "
    "UPDATE audit_search_owed SET last = NEW.seq WHERE chain = NEW.chain AND last = NEW.seq - 1; "
    "INSERT INTO audit_search_owed (chain, first, last) SELECT NEW.chain, NEW.seq, NEW.seq WHERE changes() = 0; END"
)
AUDIT_SEARCH_LATER_SQLITE = ("DROP TRIGGER IF EXISTS audit_entry_search", AUDIT_SEARCH_TRIGGER_SQLITE)
AUDIT_OWED_SQLITE = (  # entries are put into the indexes behind their commit: see `engine.audit.owed`
    "CREATE TABLE IF NOT EXISTS audit_search_owed "
    "(chain VARCHAR(48) NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, UNIQUE (chain, first))"
)
AUDIT_SEARCH_ADD_SQLITE = (  # the entries `:first` to `:last` of `:chain`
    _NUMBERED.format(chain=":chain"),
    *(
        f"{statement} FROM audit_entry AS kept WHERE kept.chain = :chain AND kept.seq BETWEEN :first AND :last "
        "ORDER BY kept.seq"
        for statement in _filled("kept")
    ),
)
_THESE = "FROM audit_entry AS kept WHERE kept.chain = :chain AND kept.seq BETWEEN :first AND :last"
AUDIT_SEARCH_DROP_SQLITE = (  # what the same entries hold in the indexes, said once more: these keep no text
    (
        "INSERT INTO audit_search_text (audit_search_text, rowid, body, ip) "
        f"SELECT 'delete', {_PLACE.format(row='kept')}, ({_VALUES.format(row='kept')}), kept.ip {_THESE}"
    ),
    (
        "INSERT INTO audit_search_facet (audit_search_facet, rowid, facet) "
        f"SELECT 'delete', {_PLACE.format(row='kept')}, {_FACETS.format(row='kept')} {_THESE}"
    ),
)
AUDIT_SEARCH_SQLITE = (
    "CREATE TABLE audit_search_chain (number INTEGER PRIMARY KEY, chain VARCHAR(48) NOT NULL UNIQUE)",
    "CREATE VIRTUAL TABLE audit_search_text USING fts5(body, ip, content='', columnsize=0, tokenize='trigram')",
    "CREATE VIRTUAL TABLE audit_search_facet USING fts5(facet, content='', columnsize=0, detail=none, tokenize=ascii)",
    AUDIT_OWED_SQLITE,
    AUDIT_SEARCH_TRIGGER_SQLITE,
    *(  # decision 0031: no commit merges what grew for months; `engine.audit.merging` does, step by step
        f"INSERT INTO audit_search_{name} (audit_search_{name}, rank) VALUES ('{option}', {value})"  # noqa: S608
        for name in ("text", "facet")
        for option, value in (("automerge", 0), ("crisismerge", 400), ("usermerge", 8))
    ),
)
_FLUSH = "INSERT INTO audit_search_text (audit_search_text, rank) VALUES ('hashsize', {size})"
AUDIT_SEARCH_FILL_SQLITE = (  # for entries that were there before; much in memory at once is four times as fast
    _FLUSH.format(size=64 << 20),
    "INSERT INTO audit_search_chain (chain) SELECT DISTINCT chain FROM audit_entry",
    *(f"{statement} FROM audit_entry AS kept ORDER BY kept.chain, kept.seq" for statement in _filled("kept")),
    _FLUSH.format(size=1 << 20),
    *(f"INSERT INTO {name} ({name}) VALUES ('optimize')" for name in ("audit_search_text", "audit_search_facet")),  # noqa: S608
)
AUDIT_TRIGRAMS_POSTGRESQL = (  # decision 0031; neither a missing extension nor a missing right to make it is an error
    (
        "DO $$ BEGIN CREATE EXTENSION IF NOT EXISTS pg_trgm; "
        "EXCEPTION WHEN OTHERS THEN RAISE NOTICE 'pg_trgm: %', SQLERRM; END $$"
    ),
    (
        "DO $$ BEGIN IF EXISTS (SELECT 1 FROM pg_extension WHERE extname = 'pg_trgm') THEN "
        "EXECUTE 'CREATE INDEX ix_audit_entry_entry_trigram ON audit_entry USING gin (entry gin_trgm_ops)'; "
        "EXECUTE 'CREATE INDEX ix_audit_entry_ip_trigram ON audit_entry USING gin (ip gin_trgm_ops)'; END IF; END $$"
    ),
)
# How hashes begin. A GIN index, and of arrays, for its list alone: a commit only notes the digits there, where a tree
# would have a page of its own for each entry.
AUDIT_HASHES_POSTGRESQL = (
    "CREATE INDEX IF NOT EXISTS ix_audit_entry_hash_beginning ON audit_entry USING gin ((ARRAY[substr(hash, 1, 8)]))",
)
# Entries wait in a list of these indexes until somebody puts them in, and whoever makes the list too long does it in
# their own commit: 55 to 150 ms every 500 entries with the server's 4 MB. `engine.audit.pending` comes before that.
AUDIT_PENDING_POSTGRESQL = (  # kB, some 15,000 entries
    "ALTER INDEX IF EXISTS ix_audit_entry_entry_trigram SET (gin_pending_list_limit = 131072)",
    "ALTER INDEX IF EXISTS ix_audit_entry_ip_trigram SET (gin_pending_list_limit = 131072)",
    "ALTER INDEX IF EXISTS ix_audit_entry_hash_beginning SET (gin_pending_list_limit = 131072)",
)
