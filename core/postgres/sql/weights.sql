-- SPDX-License-Identifier: MIT
-- The shares of priorities in a take from a queue with weights.

-- How much each of these priorities may give of `want` items: smooth weighted
-- round robin. Whole rounds at once, the rest one by one. Without credits the
-- first item is drawn, so that many small clients keep the shares too.
CREATE FUNCTION deal(weights int8[], credits int8[], want int4,
                     OUT shares int4[], OUT credits_left int8[])
LANGUAGE plpgsql AS $$
DECLARE
  n int4 := cardinality(weights); total int8 := 0; best int4; left_over int4;
  draw float8;
BEGIN
  FOR i IN 1 .. n LOOP total := total + weights[i]; END LOOP;
  FOR i IN 1 .. n LOOP
    shares[i] := (want / total) * weights[i];
  END LOOP;
  left_over := want % total;
  credits_left := credits;
  IF credits_left IS NULL THEN
    credits_left := array_fill(0::int8, ARRAY[n]);
    draw := random() * total;
    FOR i IN 1 .. n LOOP
      credits_left[i] := weights[i];
      IF draw >= 0 THEN best := i; END IF;
      draw := draw - weights[i];
    END LOOP;
    IF left_over > 0 THEN
      credits_left[best] := credits_left[best] - total;
      shares[best] := shares[best] + 1;
      left_over := left_over - 1;
    END IF;
  END IF;
  FOR k IN 1 .. left_over LOOP
    best := 1;
    FOR i IN 1 .. n LOOP
      credits_left[i] := credits_left[i] + weights[i];
      IF credits_left[i] > credits_left[best] THEN best := i; END IF;
    END LOOP;
    credits_left[best] := credits_left[best] - total;
    shares[best] := shares[best] + 1;
  END LOOP;
END $$;

-- The priorities to serve and how much of each: those with something by their
-- shares, then all.
CREATE FUNCTION plan_of(p queue, t int8, want int4, credits int8[],
  OUT priorities int2[], OUT caps int4[], OUT credits_left int8[])
LANGUAGE plpgsql AS $$
DECLARE
  has int4[] := '{}'; w int8[]; c int8[]; dealt record; at int4;
BEGIN
  priorities := '{}';
  caps := '{}';
  IF cardinality(credits) <> cardinality(p.priorities) THEN
    credits := NULL;
  END IF;
  credits_left := coalesce(credits,
    array_fill(0::int8, ARRAY[cardinality(p.priorities)]));
  FOR i IN 1 .. cardinality(p.priorities) LOOP
    IF EXISTS (SELECT FROM run x WHERE x.queue = p.id
          AND x.priority = p.priorities[i] AND x.fresh = 1) OR
        EXISTS (SELECT FROM run x WHERE x.queue = p.id AND x.due <= t
          AND x.priority = p.priorities[i] AND x.fresh = 0) OR
        EXISTS (SELECT FROM line l WHERE l.queue = p.id
          AND l.priority = p.priorities[i] AND l.turn IS NOT NULL) THEN
      has := has || i;
      w := w || coalesce((SELECT p.weights[2 * g]
        FROM generate_series(1, cardinality(p.weights) / 2) g
        WHERE p.weights[2 * g - 1] = p.priorities[i]), 1)::int8;
      c := c || coalesce(credits_left[i], 0);
    END IF;
  END LOOP;
  IF cardinality(has) > 1 THEN
    dealt := deal(w, CASE WHEN credits IS NOT NULL THEN c END, want);
    FOR i IN 1 .. cardinality(has) LOOP
      at := has[i];
      priorities := priorities || p.priorities[at];
      caps := caps || dealt.shares[i];
      credits_left[at] := dealt.credits_left[i];
    END LOOP;
  END IF;
  priorities := priorities || p.priorities;
  caps := caps || array_fill(want, ARRAY[cardinality(p.priorities)]);
END $$;
