-- SPDX-License-Identifier: MIT
-- Push: runs with ids that the client owns. A group of pushes alike is one
-- call. Keys, and queues with bounds, are looked after here.

-- Room of a queue: what it holds, as all committed and this transaction have
-- left it. The caller has locked the queue, so that pushes to it come one at
-- a time; settles under way count as not done.
CREATE FUNCTION load_of(q int4, OUT items int8, OUT bytes int8)
LANGUAGE sql AS $$
  SELECT coalesce(sum(y.pushed - y.done - y.died - y.expired - y.removed),
                  0)::int8,
    coalesce(sum(y.bytes), 0)::int8 FROM counted y WHERE y.queue = q $$;

-- Runs that have expired and are not leased, or not any more; locked, `most`
-- at most.
CREATE FUNCTION expired(q int4, t int8, most int4) RETURNS SETOF tid
LANGUAGE sql AS $$
  SELECT a.tid FROM (SELECT x.ctid AS tid FROM run x
    WHERE x.queue = q AND x.expires_at <= t AND x.state <> 1
    LIMIT most FOR UPDATE SKIP LOCKED) a
  UNION ALL
  SELECT b.tid FROM (SELECT x.ctid AS tid
    FROM (SELECT unnest(u.priorities) AS priority FROM queue u
      WHERE u.id = q) p
    CROSS JOIN unnest(ARRAY[0, 2]::int2[]) AS f(fresh)
    JOIN run x ON x.queue = q AND x.priority = p.priority
      AND x.fresh = f.fresh AND x.due <= t
    WHERE x.state = 1 AND x.expires_at <= t
    LIMIT most FOR UPDATE OF x SKIP LOCKED) b
  LIMIT most $$;

-- Ends items that have expired, `max_runs` runs at most, where the queue
-- drops such; how many runs, and of how many items.
CREATE FUNCTION drop_expired(q int4, slot_no int4, t int8, max_runs int4,
  OUT went int4, OUT items int8) LANGUAGE plpgsql AS $$
DECLARE
  size int8; keys bytea[]; firsts int8[]; crashes int8;
BEGIN
  WITH old AS MATERIALIZED (SELECT expired(q, t, max_runs) AS tid),
  gone AS (
    DELETE FROM run x USING old WHERE x.ctid = old.tid
      RETURNING x.live, x.state, x.key, x.first, octet_length(x.bytes) AS size,
        CASE WHEN x.partition IS NOT NULL
          THEN wake_line(x.queue, x.priority, x.partition) END AS woken)
  SELECT count(*), sum(g.live), sum(g.size),
      array_agg(g.key) FILTER (WHERE g.key IS NOT NULL), array_agg(g.first),
      coalesce(sum(g.live) FILTER (WHERE g.state = 1), 0)
    INTO went, items, size, keys, firsts, crashes FROM gone g;
  IF went = 0 THEN RETURN; END IF;
  IF keys IS NOT NULL THEN
    PERFORM release_keys(q, t, keys, firsts);
  END IF;
  INSERT INTO tally AS y (queue, slot, expired, crashed, bytes)
    VALUES (q, slot_no, items, crashes, -size)
    ON CONFLICT (queue, slot) DO UPDATE
    SET expired = y.expired + excluded.expired,
        crashed = y.crashed + excluded.crashed,
        bytes = y.bytes + excluded.bytes;
END $$;

-- Removes the `k` oldest items of the queue's oldest run that was never
-- delivered; false: it has none. Such are fresh ones, and of partitions those
-- whose delay is over, of which the first that was due. Locked ones are passed
-- over.
CREATE FUNCTION drop_oldest(p queue, slot_no int4, t int8, k int8)
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  r record; oldest record; since int8; id int8; items int4; size int8 := 0;
  fr int2;
