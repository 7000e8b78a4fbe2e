-- SPDX-License-Identifier: MIT
--
-- Schemas for specs of stores in PostgreSQL, in the database that is named by
-- RESPOOL_SPEC_URL: see spec/run. Making one takes longer than most specs, so
-- those that a spec has used are emptied for the next.

local M = {}

-- Kept where busted, which loads this module anew for each file, leaves it.
local registry = debug.getregistry()
local kept = registry["respool.spec.schemas"] or {
  pid = io.popen "echo $PPID":read "*n", made = 0, used = {}, free = {},
}
registry["respool.spec.schemas"] = kept

-- Fails where a store is still open in it: it would go on from what it knows.
local EMPTY = [[
BEGIN; SET LOCAL search_path = %s;
DO $$ BEGIN
  FOR i IN 1 .. 10 LOOP
    PERFORM pg_stat_clear_snapshot();
    EXIT WHEN NOT EXISTS (SELECT FROM pg_stat_activity
      WHERE query LIKE '%%' || '"%s".' || '%%' AND pid <> pg_backend_pid());
    PERFORM pg_sleep(0.01);
    IF i = 10 THEN RAISE 'in use'; END IF;
  END LOOP;
END $$;
DELETE FROM run; DELETE FROM queue; DELETE FROM tally; DELETE FROM series;
DELETE FROM held; DELETE FROM dlq; DELETE FROM dead; DELETE FROM history;
DELETE FROM result;
DELETE FROM replay; DELETE FROM note; DELETE FROM entry; DELETE FROM call;
DELETE FROM bell; DELETE FROM flow; DELETE FROM opening;
DELETE FROM bounds; DELETE FROM line; DELETE FROM wake;
UPDATE probe SET number = 0;
UPDATE token SET next = 1;
SELECT setval('ids', 1, false), setval('place', 1, false),
  setval('turn', 1, false),
  setval(pg_get_serial_sequence('queue', 'id'), 1, false),
  setval(pg_get_serial_sequence('dlq', 'id'), 1, false);
COMMIT;
]]

local function url()
  local given = os.getenv "RESPOOL_SPEC_URL" or ""
  assert(given:find "^postgres", "RESPOOL_SPEC_URL: see spec/run")
  return given
end

local psql

-- Runs SQL text; true when all of it went well. Debian's wrapper of psql takes
-- longer than the statements do.
function M.sql(text)
  psql = psql or io.popen(
    "ls /usr/lib/postgresql/*/bin/psql | tail -n 1"):read "*l"
  local run = assert(io.popen(psql .. " -qAt -v ON_ERROR_STOP=1 '" .. url() ..
    "' >/dev/null 2>&1", "w"))
  run:write(text)
  return run:close() and true or false
end

-- The URL of an empty schema, which is perhaps to be made by its opening.
function M.take()
  local name = table.remove(kept.free)
  if name and not M.sql(EMPTY:format(name, name)) then name = nil end
  if not name then
    kept.made = kept.made + 1
    name = ("spec_%d_%d"):format(kept.pid, kept.made)
  end
  table.insert(kept.used, name)
  return url() .. "&schema=" .. name
end

-- After each spec.
function M.give_back()
  for _, name in ipairs(kept.used) do table.insert(kept.free, name) end
  kept.used = {}
end

return M
