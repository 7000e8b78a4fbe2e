-- SPDX-License-Identifier: MIT
-- Removing by hand, and what dead letters and named replays change.

-- Takes items out of the queue; how many, and how many are leased. Those that
-- are gone count as neither. `strict`: one that is gone or leased is refused.
CREATE FUNCTION v1_remove(q int4, slot_no int4, wall int8, call uuid,
                          step int2, ids int8[], strict boolean,
                          OUT removed int8, OUT busy int8)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  t int8 := now_ms(wall); id int8; x run; size int8 := 0; lapsed int8 := 0;
  left_over varbit; lead int4; h int8;
BEGIN
  removed := 0;
  busy := 0;
  FOR id IN SELECT DISTINCT u.id FROM unnest(ids) AS u(id) ORDER BY u.id LOOP
    h := lock_run(q, id);
    IF h IS NULL THEN
      CONTINUE WHEN NOT strict;
      PERFORM refuse('RS007', format('there is no item %s', id));
    END IF;
    SELECT r.* INTO x FROM run r WHERE r.first = h;
    IF x.state = 1 AND x.due > t THEN
      IF strict THEN
        PERFORM refuse('RS014', format('item %s is leased', id));
      END IF;
      busy := busy + 1;
      CONTINUE;
    END IF;
    removed := removed + 1;
    IF x.state = 1 THEN lapsed := lapsed + x.live; END IF;
    IF x.partition IS NOT NULL THEN
      PERFORM wake_line(q, x.priority, x.partition);
    END IF;
    IF x.live = 1 THEN
      DELETE FROM run r WHERE r.first = x.first;
      size := size + octet_length(x.bytes);
      IF x.key IS NOT NULL THEN
        PERFORM release_keys(q, t, ARRAY[x.key], ARRAY[x.first]);
      END IF;
    ELSE
      left_over := set_bit(coalesce(x.bits, repeat('1', x.n)::varbit),
                           (id - x.first)::int4, 0);
      lead := position(B'1' IN left_over) - 1;
      UPDATE run r SET first = r.first + lead, n = r.n - lead,
          skip = r.skip + lead, live = r.live - 1,
          bits = substring(left_over FROM lead + 1),
          state = CASE WHEN r.state = 1 THEN 2 ELSE r.state END,
          epoch = CASE WHEN r.state = 1 THEN -r.epoch ELSE r.epoch END,
          crashes = r.crashes + CASE WHEN r.state = 1 THEN 1 ELSE 0 END,
          lapses = CASE WHEN r.state = 1 THEN (r.lapses || r.due)[1:16]
                        ELSE r.lapses END
        WHERE r.first = x.first;
    END IF;
  END LOOP;
  IF removed > 0 THEN
    INSERT INTO tally AS y (queue, slot, removed, crashed, bytes)
      VALUES (q, slot_no, removed, lapsed, -size)
      ON CONFLICT (queue, slot) DO UPDATE
      SET removed = y.removed + excluded.removed,
          crashed = y.crashed + excluded.crashed,
          bytes = y.bytes + excluded.bytes;
  END IF;
  IF call IS NOT NULL THEN
    PERFORM note(call, step, ARRAY[removed, busy]);
  END IF;
END $$;

-- Removes up to `max_runs` runs that are not leased; `more`: there may be
-- others.
CREATE FUNCTION v1_purge(q int4, slot_no int4, wall int8, max_runs int4,
                         OUT removed int8, OUT more boolean)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  t int8 := now_ms(wall); went int8; size int8; keys bytea[]; firsts int8[];
  pr int2; fr int2; tids tid[] := '{}'; got tid[]; lapsed int8;