BEGIN
  FOR i IN 1 .. cardinality(p.priorities) LOOP
    FOREACH fr IN ARRAY
        CASE WHEN p.parted THEN '{1,3,2}' ELSE '{1}' END::int2[] LOOP
      SELECT x.ctid AS tid, x.first, x.pushed_at, x.live, x.n, x.bits, x.key,
          x.priority, x.partition, octet_length(x.bytes) AS size INTO r
        FROM run x WHERE x.queue = p.id AND x.priority = p.priorities[i]
          AND x.fresh = fr AND x.state <> 1 AND x.deliveries = 0
          AND x.attempts = 0 AND x.memo IS NULL
          AND x.due <= CASE WHEN fr = 2 THEN t ELSE 9223372036854775807 END
        ORDER BY x.due, x.first LIMIT 1 FOR UPDATE SKIP LOCKED;
      CONTINUE WHEN NOT FOUND;
      IF since IS NULL OR (r.pushed_at, r.first) < (since, id) THEN
        oldest := r;
        since := r.pushed_at;
        id := r.first;
      END IF;
    END LOOP;
  END LOOP;
  IF since IS NULL THEN RETURN false; END IF;
  IF oldest.partition IS NOT NULL THEN
    PERFORM wake_line(p.id, oldest.priority, oldest.partition);
  END IF;
  items := least(k, oldest.live);
  IF items = oldest.live THEN
    DELETE FROM run x WHERE x.ctid = oldest.tid;
    size := oldest.size;
    IF oldest.key IS NOT NULL THEN
      PERFORM release_keys(p.id, t, ARRAY[oldest.key], ARRAY[oldest.first]);
    END IF;
  ELSE
    k := CASE WHEN oldest.bits IS NULL THEN items
              ELSE reach(oldest.bits, items + 1) - 1 END;
    UPDATE run x SET first = x.first + k, n = x.n - k, live = x.live - items,
        skip = x.skip + k, bits = substring(x.bits FROM k::int4 + 1)
      WHERE x.ctid = oldest.tid;
  END IF;
  INSERT INTO tally AS y (queue, slot, removed, dropped, bytes)
    VALUES (p.id, slot_no, items, items, -size)
    ON CONFLICT (queue, slot) DO UPDATE
    SET removed = y.removed + excluded.removed,
        dropped = y.dropped + excluded.dropped,
        bytes = y.bytes + excluded.bytes;
  RETURN true;
END $$;

-- Makes room for `items` in a queue with bounds, or refuses. The detail of
-- the refusal: enum respool_overflow, items and bytes that there is room for,
-- and 1 where the empty queue had no room either.
CREATE FUNCTION make_room(p queue, slot_no int4, t int8, items int8,
                          size int8) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  has record; tries int8 := 64 + items; never boolean;
BEGIN
  PERFORM FROM queue u WHERE u.id = p.id FOR NO KEY UPDATE;
  never := items > p.max_items OR size > p.max_bytes;
  LOOP
    has := load_of(p.id);
    IF has.items + items <= coalesce(p.max_items, has.items + items) AND
       has.bytes + size <= coalesce(p.max_bytes, has.bytes + size) THEN
      RETURN;
    END IF;
    EXIT WHEN never IS TRUE OR tries <= 0;
    IF p.expires AND EXISTS (SELECT expired(p.id, t, 1)) THEN
      IF NOT p.drop_expired THEN
        PERFORM refuse('RS031', 'expired items are to be ended first');
      END IF;
      tries := tries - 1 -
        (SELECT d.went FROM drop_expired(p.id, slot_no, t, 1) d);
    ELSE
      EXIT WHEN p.overflow <> 1 OR NOT drop_oldest(p, slot_no, t,
        greatest(1, has.items + items - coalesce(p.max_items, has.items)));
    END IF;
  END LOOP;
  PERFORM refuse('RS001', CASE
      WHEN has.items + items > p.max_items
        THEN format('queue ''%s'' is full: max_items is %s', p.name,
                    p.max_items)
      ELSE format('queue ''%s'' is full: max_queue_bytes is %s', p.name,
                  p.max_bytes) END ||
    CASE WHEN items > p.max_items
      THEN format(', it can never hold %s at once', items)
    WHEN size > p.max_bytes
      THEN format(', it can never hold %s at once', size) ELSE '' END,
    concat_ws(' ', p.overflow,
      coalesce(p.max_items - least(has.items, p.max_items), -1),
      coalesce(p.max_bytes - least(has.bytes, p.max_bytes), -1),
      (never IS TRUE)::int4));
END $$;

CREATE FUNCTION end_holder(q int4, tid tid, pr int2, partition bytea)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM run x WHERE x.ctid = end_holder.tid;
  IF partition IS NOT NULL THEN
    PERFORM wake_line(q, pr, partition);
  END IF;
