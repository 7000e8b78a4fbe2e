-- SPDX-License-Identifier: MIT
-- Changes of one item, by hand: all but cancel of one that is not leased. The
-- client has looked at
-- the item: `deliveries` and the checksum of its bytes are as it has seen
-- them, NULL: whatever they are.

-- Cuts the item out of its run, so that it is the only one of a row, between
-- the rows of those before and behind it; locked. The caller adds `crashed` and
-- `size`, the bytes that this takes, to the tally.
CREATE FUNCTION part_item(q int4, t int8, id int8, deliveries int4, sum bytea,
                          OUT own run, OUT crashed int8, OUT size int8)
LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
  x run; rest run; h int8 := lock_run(q, id); i int4; lead int4;
BEGIN
  IF h IS NULL THEN
    PERFORM refuse('RS007', format('there is no item %s', id));
  END IF;
  SELECT r.* INTO x FROM run r WHERE r.first = h;
  IF x.state = 1 AND x.due > t THEN
    PERFORM refuse('RS014', format('item %s is leased', id));
  END IF;
  i := (id - x.first)::int4;
  own := x;
  own.first := id; own.n := 1; own.live := 1; own.skip := 0; own.bits := NULL;
  own.bytes := slice(x.bytes, x.skip + x.n, x.skip + i, x.skip + i + 1);
  IF x.deliveries <> deliveries OR substring(own.bytes FROM 5 FOR 8) <> sum
  THEN
    PERFORM refuse('RS011', format('item %s was changed by another', id));
  END IF;
  IF x.state = 1 THEN
    own.state := 2; own.epoch := -x.epoch; own.crashes := x.crashes + 1;
    own.lapses := (x.lapses || x.due)[1:16];
  END IF;
  rest := own; -- what is known of all of them
  IF x.partition IS NOT NULL THEN
    PERFORM wake_line(q, x.priority, x.partition);
  END IF;
  DELETE FROM run r WHERE r.first = x.first;
  size := octet_length(own.bytes) - octet_length(x.bytes);
  INSERT INTO run VALUES (own.*);
  rest.live := CASE WHEN i > 0
    THEN coalesce(ones(substring(x.bits FROM 1 FOR i)), i) ELSE 0 END;
  IF rest.live > 0 THEN -- cancelled ones may lie in front
    rest.first := x.first; rest.n := i;
    rest.bits := substring(x.bits FROM 1 FOR i);
    rest.bytes := slice(x.bytes, x.skip + x.n, x.skip, x.skip + i);
    size := size + octet_length(rest.bytes);
    INSERT INTO run VALUES (rest.*);
  END IF;
  lead := coalesce(position(B'1' IN substring(x.bits FROM i + 2)) - 1, 0);
  IF lead >= 0 AND i + 1 < x.n THEN
    i := i + 1 + lead;
    rest.first := x.first + i; rest.n := x.n - i;
    rest.bits := substring(x.bits FROM i + 1);
    rest.live := coalesce(ones(rest.bits), rest.n);
    rest.bytes := slice(x.bytes, x.skip + x.n, x.skip + i, x.skip + x.n);
    size := size + octet_length(rest.bytes);
    INSERT INTO run VALUES (rest.*);
  END IF;
  crashed := CASE WHEN x.state = 1 THEN x.live ELSE 0 END;
END $$;

-- Adds to a queue's tally: last of all, as its lock is.
CREATE FUNCTION tally_change(q int4, slot_no int4, crashed int8, size int8,
                             died int8, removed int8) RETURNS void
LANGUAGE plpgsql AS $$
#variable_conflict use_variable
BEGIN
  INSERT INTO tally AS y (queue, slot, crashed, bytes, died, removed)
    VALUES (q, slot_no, crashed, size, died, removed)
    ON CONFLICT (queue, slot) DO UPDATE
    SET crashed = y.crashed + excluded.crashed,
        bytes = y.bytes + excluded.bytes, died = y.died + excluded.died,
        removed = y.removed + excluded.removed;
END $$;

-- The item leaves its queue, which keeps its counts but for the one that the
-- caller raises.
CREATE FUNCTION drop_parted(q int4, t int8, x run) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM run r WHERE r.first = x.first;
  IF x.partition IS NOT NULL THEN
    PERFORM wake_line(q, x.priority, x.partition);
  END IF;
  IF x.key IS NOT NULL THEN
    PERFORM release_keys(q, t, ARRAY[x.key], ARRAY[x.first]);
  END IF;