BEGIN
  FOREACH pr IN ARRAY (SELECT u.priorities FROM queue u WHERE u.id = q) LOOP
    FOR fr IN 0 .. 3 LOOP
      got := array(SELECT x.ctid FROM run x WHERE x.queue = q
        AND x.priority = pr AND x.fresh = fr
        AND NOT (x.state = 1 AND x.due > t)
        ORDER BY x.due, x.first LIMIT max_runs - cardinality(tids)
        FOR UPDATE SKIP LOCKED);
      tids := tids || got;
    END LOOP;
  END LOOP;
  WITH gone AS (
    DELETE FROM run x WHERE x.ctid = ANY (tids)
      RETURNING x.live, x.key, x.first, x.state,
        octet_length(x.bytes) AS size,
        CASE WHEN x.partition IS NOT NULL
          THEN wake_line(x.queue, x.priority, x.partition) END AS woken)
  SELECT count(*), coalesce(sum(g.live), 0), coalesce(sum(g.size), 0),
      coalesce(sum(g.live) FILTER (WHERE g.state = 1), 0),
      array_agg(g.key) FILTER (WHERE g.key IS NOT NULL), array_agg(g.first)
    INTO went, removed, size, lapsed, keys, firsts FROM gone g;
  IF keys IS NOT NULL THEN
    PERFORM release_keys(q, t, keys, firsts);
  END IF;
  INSERT INTO tally AS y (queue, slot, removed, crashed, bytes)
    VALUES (q, slot_no, removed, lapsed, -size)
    ON CONFLICT (queue, slot) DO UPDATE
    SET removed = y.removed + excluded.removed,
        crashed = y.crashed + excluded.crashed,
        bytes = y.bytes + excluded.bytes;
  more := went = max_runs;
END $$;

-- Dead letters with these numbers go; how many there were. `strict`: all of
-- them, or NOT_FOUND and nothing has happened: that is how a move, whose
-- pushes are in the same unit, is sure of each. The same one lock at a time.
CREATE FUNCTION v1_dead_remove(dlq text, call uuid, step int2,
                               numbers int8[], strict boolean, OUT removed int8)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  box int4; went int8[]; size int8;
BEGIN
  SELECT b.id INTO box FROM dlq b WHERE b.name = v1_dead_remove.dlq
    FOR NO KEY UPDATE;
  WITH gone AS (DELETE FROM dead d WHERE d.dlq = box
    AND d.number = ANY (numbers)
    RETURNING d.number, octet_length(d.record) AS size)
  SELECT count(*), array_agg(g.number), coalesce(sum(g.size), 0)
    INTO removed, went, size FROM gone g;
  IF strict AND removed < cardinality(numbers) THEN
    PERFORM refuse('RS007', format('there is no dead letter %s in DLQ ''%s''',
      (SELECT n FROM unnest(numbers) AS n WHERE n <> ALL (
        coalesce(went, '{}')) LIMIT 1), v1_dead_remove.dlq));
  END IF;
  UPDATE dlq b SET count = b.count - removed, bytes = b.bytes - size
    WHERE b.id = box;
  IF call IS NOT NULL THEN PERFORM note(call, step, ARRAY[removed]); END IF;
END $$;

-- Looks at `page` dead letters behind `behind` and removes those that died
-- before (0: whenever) and are of the group (NULL: any).
CREATE FUNCTION v1_dead_purge(dlq text, behind int8, page int4, before int8,
  grp bytea, OUT last_number int8, OUT removed int8, OUT more boolean)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  box int4; looked int8; size int8;
BEGIN
  SELECT b.id INTO box FROM dlq b WHERE b.name = v1_dead_purge.dlq
    FOR NO KEY UPDATE;
  SELECT max(d.number), count(*) INTO last_number, looked FROM (
    SELECT d.number FROM dead d WHERE d.dlq = box AND d.number > behind
    ORDER BY d.number LIMIT page) d;
  WITH gone AS (DELETE FROM dead d WHERE d.dlq = box AND d.number > behind
    AND d.number <= last_number AND (before = 0 OR d.died_at < before)
    AND (v1_dead_purge.grp IS NULL OR d.grp = v1_dead_purge.grp)
    RETURNING octet_length(d.record) AS size)
  SELECT count(*), coalesce(sum(g.size), 0) INTO removed, size FROM gone g;
  UPDATE dlq b SET count = b.count - removed, bytes = b.bytes - size
    WHERE b.id = box;
  last_number := coalesce(last_number, behind);
  more := looked = page;
