-- SPDX-License-Identifier: MIT
-- What the verbs share. Refusals are exceptions of class RS whose last two
-- digits are the respool code, so that the unit falls as a whole.

-- Answers of take and looks: one row that says how things are (kind 0), then
-- a row for each run, to be put in the order of `place`. Each column of an
-- answer costs, whatever is in it, so it has three.
CREATE TYPE v1_taken AS (
  numbers int8[],   -- see packed
  rest bytea[],     -- bits, history, memo; NULL: it has none of these
  bytes bytea);
CREATE TYPE taken AS (
  kind int2,        -- 0 head, 1 run, 2 crashed too often, 3 expired
  place int4,
  token int8,       -- head: of the batch; 0: nothing was taken
  now int8,         -- head
  next_due int8,    -- head: when something is due; NULL: nothing waits
  marks int8[],     -- head: for the next take, see range_of
  policy int4,      -- head: version of the queue's policy
  credits int8[],   -- head: of weighted priorities
  first int8, n int4, live int4, skip int4, bits varbit,
  due int8, state int2, priority int2,
  attempts int4, deliveries int4, crashes int4, delay int8,
  pushed_at int8, expires_at int8, version int8,
  lapses int8[], history bytea, memo bytea, bytes bytea);

-- ROW and a cast: so it is made part of the query that calls it.
CREATE FUNCTION packed(x taken) RETURNS v1_taken LANGUAGE sql STABLE AS $$
  SELECT ROW(CASE x.kind WHEN 0 THEN
      ARRAY[0, x.token, x.now, coalesce(x.policy, 0), coalesce(x.next_due, 0),
        coalesce(x.n, 0), coalesce(x.live, 0),
        coalesce(cardinality(x.marks), 0)] || x.marks || x.credits
    ELSE
      ARRAY[x.kind, x.place, coalesce(x.token, 0), x.due, x.first, x.n,
        x.live, x.skip, x.state, x.priority, x.attempts, x.deliveries,
        x.crashes, x.delay, x.pushed_at, coalesce(x.expires_at, 0),
        x.version] || x.lapses END,
    CASE WHEN x.bits IS NOT NULL OR x.history IS NOT NULL
        OR x.memo IS NOT NULL
      THEN ARRAY[varbit_send(x.bits), x.history, x.memo] END,
    x.bytes)::v1_taken $$;

CREATE FUNCTION now_ms(wall int8) RETURNS int8 LANGUAGE sql VOLATILE AS $$
  SELECT coalesce(wall,
    floor(date_part('epoch', clock_timestamp()) * 1000)::int8) $$;

-- `ms` from `t`, or the end of time.
CREATE FUNCTION after(t int8, ms int8) RETURNS int8 LANGUAGE sql IMMUTABLE AS
  $$ SELECT t + least(ms, 4000000000000000000) $$;

CREATE FUNCTION refuse(code text, message text, detail text DEFAULT '')
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION USING ERRCODE = code, MESSAGE = message, DETAIL = detail;
END $$;

-- Ends a transaction that was run to see what it is refused by.
CREATE FUNCTION v1_undo() RETURNS void LANGUAGE sql AS
  $$ SELECT refuse('RS032', 'undone') $$;

-- Whoever makes or moves runs of a queue takes part in its lock, before any
-- other, until its transaction ends; whoever puts them all in order or removes
-- the queue has it alone.
CREATE FUNCTION share_queue(q int4) RETURNS text LANGUAGE sql AS
  $$ SELECT pg_advisory_xact_lock_shared('run'::regclass::oid::int4, q)
    ::text $$;
CREATE FUNCTION lock_queue(q int4) RETURNS text LANGUAGE sql AS
  $$ SELECT pg_advisory_xact_lock('run'::regclass::oid::int4, q)::text $$;

CREATE FUNCTION no_queue(q int4) RETURNS void LANGUAGE sql AS
  $$ SELECT refuse('RS007', 'queue ' || q || ' is gone') $$;

CREATE FUNCTION no_partitions(name text) RETURNS void LANGUAGE sql AS
  $$ SELECT refuse('RS015', format(
    'queue ''%s'': a queue in strict order has no partitions', name)) $$;

-- A unit has happened when its transaction commits: each of its steps that
-- has an answer to keep adds it to the session's row of `call`. The session
-- numbers its calls: `step` is that number for the first such step of a unit,
-- and minus the number for those that follow. A client whose connection broke
-- asks by giving the row that number itself, void: this waits for a transaction
-- that is under way; if the unit did not happen it never will, as no number but
-- a higher one is noted from then on.
-- A new row is for the counters of the queue `q`.
CREATE FUNCTION note(call uuid, step int2, answer int8[], q int4 DEFAULT NULL)
RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
  IF step < 0 THEN
    UPDATE call c SET answer = c.answer || note.answer
      WHERE c.id = note.call AND c.no = -step;
    RETURN;
  END IF;
  UPDATE call c SET no = step, answer = note.answer, at = now()
    WHERE c.id = note.call AND c.no < step;
  IF NOT FOUND THEN
    INSERT INTO call (id, no, queue, answer)
      VALUES (note.call, step, q, note.answer);
  END IF;
END $$;