END $$;

-- An item that waits is due now. `ring`: somebody waits for items.
CREATE FUNCTION v1_run_now(q int4, slot_no int4, wall int8, call uuid,
                           step int2, id int8, OUT ring boolean)
LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
  t int8 := now_ms(wall); part record;
BEGIN
  PERFORM share_queue(q);
  IF NOT EXISTS (SELECT FROM run r WHERE r.first = run_of(q, id)
                 AND r.due <= t) THEN
    part := part_item(q, t, id, NULL, NULL);
    UPDATE run r SET due = t WHERE r.first = id;
    PERFORM tally_change(q, slot_no, part.crashed, part.size, 0, 0);
  END IF;
  ring := EXISTS (SELECT FROM bell b WHERE b.queue = q AND b.until > t);
  IF call IS NOT NULL THEN PERFORM note(call, step, '{}'); END IF;
END $$;

-- The item becomes a dead letter; its number.
CREATE FUNCTION v1_kill(q int4, slot_no int4, wall int8, call uuid,
  step int2, id int8, deliveries int4, sum bytea, dlq text, grp bytea,
  reason bytea, by int4, record bytea, OUT number int8)
LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
  t int8 := now_ms(wall); part record; x run;
BEGIN
  PERFORM share_queue(q);
  part := part_item(q, t, id, deliveries, sum);
  x := part.own;
  PERFORM drop_parted(q, t, x);
  number := (bury(q, ARRAY[dlq], ARRAY[grp], ARRAY[reason], t,
                  ARRAY[record]))[1];
  PERFORM series_add(q, 1::int2, slot_no,
                     array_fill(0::int8, ARRAY[by]) || 1::int8);
  PERFORM tally_change(q, slot_no, part.crashed,
                       part.size - octet_length(x.bytes), 1, 0);
  IF call IS NOT NULL THEN PERFORM note(call, step, ARRAY[number]); END IF;
END $$;

-- The item goes to queue `target`, under the id `new_id`; `bytes`, a run of
-- one, are made for that.
CREATE FUNCTION v1_move(q int4, slot_no int4, wall int8, call uuid,
  step int2, id int8, deliveries int4, sum bytea, target int4, new_id int8,
  body_bytes int8, bytes bytea, OUT ring boolean)
LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
  t int8 := now_ms(wall); part record; x run; p queue; old_size int8;
BEGIN
  PERFORM share_queue(least(q, target));
  PERFORM share_queue(greatest(q, target));
  SELECT u.* INTO p FROM queue u WHERE u.id = target;
  IF NOT FOUND THEN PERFORM no_queue(target); END IF;
  IF p.max_items IS NOT NULL OR p.max_bytes IS NOT NULL THEN
    PERFORM FROM queue u WHERE u.id = target FOR NO KEY UPDATE;
  END IF;
  part := part_item(q, t, id, deliveries, sum);
  x := part.own;
  IF x.partition IS NOT NULL AND p.ordered THEN
    PERFORM no_partitions(p.name);
  END IF;
  old_size := octet_length(x.bytes);
  PERFORM drop_parted(q, t, x);
  IF x.key IS NOT NULL THEN
    PERFORM take_key(p, slot_no, t, x.key, new_id, 0::int2, 0::int8);
  END IF;
  IF p.max_items IS NOT NULL OR p.max_bytes IS NOT NULL THEN
    PERFORM make_room(p, slot_no, t, 1::int8, octet_length(bytes)::int8);
  END IF;
  IF NOT x.priority = ANY (p.priorities)
     OR (x.expires_at IS NOT NULL AND NOT p.expires)
     OR (x.partition IS NOT NULL AND NOT p.parted) THEN
    PERFORM queue_learn(target, x.priority, x.expires_at IS NOT NULL,
                        x.partition IS NOT NULL);
  END IF;
  x.first := new_id; x.queue := target; x.pushed_at := t; x.epoch := 0;
  x.bytes := bytes; x.due := greatest(x.due, t);
  x.seq := CASE WHEN p.ordered OR (p.by_line AND x.partition IS NOT NULL)
    THEN nextval('place') END;
  INSERT INTO run VALUES (x.*);
  IF x.partition IS NOT NULL THEN
    PERFORM wake_line(target, x.priority, x.partition);
  END IF;
  PERFORM tally_change(q, slot_no, part.crashed, part.size - old_size, 0, 1);
  INSERT INTO tally AS y (queue, slot, pushed, bytes, pushed_bytes)
    VALUES (target, slot_no, 1, octet_length(bytes), body_bytes)
    ON CONFLICT (queue, slot) DO UPDATE
    SET pushed = y.pushed + excluded.pushed,
        bytes = y.bytes + excluded.bytes,
        pushed_bytes = y.pushed_bytes + excluded.pushed_bytes;
  ring := EXISTS (SELECT FROM bell b WHERE b.queue = target AND b.until > t);
  IF call IS NOT NULL THEN PERFORM note(call, step, '{}'); END IF;
