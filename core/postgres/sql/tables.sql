-- SPDX-License-Identifier: MIT
-- A store in PostgreSQL, format 1: its tables. The files of this folder are
-- run in one transaction, in the order that the Makefile lists them, with
-- search_path on the new schema; none names it.
--
-- A *run* is a row: consecutive ids with their items inside. Fresh, leased
-- and waiting items lie in the same table; the columns in front of `bytes`
-- say where a run stands, and an UPDATE of those copies no item (values over
-- 2 KB lie in TOAST). The client computes: outcomes, delays, histories, dead
-- letters. The server compares and applies.
--
-- Times are milliseconds since 1970 by the server's clock. A parameter `wall`
-- replaces that clock where a store's clock is moved by hand; NULL: it is not.
--
-- Order of locks, the same in every function: a queue's own (see share_queue),
-- queue, flow (by partition), run (by first), held, dlq (by id), call, tally.
-- Takes skip what is locked of flows and runs.

CREATE TABLE meta (name text PRIMARY KEY, value text NOT NULL);

-- Ids of items are handed out by the clients, from blocks of 65,536.
CREATE SEQUENCE ids INCREMENT 65536 START 1 MAXVALUE 9007199254675457;
-- Places in ordered queues: they only rise.
CREATE SEQUENCE place;
-- Tokens of leases are handed out by the clients too, from blocks of 4,096. No
-- sequence: a take does not wait for the disk, so a crash takes a sequence back
-- behind tokens that are in use.
CREATE TABLE token (next int8 NOT NULL);
INSERT INTO token VALUES (1);

-- The policy twice: as the client stores it, and the numbers that functions
-- need. NULL: no limit.
CREATE TABLE queue (
  id int4 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  version int4 NOT NULL DEFAULT 1,         -- rises with each change
  paused boolean NOT NULL DEFAULT false,
  expires boolean NOT NULL DEFAULT false,  -- items with a TTL were pushed
  ordered boolean NOT NULL,
  overflow int2 NOT NULL,                  -- enum respool_overflow
  drop_expired boolean NOT NULL,
  lease int8 NOT NULL,
  max_crashes int8 NOT NULL,
  ttl int8,
  max_items int8,
  max_bytes int8,
  keep_done int8 NOT NULL,
  keep_done_bytes int8,
  keep_dead int8,
  priorities int2[] NOT NULL DEFAULT '{}', -- that were pushed, highest first
  weights int4[],                          -- priority, weight, ...; or NULL
  dlq text NOT NULL,
  name text NOT NULL UNIQUE,
  config bytea NOT NULL,
  held_until int8,                         -- nothing is taken before; or NULL
  held_for bytea,
  flows boolean NOT NULL,                  -- has a rate or a breaker
  keep_dead_items int8,
  keep_dead_bytes int8,
  parted boolean NOT NULL DEFAULT false,   -- items of partitions were pushed
  by_line boolean NOT NULL DEFAULT false,  -- each line is in strict order
  -- Whether the short ways of v1_push_run and v1_take may do.
  push_plain boolean GENERATED ALWAYS AS
    (NOT ordered AND coalesce(ttl, max_items, max_bytes) IS NULL) STORED,
  take_plain boolean GENERATED ALWAYS AS
    (NOT (paused OR ordered OR expires OR flows OR parted) AND weights IS NULL
     AND cardinality(priorities) = 1) STORED
);

-- The rate and the breaker of a queue, and how they stand; see flow.sql. Kept
-- where the queue had them once. Likewise of a partition, with its hold, as
-- long as there is anything in it.
CREATE TABLE flow (
  queue int4,
  partition bytea DEFAULT '',              -- '': the queue itself
  rate_items int8,                         -- NULL: no rate
  rate_per int8,
  bucket int8,
  most_failures int8,                      -- NULL: no breaker
  within int8,
  cooldown int8,
  most_probes int8,
  level int8,                              -- of the bucket; NULL: it is full
  level_at int8,
  breaker int2 NOT NULL DEFAULT 0,         -- enum respool_breaker
  until int8 NOT NULL DEFAULT 0,
  probes int8 NOT NULL DEFAULT 0,
  failed_at int8 NOT NULL DEFAULT 0,
  outages int8 NOT NULL DEFAULT 0,
  opened int8 NOT NULL DEFAULT 0,
  failures int8[] NOT NULL DEFAULT '{}',   -- items that failed in a row
  held_until int8,                         -- of a partition; or NULL
  held_for bytea,
  PRIMARY KEY (queue, partition)
) WITH (fillfactor = 10);
-- What the policy of a queue says of each partition; see line_look.
CREATE TABLE bounds (
  queue int4 PRIMARY KEY,
  concurrency int8 NOT NULL,               -- 0: any
  batch int8 NOT NULL,                     -- 0: its share
  rate_items int8,                         -- as in `flow`
  rate_per int8,
  bucket int8,
  most_failures int8,
  within int8,
  cooldown int8,
  most_probes int8
);
-- What partitions have in each priority; see partition.sql.
CREATE TABLE line (
  queue int4,
  partition bytea,
  priority int2,
  turn int8,                               -- NULL: it is out of turn
  due int8,                                -- until then
  PRIMARY KEY (queue, partition, priority)
) WITH (fillfactor = 50);
CREATE INDEX line_turn ON line (queue, priority, turn) WHERE turn IS NOT NULL;
CREATE INDEX line_due ON line (queue, due) WHERE due IS NOT NULL;
CREATE SEQUENCE turn;
-- Lines of which something has changed.
CREATE TABLE wake (
  no int8 GENERATED ALWAYS AS IDENTITY,
  queue int4 NOT NULL,
  priority int2 NOT NULL,
  partition bytea NOT NULL
);
CREATE INDEX wake_no ON wake (queue, no);
-- The last eight times that the breaker of a queue opened.
CREATE TABLE opening (
  queue int4,
  no int8,
  opened_at int8 NOT NULL,
  closed_at int8 NOT NULL DEFAULT 0,
  probes int8 NOT NULL DEFAULT 0,
  error bytea NOT NULL,
  PRIMARY KEY (queue, no)
);