END $$;

-- Stores a named replay with the next revision, if the stored one is at
-- `revision`, 0 where there is none; else another runner has changed it, or
-- somebody has cancelled it.
CREATE FUNCTION v1_replay_save(name text, call uuid, step int2,
                               revision int8, record bytea)
RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
  IF v1_replay_save.revision = 0 THEN
    INSERT INTO replay (name, revision, record)
      VALUES (v1_replay_save.name, 1, v1_replay_save.record)
      ON CONFLICT DO NOTHING;
  ELSE
    UPDATE replay r SET record = v1_replay_save.record,
        revision = r.revision + 1
      WHERE r.name = v1_replay_save.name
        AND r.revision = v1_replay_save.revision;
  END IF;
  IF NOT FOUND THEN
    PERFORM refuse('RS011', format(
      'named replay ''%s'' was changed by another runner',
      v1_replay_save.name));
  END IF;
  IF call IS NOT NULL THEN PERFORM note(call, step, '{}'); END IF;
END $$;

CREATE FUNCTION v1_replay_remove(name text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM replay r WHERE r.name = v1_replay_remove.name;
  IF NOT FOUND THEN
    PERFORM refuse('RS007', format('there is no named replay ''%s''', name));
  END IF;
END $$;

-- `bytes` NULL: removed.
CREATE FUNCTION v1_note_save(name text, call uuid, step int2, bytes bytea)
RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
  IF v1_note_save.bytes IS NOT NULL THEN
    INSERT INTO note AS n (name, bytes)
      VALUES (v1_note_save.name, v1_note_save.bytes)
      ON CONFLICT (name) DO UPDATE SET bytes = excluded.bytes;
  ELSE
    DELETE FROM note n WHERE n.name = v1_note_save.name;
    IF NOT FOUND THEN
      PERFORM refuse('RS007', format('there is no note ''%s''',
                                     v1_note_save.name));
    END IF;
  END IF;
  IF call IS NOT NULL THEN PERFORM note(call, step, '{}'); END IF;
END $$;

CREATE FUNCTION v1_note_load(name text) RETURNS bytea LANGUAGE sql STABLE
AS $$ SELECT n.bytes FROM note n WHERE n.name = v1_note_load.name $$;

-- `bytes` NULL: removed. `revision` is that of the stored one; 0: there is
-- none.
CREATE FUNCTION v1_entry_save(kind int2, name text, call uuid, step int2,
                              revision int8, bytes bytea)
RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  x text := v1_entry_save.name;
BEGIN
  IF v1_entry_save.bytes IS NULL THEN
    DELETE FROM entry e WHERE e.kind = v1_entry_save.kind AND e.name = x
      AND e.revision = v1_entry_save.revision;
  ELSIF v1_entry_save.revision = 0 THEN
    INSERT INTO entry (kind, name, revision, bytes)
      VALUES (v1_entry_save.kind, x, 1, v1_entry_save.bytes)
      ON CONFLICT DO NOTHING;
  ELSE
    UPDATE entry e SET bytes = v1_entry_save.bytes, revision = e.revision + 1
      WHERE e.kind = v1_entry_save.kind AND e.name = x
        AND e.revision = v1_entry_save.revision;
  END IF;
  IF NOT FOUND THEN
    PERFORM refuse('RS011', format('%L was changed by another process', x));
  END IF;
  IF call IS NOT NULL THEN PERFORM note(call, step, '{}'); END IF;
END $$;

-- Those of a kind, or the one of a name, in byte order.
CREATE FUNCTION v1_entries(kind int2, name text)
RETURNS TABLE (of_name text, revision int8, bytes bytea)
LANGUAGE sql STABLE AS $$
  SELECT e.name, e.revision, e.bytes FROM entry e
  WHERE e.kind = v1_entries.kind
    AND (v1_entries.name IS NULL OR e.name = v1_entries.name)
  ORDER BY e.name COLLATE "C" $$;