CREATE FUNCTION v1_resolve(call uuid, step int2, OUT happened boolean,
                           OUT answer int8[])
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
  INSERT INTO call AS c (id, no) VALUES (v1_resolve.call, step)
    ON CONFLICT (id) DO UPDATE SET no = excluded.no, answer = NULL, at = now()
    WHERE c.no < excluded.no;
  SELECT c.answer IS NOT NULL, c.answer INTO happened, answer FROM call c
    WHERE c.id = v1_resolve.call AND c.no = step;
END $$;

-- Where entry `i` of a run's bytes ends.
CREATE FUNCTION entry_end(bytes bytea, i int4) RETURNS int4
LANGUAGE sql IMMUTABLE AS $$
  SELECT ('x' || encode(substring(bytes FROM 12 * i + 1 FOR 4), 'hex'))
    ::bit(32)::int4 $$;

-- Entries `a` to `b`, not included, of a run's bytes of `total` entries.
CREATE FUNCTION slice(bytes bytea, total int4, a int4, b int4) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  size int4 := octet_length(bytes);
  base int4 := entry_end(bytes, total - 1) - (size - 12 * total);
  start int4 := CASE WHEN a = 0 THEN base ELSE entry_end(bytes, a - 1) END;
BEGIN
  RETURN substring(bytes FROM 12 * a + 1 FOR 12 * (b - a)) ||
    substring(bytes FROM 12 * total + start - base + 1
              FOR entry_end(bytes, b - 1) - start);
END $$;

-- How many ids hold the first `k` live ones.
CREATE FUNCTION reach(bits varbit, k int4) RETURNS int4
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  left_over int4 := k;
BEGIN
  FOR i IN 0 .. length(bits) - 1 LOOP
    left_over := left_over - get_bit(bits, i);
    IF left_over = 0 THEN RETURN i + 1; END IF;
  END LOOP;
  RETURN length(bits);
END $$;

CREATE FUNCTION ones(bits varbit) RETURNS int4 LANGUAGE sql IMMUTABLE AS
  $$ SELECT length(replace(bits::text, '0', '')) $$;

-- Bytes of the body of an item that is packed from `at` on: see item.h. A CBOR
-- byte string, or the first element of an array.
CREATE FUNCTION body_size(bytes bytea, at int4) RETURNS int4
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  i int4 := at + CASE WHEN get_byte(bytes, at) >= 128 THEN 1 ELSE 0 END;
  head int4 := get_byte(bytes, i) & 31;
  size int8 := 0;
BEGIN
  IF head < 24 THEN RETURN head; END IF;
  FOR k IN 1 .. 1 << (head - 24) LOOP
    size := size * 256 + get_byte(bytes, i + k);
  END LOOP;
  RETURN least(size, 2147483647);
END $$;

-- Live items of a run whose bodies fit into `room` bytes, and these bytes; at
-- least `least_of`, `most` at most.
CREATE FUNCTION fitting(bytes bytea, total int4, skip int4, bits varbit,
  room int8, most int4, least_of int4, OUT got int4, OUT size int8)
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  head bytea := substring(bytes FROM 1 FOR 12 * total);
  was int4 := CASE WHEN skip = 0 THEN entry_end(head, total - 1) -
                (octet_length(bytes) - 12 * total)
              ELSE entry_end(head, skip - 1) END;
  base int4 := was;
  start int4 := 12 * total;
  body int4;
BEGIN
  got := 0;
  size := 0;
  IF skip > 0 THEN
    base := entry_end(head, total - 1) - (octet_length(bytes) - 12 * total);
  END IF;
  FOR i IN skip .. total - 1 LOOP
    EXIT WHEN got = most;
    IF bits IS NULL OR get_bit(bits, i - skip) = 1 THEN
      body := body_size(bytes, start + was - base);
      EXIT WHEN size + body > room AND got >= least_of;
      size := size + body;
      got := got + 1;
    END IF;
    was := entry_end(head, i);
  END LOOP;
END $$;

CREATE FUNCTION plus(a int8[], b int8[]) RETURNS int8[]
LANGUAGE sql IMMUTABLE AS $$
  SELECT array_agg(coalesce(x, 0) + coalesce(y, 0) ORDER BY i)
  FROM unnest(a, b) WITH ORDINALITY AS u(x, y, i) $$;

CREATE FUNCTION series_add(q int4, which int2, slot_no int4, more int8[])
RETURNS void LANGUAGE sql AS $$
  INSERT INTO series AS s (queue, what, slot, counts)
    VALUES (q, which, slot_no, more)
    ON CONFLICT (queue, what, slot)
    DO UPDATE SET counts = plus(s.counts, excluded.counts) $$;

-- Items of a queue that are over lose their keys, but for open windows.
CREATE FUNCTION release_keys(q int4, t int8, keys bytea[], items int8[])
RETURNS void LANGUAGE sql AS $$
  DELETE FROM held h WHERE h.queue = q AND h.key = ANY (keys)
    AND h.item = ANY (items) AND h.until <= t $$;

-- A row for counters that none was found for: to be updated once more.
CREATE FUNCTION tally_make(q int4, slot_no int4) RETURNS void LANGUAGE sql
AS $$
  INSERT INTO tally (queue, slot) VALUES (q, slot_no)
    ON CONFLICT DO NOTHING $$;