-- `bytes`: an entry of 12 bytes for each item (where it ends, its checksum),
-- then the items, see run.h. A run that is cut keeps its bytes and skips the
-- first `skip`; the part that was cut off has a copy of its own.
CREATE TABLE run (
  first int8 PRIMARY KEY,
  due int8 NOT NULL,       -- since when ready, when due, or the lease's end
  epoch int8 NOT NULL,     -- the lease's token; minus that when it is over
  pushed_at int8 NOT NULL,
  expires_at int8,
  seq int8,                -- place in an ordered queue
  version int8 NOT NULL,   -- of the payloads
  delay int8 NOT NULL DEFAULT 0,
  queue int4 NOT NULL,
  n int4 NOT NULL,         -- ids, from first on
  live int4 NOT NULL,      -- of these, not settled
  skip int4 NOT NULL DEFAULT 0,
  attempts int4 NOT NULL DEFAULT 0,
  deliveries int4 NOT NULL DEFAULT 0,
  crashes int4 NOT NULL DEFAULT 0,
  priority int2 NOT NULL,
  fresh int2 NOT NULL,     -- 1 until the first delivery; of partitions 3, 2
  state int2 NOT NULL,     -- 0 fresh, 1 leased, 2 waiting
  bits varbit,             -- of n, a 1 for each live; NULL: all are
  lapses int8[],           -- ends of leases that are not in the history yet
  key bytea,               -- of its one item
  history bytea,
  memo bytea,
  partition bytea,
  bytes bytea NOT NULL
) WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0,
        autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0,
        toast.autovacuum_vacuum_scale_factor = 0,
        toast.autovacuum_vacuum_threshold = 20000,
        toast.autovacuum_vacuum_cost_delay = 0);
ALTER TABLE run ALTER bytes SET STORAGE EXTERNAL;
-- Each hot statement can use one index alone: settle the primary key, take
-- run_due (in strict order run_seq), expiry run_expires. Each index is opened,
-- and its condition made ready, by all that writes a run: there are few.
CREATE INDEX run_due ON run (queue, priority, fresh, due, first);
CREATE INDEX run_expires ON run (queue, expires_at)
  WHERE expires_at IS NOT NULL AND state <> 1;
-- What has one priority of a partition, or with -1 all of it, by a key of its
-- own, so that no statement that looks for it can use another index. Of a
-- priority in strict order the partition is ''.
CREATE FUNCTION key_of(queue int4, priority int4, partition bytea) RETURNS bytea
LANGUAGE sql IMMUTABLE AS
  $$ SELECT int4send(queue) || int4send(priority) || partition $$;
CREATE INDEX run_line ON run (key_of(queue, priority, partition), fresh, due,
  first) WHERE partition IS NOT NULL;
CREATE INDEX run_seq ON run (key_of(queue, priority, coalesce(partition, '')),
  seq, first) WHERE seq IS NOT NULL;
CREATE INDEX run_partition ON run (key_of(queue, -1, partition), state, due)
  WHERE partition IS NOT NULL;

-- All counters of a queue, each of them the sum over the slots; of some there
-- is more in `call`. A client uses a slot of its own, and another after some
-- hundred updates, so that no row has a long chain of dead versions.
CREATE TABLE tally (
  queue int4 NOT NULL,
  slot int4 NOT NULL,
  bytes int8 NOT NULL DEFAULT 0,           -- in run.bytes
  pushed int8 NOT NULL DEFAULT 0,
  done int8 NOT NULL DEFAULT 0,
  died int8 NOT NULL DEFAULT 0,
  expired int8 NOT NULL DEFAULT 0,
  removed int8 NOT NULL DEFAULT 0,
  dropped int8 NOT NULL DEFAULT 0,
  delivered int8 NOT NULL DEFAULT 0,
  retried int8 NOT NULL DEFAULT 0,
  released int8 NOT NULL DEFAULT 0,
  snoozed int8 NOT NULL DEFAULT 0,
  crashed int8 NOT NULL DEFAULT 0,
  lease_lost int8 NOT NULL DEFAULT 0,
  damaged int8 NOT NULL DEFAULT 0,
  kept int8 NOT NULL DEFAULT 0,
  kept_bytes int8 NOT NULL DEFAULT 0,
  pushed_bytes int8 NOT NULL DEFAULT 0,
  delivered_bytes int8 NOT NULL DEFAULT 0,
  PRIMARY KEY (queue, slot)
) WITH (fillfactor = 10);
-- Counters by number that are told less often: flushes by reason, deaths by
-- reason, histograms.
CREATE TABLE series (
  queue int4 NOT NULL,
  what int2 NOT NULL, -- 0 flushes, 1 died_by, 2 wait, 3 handle
  slot int4 NOT NULL,
  counts int8[] NOT NULL,
  PRIMARY KEY (queue, what, slot)
) WITH (fillfactor = 10);