END $$;

-- The item gets other bytes, a run of one, in its place.
CREATE FUNCTION v1_edit(q int4, slot_no int4, wall int8, call uuid,
  step int2, id int8, deliveries int4, sum bytea, version int8, bytes bytea)
RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
  t int8 := now_ms(wall); part record; p queue; more int8;
BEGIN
  PERFORM share_queue(q);
  SELECT u.* INTO p FROM queue u WHERE u.id = q;
  IF NOT FOUND THEN PERFORM no_queue(q); END IF;
  IF p.max_bytes IS NOT NULL THEN
    PERFORM FROM queue u WHERE u.id = q FOR NO KEY UPDATE;
  END IF;
  part := part_item(q, t, id, deliveries, sum);
  more := octet_length(bytes) - octet_length((part.own).bytes);
  IF more > 0 AND (load_of(q)).bytes + part.size + more > p.max_bytes THEN
    PERFORM refuse('RS001', format(
      'queue ''%s'' is full: max_queue_bytes is %s', p.name, p.max_bytes));
  END IF;
  UPDATE run r SET bytes = v1_edit.bytes, version = v1_edit.version
    WHERE r.first = id;
  PERFORM tally_change(q, slot_no, part.crashed, part.size + more, 0, 0);
  IF call IS NOT NULL THEN PERFORM note(call, step, '{}'); END IF;
END $$;

-- Keeps a cancelled item of a run, as it was, as history.
CREATE FUNCTION keep_cancelled(q int4, slot_no int4, t int8, x run, id int8)
RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
  i int4 := (id - x.first)::int4;
  own bytea := slice(x.bytes, x.skip + x.n, x.skip + i, x.skip + i + 1);
BEGIN
  INSERT INTO history VALUES (q, moment(q, t, id, 1), id, x.pushed_at,
    x.version, 1, 0, 1, x.attempts, x.deliveries, x.priority, NULL, own, true);
  INSERT INTO tally AS y (queue, slot, kept, kept_bytes)
    VALUES (q, slot_no, 1, octet_length(own)) ON CONFLICT (queue, slot)
    DO UPDATE SET kept = y.kept + excluded.kept,
      kept_bytes = y.kept_bytes + excluded.kept_bytes;
END $$;

-- The item goes, leased or not. Its batch finds that the run has fewer live
-- items than it believes, or is gone: so the first id of a leased run stays,
-- though the item is no longer live.
CREATE FUNCTION v1_cancel(q int4, slot_no int4, wall int8, call uuid,
                          step int2, id int8) RETURNS void
LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
  t int8 := now_ms(wall); h int8; x run; size int8 := 0;
BEGIN
  PERFORM share_queue(q);
  h := lock_run(q, id);
  IF h IS NULL THEN
    PERFORM refuse('RS007', format('there is no item %s', id));
  END IF;
  SELECT r.* INTO x FROM run r WHERE r.first = h;
  IF x.state <> 1 OR x.due <= t THEN
    PERFORM v1_remove(q, slot_no, wall, NULL, step, ARRAY[id], true);
  ELSE
    IF x.live = 1 THEN
      PERFORM drop_parted(q, t, x);
      size := -octet_length(x.bytes);
    ELSE
      UPDATE run r SET live = r.live - 1, bits = set_bit(
          coalesce(r.bits, repeat('1', r.n)::varbit), (id - h)::int4, 0)
        WHERE r.first = h;
      IF x.partition IS NOT NULL THEN
        PERFORM wake_line(q, x.priority, x.partition);
      END IF;
    END IF;
    PERFORM tally_change(q, slot_no, 0, size, 0, 1);
  END IF;
  IF (SELECT u.keep_done FROM queue u WHERE u.id = q) > 0 THEN
    PERFORM keep_cancelled(q, slot_no, t, x, id);
  END IF;
  IF call IS NOT NULL THEN PERFORM note(call, step, '{}'); END IF;
END $$;