END $$;

-- A key is being pushed: the id of the item that holds it if nothing is to be
-- pushed; NULL: go on, the key is the new item's.
CREATE FUNCTION take_key(p queue, slot_no int4, t int8, name bytea,
                         item int8, on_conflict int2, dedup int8)
RETURNS int8 LANGUAGE plpgsql AS $$
DECLARE
  h record; r record; window_end int8 := 0;
BEGIN
  IF dedup > 0 THEN window_end := after(t, dedup); END IF;
  INSERT INTO held (queue, key, item, until)
    VALUES (p.id, name, take_key.item, window_end) ON CONFLICT DO NOTHING;
  IF FOUND THEN RETURN NULL; END IF;
  SELECT x.item, x.until INTO h FROM held x
    WHERE x.queue = p.id AND x.key = name FOR UPDATE;
  IF NOT FOUND THEN -- given up between the two statements
    RETURN take_key(p, slot_no, t, name, item, on_conflict, dedup);
  END IF;
  SELECT x.ctid AS tid, x.expires_at <= t AND (x.state <> 1 OR x.due <= t)
      AS past, x.state = 1 AND x.due > t AS leased, x.priority,
      x.partition, octet_length(x.bytes) AS size INTO r
    FROM run x WHERE x.first = h.item AND x.queue = p.id FOR UPDATE;
  IF r.tid IS NOT NULL AND r.past AND (h.until <= t OR on_conflict = 2) THEN
    IF NOT p.drop_expired THEN
      PERFORM refuse('RS031', 'an expired item holds the key',
                     h.item::text);
    END IF;
    PERFORM end_holder(p.id, r.tid, r.priority, r.partition);
    INSERT INTO tally AS y (queue, slot, expired, bytes)
      VALUES (p.id, slot_no, 1, -r.size)
      ON CONFLICT (queue, slot) DO UPDATE
      SET expired = y.expired + excluded.expired,
          bytes = y.bytes + excluded.bytes;
  ELSIF r.tid IS NOT NULL OR h.until > t THEN
    IF on_conflict = 0 THEN
      PERFORM refuse('RS017', format(
        'item %s of queue ''%s'' holds this key', h.item, p.name));
    ELSIF on_conflict = 1 THEN
      RETURN h.item;
    ELSIF r.tid IS NOT NULL AND NOT r.leased THEN
      PERFORM end_holder(p.id, r.tid, r.priority, r.partition);
      INSERT INTO tally AS y (queue, slot, removed, bytes)
        VALUES (p.id, slot_no, 1, -r.size)
        ON CONFLICT (queue, slot) DO UPDATE
        SET removed = y.removed + excluded.removed,
            bytes = y.bytes + excluded.bytes;
    END IF;
  END IF;
  UPDATE held x SET item = take_key.item, until = window_end
    WHERE x.queue = p.id AND x.key = name;
  RETURN NULL;
END $$;

-- The queue has a priority, items with a TTL, or items of partitions, that it
-- had not before.
CREATE FUNCTION queue_learn(q int4, pr int2, limited boolean, in_part boolean)
RETURNS void LANGUAGE sql AS $$
  UPDATE queue u SET expires = u.expires OR limited,
      parted = u.parted OR in_part,
      priorities = array(SELECT DISTINCT e FROM unnest(u.priorities || pr) e
                         ORDER BY e DESC)
    WHERE u.id = q $$;

-- What has no result is assigned to `done`, as that costs PL/pgSQL a tenth of
-- PERFORM.
CREATE FUNCTION push_runs(p queue, slot_no int4, now int8,
  priority int2, delay int8, due_at int8, ttl int8, version int8,
  attempts int4, memo bytea, key bytea, on_conflict int2, dedup int8,
  firsts int8[], ns int4[], bodies bytea[], parts bytea[], items int8,
  size int8, OUT first int8, OUT held boolean)
LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
  due int8; parked boolean; expires int8; place int8; done text;
