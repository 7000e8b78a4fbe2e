-- SPDX-License-Identifier: MIT
-- The invariants of DESIGN section 4, as far as they have a meaning here, one
-- line for each that is broken. One statement, so one snapshot. Checksums are
-- the client's to verify.
CREATE FUNCTION v1_check() RETURNS SETOF text LANGUAGE sql STABLE AS $$
  WITH alive AS ( -- every live id
    SELECT x.first + i AS id, x.first, x.queue FROM run x,
      generate_series(0, x.n - 1) AS i
    WHERE x.bits IS NULL OR get_bit(x.bits, i) = 1)
  SELECT format('run %s: %s ids, %s live, %s bits set', x.first, x.n, x.live,
      ones(x.bits)) FROM run x
    WHERE x.n < 1 OR x.live < 1 OR x.skip < 0 OR x.n > 4096
      OR x.live <> coalesce(ones(x.bits), x.n)
      OR length(x.bits) <> x.n
      OR (get_bit(x.bits, 0) = 0 AND x.state <> 1)
  UNION ALL
  SELECT format('item %s is in %s runs', i.id, count(*)) FROM alive i
    GROUP BY i.id HAVING count(*) > 1
  UNION ALL
  SELECT format('run %s belongs to no queue', x.first) FROM run x
    WHERE NOT EXISTS (SELECT FROM queue u WHERE u.id = x.queue)
  UNION ALL
  SELECT format('run %s: state %s, fresh %s, epoch %s', x.first, x.state,
      x.fresh, x.epoch) FROM run x
    WHERE (x.fresh & 1 = 1) <> (x.state = 0) OR x.state NOT IN (0, 1, 2)
      OR (x.fresh & 2 = 2) <> (x.partition IS NOT NULL) OR x.fresh > 3
      OR (x.state = 1 AND x.epoch <= 0) OR (x.state <> 1 AND x.epoch > 0)
      OR (x.fresh & 1 = 1 AND x.deliveries > 0)
  UNION ALL
  SELECT format('run %s: its priority %s is not one of its queue', x.first,
      x.priority) FROM run x JOIN queue u ON u.id = x.queue
    WHERE NOT x.priority = ANY (u.priorities)
  UNION ALL
  SELECT format('queue ''%s'' has no row of its rate and breaker', u.name)
    FROM queue u
    WHERE u.flows AND NOT EXISTS (SELECT FROM flow f WHERE f.queue = u.id
      AND f.partition = '')
  UNION ALL
  SELECT format('flow of queue %s: level %s of %s, breaker %s, %s failures in '
      'a row', f.queue, f.level, f.bucket, f.breaker, cardinality(f.failures))
    FROM flow f
    WHERE NOT EXISTS (SELECT FROM queue u WHERE u.id = f.queue)
      OR f.level > f.bucket OR f.level < 0 OR f.breaker NOT IN (0, 1, 2)
      OR (f.breaker <> 0 AND (f.failures <> '{}' OR f.most_failures IS NULL))
  UNION ALL
  SELECT format('run %s has no place in the order of its queue', x.first)
    FROM run x JOIN queue u ON u.id = x.queue
    WHERE x.seq IS NULL
      AND (u.ordered OR (u.by_line AND x.partition IS NOT NULL))
  UNION ALL
  SELECT format('run %s: no take looks for its line', x.first) FROM run x
    WHERE x.partition IS NOT NULL
      AND NOT EXISTS (SELECT FROM wake w WHERE w.queue = x.queue
        AND w.partition = x.partition)
      AND NOT EXISTS (SELECT FROM line l WHERE l.queue = x.queue
        AND l.partition = x.partition AND l.priority = x.priority
        AND coalesce(l.turn, l.due) IS NOT NULL)
  UNION ALL
  SELECT format('run %s is of a partition, its queue knows of none', x.first)
    FROM run x JOIN queue u ON u.id = x.queue
    WHERE x.partition IS NOT NULL AND (u.ordered OR NOT u.parted)
  UNION ALL
  SELECT format('run %s: a checksum table of %s bytes, %s stored', x.first,
      12 * (x.skip + x.n), octet_length(x.bytes)) FROM run x
    WHERE octet_length(x.bytes) < 12 * (x.skip + x.n)
  UNION ALL
  SELECT format('queue ''%s'': %s items, its counters say %s', u.name,
      coalesce(r.live, 0), coalesce(y.live, 0))
    FROM queue u
    LEFT JOIN (SELECT queue, sum(live) AS live FROM run GROUP BY queue) r
      ON r.queue = u.id
    LEFT JOIN (SELECT queue, sum(pushed - done - died - expired - removed)
      AS live FROM counted GROUP BY queue) y ON y.queue = u.id
    WHERE coalesce(r.live, 0) <> coalesce(y.live, 0)
  UNION ALL
  SELECT format('queue ''%s'': %s bytes, its counters say %s', u.name,
      coalesce(r.bytes, 0), coalesce(y.bytes, 0))
    FROM queue u
    LEFT JOIN (SELECT queue, sum(octet_length(bytes)) AS bytes FROM run
      GROUP BY queue) r ON r.queue = u.id
    LEFT JOIN (SELECT queue, sum(bytes) AS bytes FROM counted
      GROUP BY queue) y ON y.queue = u.id
    WHERE coalesce(r.bytes, 0) <> coalesce(y.bytes, 0)
  UNION ALL
  SELECT format('queue ''%s'': %s items and %s bytes of history, its counters '
      'say %s and %s', u.name, coalesce(h.kept, 0), coalesce(h.bytes, 0),
      coalesce(y.kept, 0), coalesce(y.bytes, 0))
    FROM queue u
    LEFT JOIN (SELECT k.queue, sum(k.kept) AS kept, sum(k.bytes) AS bytes
      FROM (SELECT h.queue, h.kept, octet_length(h.bytes) AS bytes
            FROM history h
            UNION ALL
            SELECT r.queue, 0, octet_length(r.bytes) FROM result r) k
      GROUP BY k.queue) h ON h.queue = u.id
    LEFT JOIN (SELECT queue, sum(kept) AS kept, sum(kept_bytes) AS bytes
      FROM tally GROUP BY queue) y ON y.queue = u.id
    WHERE coalesce(h.kept, 0) <> coalesce(y.kept, 0)
      OR coalesce(h.bytes, 0) <> coalesce(y.bytes, 0)
  UNION ALL
  SELECT format('a result of item %s of queue %s, which is not kept', r.item,
      r.queue) FROM result r
    WHERE NOT EXISTS (SELECT FROM history h WHERE h.queue = r.queue
      AND h.done_at = r.done_at AND r.item >= h.first
      AND r.item < h.first + h.n)
  UNION ALL
  SELECT format('a key of queue %s is held by item %s, which is over',
      h.queue, h.item) FROM held h
    WHERE h.until = 0 AND NOT EXISTS (
      SELECT FROM run x WHERE x.first = h.item AND x.key = h.key)
  UNION ALL
  SELECT format('DLQ ''%s'': %s dead letters of %s bytes, its counters say %s '
      'and %s', b.name, count(d.number),
      coalesce(sum(octet_length(d.record)), 0), b.count, b.bytes)
    FROM dlq b LEFT JOIN dead d ON d.dlq = b.id
    GROUP BY b.id, b.name, b.count, b.bytes, b.next_number
    HAVING count(d.number) <> b.count OR max(d.number) >= b.next_number
      OR coalesce(sum(octet_length(d.record)), 0) <> b.bytes
  UNION ALL
  SELECT format('run %s: token %s was not given out yet', x.first, x.epoch)
    FROM run x, token k WHERE abs(x.epoch) >> 20 >= k.next
  UNION ALL
  SELECT format('run %s: its ids were not given out yet', x.first)
    FROM run x, ids k WHERE x.first + x.n > k.last_value + 65536 $$;