-- Keys that callers chose: held until their item is over, and till `until`.
CREATE TABLE held (
  queue int4 NOT NULL,
  item int8 NOT NULL,
  until int8 NOT NULL, -- 0: no window
  key bytea NOT NULL,
  PRIMARY KEY (queue, key)
);
CREATE INDEX held_until ON held (queue, until) WHERE until > 0;

CREATE TABLE dlq (
  id int4 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  next_number int8 NOT NULL DEFAULT 1,
  count int8 NOT NULL DEFAULT 0,
  bytes int8 NOT NULL DEFAULT 0,           -- in dead.record
  dropped int8 NOT NULL DEFAULT 0,         -- by bounds, ever
  name text NOT NULL UNIQUE
) WITH (fillfactor = 10);
-- `record` is the dead letter as doc/format.md has it; group and reason are
-- in it too.
CREATE TABLE dead (
  dlq int4 NOT NULL,
  number int8 NOT NULL,
  died_at int8 NOT NULL,
  grp bytea NOT NULL,
  reason bytea NOT NULL,
  record bytea NOT NULL,
  PRIMARY KEY (dlq, number)
);

-- Finished items that a queue keeps, as runs; a cancelled one as a run of one.
CREATE TABLE history (
  queue int4 NOT NULL,
  done_at int8 NOT NULL,
  first int8 NOT NULL,
  pushed_at int8 NOT NULL,
  version int8 NOT NULL,
  n int4 NOT NULL,
  skip int4 NOT NULL,
  kept int4 NOT NULL,
  attempts int4 NOT NULL,
  deliveries int4 NOT NULL,
  priority int2 NOT NULL,
  bits varbit,
  bytes bytea NOT NULL,
  cancelled boolean NOT NULL DEFAULT false,
  PRIMARY KEY (queue, done_at, first)
);
ALTER TABLE history ALTER bytes SET STORAGE EXTERNAL;
CREATE INDEX history_first ON history (queue, first);
-- What handlers have returned of these.
CREATE TABLE result (
  queue int4,
  item int8,
  done_at int8 NOT NULL,
  bytes bytea NOT NULL,
  PRIMARY KEY (queue, item)
);

CREATE TABLE replay (name text PRIMARY KEY, revision int8 NOT NULL,
  record bytea NOT NULL);

-- What programs keep beside their queues.
CREATE TABLE note (name text PRIMARY KEY, bytes bytea NOT NULL);

-- What the client library keeps, by kind and name; the revision rises with
-- each save.
CREATE TABLE entry (kind int2, name text, revision int8 NOT NULL,
  bytes bytea NOT NULL, PRIMARY KEY (kind, name));

-- The last of up to some hundred calls of a session, see note. Ids begin with
-- the time of the client. A push or a settle updates this row whatever happens,
-- so the counters of one queue are in it too, as in a slot of `tally`.
CREATE TABLE call (
  id uuid PRIMARY KEY,
  no int2 NOT NULL, -- of that call
  queue int4,       -- whose counters these are; NULL: they are all 0
  answer int8[],    -- NULL: it has not happened, and cannot any more
  at timestamptz NOT NULL DEFAULT now(),
  bytes int8 NOT NULL DEFAULT 0,
  pushed int8 NOT NULL DEFAULT 0,
  pushed_bytes int8 NOT NULL DEFAULT 0,
  done int8 NOT NULL DEFAULT 0
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0,
        autovacuum_vacuum_threshold = 20000);
CREATE INDEX call_queue ON call (queue);
-- What a queue's items and bytes are counted by, wherever that is.
CREATE VIEW counted AS
  SELECT queue, bytes, pushed, pushed_bytes, done, died, expired, removed
    FROM tally UNION ALL
  SELECT queue, bytes, pushed, pushed_bytes, done, 0, 0, 0
    FROM call WHERE queue IS NOT NULL;

-- Consumers that wait: pushes answer whether to ring.
CREATE UNLOGGED TABLE bell (queue int4 PRIMARY KEY, until int8 NOT NULL)
  WITH (fillfactor = 10);

CREATE TABLE probe (number int8 NOT NULL) WITH (fillfactor = 10);
INSERT INTO probe VALUES (0);

INSERT INTO meta VALUES
  ('format', '1'), ('oldest_client', '1'),
  ('store', md5(random()::text || clock_timestamp() || pg_backend_pid()));