BEGIN
  IF parts IS NOT NULL AND p.ordered THEN done := no_partitions(p.name); END IF;
  held := false;
  first := firsts[1];
  IF key IS NOT NULL THEN
    first := take_key(p, slot_no, now, key, first, on_conflict, dedup);
    held := first IS NOT NULL;
    IF held THEN RETURN; END IF;
    first := firsts[1];
  END IF;
  IF p.max_items IS NOT NULL OR p.max_bytes IS NOT NULL THEN
    done := make_room(p, slot_no, now, items, size);
  END IF;
  ttl := coalesce(ttl, p.ttl, -1);
  IF ttl >= 0 THEN expires := after(now, ttl); END IF;
  IF NOT priority = ANY (p.priorities) OR (ttl >= 0 AND NOT p.expires)
     OR (parts IS NOT NULL AND NOT p.parted) THEN
    done := queue_learn(p.id, priority, ttl >= 0, parts IS NOT NULL);
  END IF;
  due := greatest(now, coalesce(due_at, after(now, delay)));
  parked := due > now OR attempts > 0 OR memo IS NOT NULL;
  IF p.ordered OR (p.by_line AND parts IS NOT NULL) THEN
    place := nextval('place');
  END IF;
  INSERT INTO run (first, due, epoch, pushed_at, expires_at, seq, version,
      queue, n, live, attempts, priority, fresh, state, key, memo, partition,
      bytes)
    SELECT x.f, due, 0, now, expires,
      CASE WHEN p.ordered OR x.p IS NOT NULL THEN place END, version, p.id,
      x.c, x.c, attempts, priority, CASE WHEN parked THEN 0 ELSE 1 END +
      CASE WHEN x.p IS NULL THEN 0 ELSE 2 END,
      CASE WHEN parked THEN 2 ELSE 0 END, key, memo, x.p, x.b
    FROM unnest(firsts, ns, bodies, parts) AS x(f, c, b, p);
  IF parts IS NOT NULL THEN
    PERFORM wake_line(p.id, priority, x.part)
      FROM unnest(parts) AS x(part) WHERE x.part IS NOT NULL;
  END IF;
END $$;

-- Adds a push to the counters of a queue.
CREATE FUNCTION tally_push(q int4, slot_no int4, items int8, size int8,
                           body_bytes int8) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  LOOP
    UPDATE tally y SET pushed = y.pushed + items, bytes = y.bytes + size,
        pushed_bytes = y.pushed_bytes + tally_push.body_bytes
      WHERE y.queue = q AND y.slot = slot_no;
    EXIT WHEN FOUND;
    PERFORM tally_make(q, slot_no);
  END LOOP;
END $$;

-- Pushes runs of `items` items and `size` bytes together, all or nothing.
-- `ttl` NULL: the queue's; below zero: none. `due_at` NULL: `delay` from now.
-- With a key there is one item. `parts`: partitions of the runs; NULL: of none.
-- `owner`: pushed only if a settle before it in the transaction has not found
-- the lease of this run lost, or without such a settle if it is still leased
-- under this token; else the id is 0. Answers the first id, or that of the
-- item that holds the key and then 1; if `ask`, whether a consumer waits; and
-- when it is.
CREATE FUNCTION v1_push(q int4, slot_no int4, wall int8, call uuid, step int2,
  priority int2, delay int8, due_at int8, ttl int8, version int8,
  attempts int4, memo bytea, reason int2, body_bytes int8,
  key bytea, on_conflict int2, dedup int8, owner int8, owner_token int8,
  ask boolean, items int8, size int8,
  firsts int8[], ns int4[], bodies bytea[], parts bytea[], OUT reply int8[])
LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
  p queue; d record; done text; told text; is_lost boolean;
  now int8; ring boolean := false;