-- Further records of the whole store, for the client to verify.
CREATE FUNCTION v1_scan(behind int8, want int4) RETURNS SETOF v1_taken
LANGUAGE sql STABLE AS $$
  SELECT (shown(x, row_number() OVER (ORDER BY x.first))).* FROM (
    SELECT r.* FROM run r WHERE r.first > behind
    ORDER BY r.first LIMIT want) x $$;

CREATE FUNCTION v1_scan_history(q int4, at int8, behind int8, want int4)
RETURNS SETOF history LANGUAGE sql STABLE AS $$
  SELECT h.* FROM history h
  WHERE (h.queue, h.done_at, h.first) > (q, at, behind)
  ORDER BY h.queue, h.done_at, h.first LIMIT want $$;

CREATE FUNCTION v1_scan_dead(box int4, behind int8, want int4)
RETURNS TABLE (dlq int4, name text, number int8, record bytea)
LANGUAGE sql STABLE AS $$
  SELECT d.dlq, b.name, d.number, d.record
  FROM dead d JOIN dlq b ON b.id = d.dlq
  WHERE (d.dlq, d.number) > (box, behind)
  ORDER BY d.dlq, d.number LIMIT want $$;

CREATE FUNCTION v1_scan_replays() RETURNS TABLE (name text, record bytea)
LANGUAGE sql STABLE AS $$ SELECT r.name, r.record FROM replay r $$;

-- Bytes on the server's disk; and a number that rises with every commit.
CREATE FUNCTION v1_store(OUT id text, OUT bytes int8, OUT last_txn int8,
                         OUT snapshot_age int8, OUT dead_rows int8)
LANGUAGE sql STABLE AS $$
  SELECT (SELECT m.value FROM meta m WHERE m.name = 'store'),
    (SELECT sum(pg_total_relation_size(c.oid))::int8 FROM pg_class c
      WHERE c.relnamespace = (
        SELECT r.relnamespace FROM pg_class r WHERE r.oid = 'run'::regclass)
        AND c.relkind = 'r'),
    txid_snapshot_xmax(txid_current_snapshot()),
    (h.seconds * 1000)::int8, h.dead_rows
  FROM v1_horizon() h $$;