BEGIN
  done := share_queue(q);
  SELECT u.* INTO p FROM queue u WHERE u.id = q;
  IF NOT FOUND THEN done := no_queue(q); END IF;
  now := now_ms(wall);
  IF owner IS NOT NULL THEN
    told := current_setting('respool.lost', true);
    IF told LIKE owner_token || ' %' THEN
      is_lost := owner = ANY (split_part(told, ' ', 2)::int8[]);
    ELSE
      PERFORM FROM run x WHERE x.first = owner AND x.epoch = owner_token
        AND x.state = 1 FOR UPDATE;
      is_lost := NOT FOUND;
    END IF;
    IF is_lost THEN
      reply := ARRAY[0, 0, 0, now];
      IF call IS NOT NULL THEN done := note(call, step, '{0,0}'); END IF;
      RETURN;
    END IF;
  END IF;
  d := push_runs(p, slot_no, now, priority, delay, due_at, ttl, version,
    attempts, memo, key, on_conflict, dedup, firsts, ns, bodies, parts,
    items, size);
  IF NOT d.held THEN
    done := tally_push(q, slot_no, items, size, body_bytes);
    IF reason > 0 THEN
      done := series_add(q, 0::int2, slot_no,
        array_fill(0::int8, ARRAY[reason]) || 1::int8);
    END IF;
  END IF;
  IF call IS NOT NULL THEN
    done := note(call, step, ARRAY[d.first, d.held::int4], q);
  END IF;
  IF ask THEN
    ring := EXISTS (SELECT FROM bell b WHERE b.queue = q AND b.until > now);
  END IF;
  reply := ARRAY[d.first, d.held::int4, ring::int4, now];
END $$;

-- A push of one run of which nothing more is said, the most frequent of all.
-- What such a call costs are its parameters, its expressions and its
-- statements, whatever they do: so it has few, and what is put together of
-- several rows costs more than a statement of its own.
CREATE FUNCTION v1_push_run(q int4, slot_no int4, wall int8, call uuid,
  step int2, priority int2, version int8, body_bytes int8, ask boolean,
  first int8, items int4, body bytea, OUT reply int8[])
LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
  now int8; plain boolean; ring boolean; done text;
BEGIN
  done := share_queue(q);
  now := now_ms(wall);
  SELECT u.push_plain AND priority = ANY (u.priorities), ask AND EXISTS (
      SELECT FROM bell b WHERE b.queue = q AND b.until > now)
    INTO plain, ring FROM queue u WHERE u.id = q;
  IF plain THEN
    INSERT INTO run (first, due, epoch, pushed_at, version, queue, n, live,
        priority, fresh, state, bytes)
      VALUES (first, now, 0, now, version, q, items, items, priority, 1, 0,
        body);
    UPDATE call c SET no = step, at = now(), answer = ARRAY[first, 0],
        bytes = c.bytes + octet_length(body), pushed = c.pushed + items,
        pushed_bytes = c.pushed_bytes + body_bytes
      WHERE c.id = call AND c.no < step AND c.queue = q;
    IF NOT FOUND THEN
      done := note(call, step, ARRAY[first, 0], q);
      done := tally_push(q, slot_no, items, octet_length(body), body_bytes);
    END IF;
    reply := ARRAY[first, 0, ring::int4, now];
    RETURN;
  END IF;
  reply := v1_push(q, slot_no, wall, call, step, priority, 0, NULL, NULL,
    version, 0, NULL, 0::int2, body_bytes, NULL, 0::int2, 0, NULL, NULL, ask,
    items, octet_length(body), ARRAY[first], ARRAY[items], ARRAY[body], NULL);
END $$;

-- What is pushed and buried at once, as a full queue has no room for it or as
-- it failed elsewhere: counted as pushed and died, under number `by` of the
-- reasons; -1: that is not counted.
CREATE FUNCTION v1_push_dead(q int4, slot_no int4, call uuid, step int2,
  body_bytes int8, dlqs text[], groups bytea[], reasons bytea[], died_at int8,
  records bytea[], by int2, OUT numbers int8[])
LANGUAGE plpgsql AS $$
DECLARE
  many int8 := cardinality(records);
BEGIN
  numbers := bury(q, dlqs, groups, reasons, v1_push_dead.died_at, records);
  INSERT INTO tally AS y (queue, slot, pushed, died, pushed_bytes)
    VALUES (q, slot_no, many, many, v1_push_dead.body_bytes)
    ON CONFLICT (queue, slot) DO UPDATE
    SET pushed = y.pushed + excluded.pushed, died = y.died + excluded.died,
        pushed_bytes = y.pushed_bytes + excluded.pushed_bytes;
  IF v1_push_dead.by >= 0 THEN
    PERFORM series_add(q, 1::int2, slot_no,
      array_fill(0::int8, ARRAY[v1_push_dead.by]) || many);
  END IF;
  IF v1_push_dead.call IS NOT NULL THEN
    PERFORM note(v1_push_dead.call, step, numbers);
  END IF;
END $$;
