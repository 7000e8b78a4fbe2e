-- SPDX-License-Identifier: MIT
--
-- A real nginx for specs: in a temporary directory, on a free port of the
-- loopback, with this tree's modules. Its store lies beside, to be looked at
-- from here, which is another process.

local busted = require "busted"
local helper = require "spec.helper"
local respool = require "respool"
local socket = require "socket"

local M = {}

local running = {}

local MODULES = "/usr/lib/nginx/modules/"
local BUILD = assert(os.getenv "RESPOOL_BUILD", "eval \"$(make env)\" first")
local TREE = helper.sh "pwd"

local CONF = [[
load_module ${modules}ndk_http_module.so;
load_module ${modules}ngx_http_lua_module.so;
error_log ${dir}/error.log warn;
worker_processes ${workers};
${main}
events { worker_connections ${connections}; }
http {
  access_log off;
  client_body_temp_path ${dir}/t1; proxy_temp_path ${dir}/t2;
  fastcgi_temp_path ${dir}/t3; uwsgi_temp_path ${dir}/t4;
  scgi_temp_path ${dir}/t5;
  ${paths}
  ${http}
  server {
    listen 127.0.0.1:${port} backlog=1024 reuseport;
    ${server}
  }
}
]]

M.free_port = require "spec.helper.servers.free_port"

---@class spec.nginx
---@field dir string
---@field port integer
---@field store string where its store is
local Nginx = {}
Nginx.__index = Nginx

-- Where nginx finds this tree's modules.
function M.paths()
  return ([[lua_package_path "%s/lua/?.lua;%s/lua/?/init.lua;;";
    lua_package_cpath "%s/luajit/?.so;;";]]):format(TREE, TREE, BUILD)
end

local function user()
  return helper.sh "id -u" == "0" and "user root;" or ""
end

local function conf_of(n, o)
  if o.conf then return o.conf(n) end
  local values = {
    modules = MODULES, dir = n.dir, port = n.port, paths = M.paths(),
    store = n.store, workers = o.workers or 1,
    connections = o.connections or 256, main = o.main or "",
    http = o.http or "", server = o.server or "",
  }
  local function fill(name)
    return assert(values[name], name)
  end
  local text = CONF
  for _ = 1, 2 do text = text:gsub("%${(%w+)}", fill) end
  return text
end

-- Writes the configuration; `http` and `server` are pieces of it, in which
-- ${store}, ${dir} and others stand for themselves.
function Nginx:configure(o)
  helper.write(self.dir .. "/nginx.conf", conf_of(self, o))
end

-- Connections are accepted before a worker is there to answer.
function Nginx:is_up()
  return self:master() and helper.sh((
    "curl -s -m 60 -o %s/up http://127.0.0.1:%d/up && echo up"):format(
    self.dir, self.port)) == "up"
end

-- Waits until a condition holds; an error with the log when it does not.
function Nginx:await(what, condition, seconds)
  local ends = socket.gettime() + (seconds or 60)
  while not condition() do
    if socket.gettime() > ends then
      error("not in time: " .. what .. "\n" .. self:log(), 2)
    end
    socket.sleep(0.01)
  end
end

-- Waits until this text is in the log.
function Nginx:await_log(text)
  self:await(text, function() return self:log():find(text, 1, true) end)
end

-- One that is started by somebody else.
function M.at(dir, port)
  local n = setmetatable({ dir = dir, port = port, store = dir .. "/store" },
                         Nginx)
  table.insert(running, n)
  return n
end

-- Starts nginx, unless it does not come up, which its log() explains.
function M.try(o)
  local n = M.at(helper.dir(), M.free_port())
  n:configure(o)
  local daemon = o.daemon or "off"
  os.execute(("cd %s; PATH=$PATH:/usr/sbin; nginx -p %s -c nginx.conf -g "
    .. "'daemon %s; pid %s/nginx.pid; %s' >out 2>&1 </dev/null %s"):format(
    n.dir, n.dir, daemon, n.dir, user(), daemon == "on" and "" or "&"))
  return n
end

-- A port that was free may be another's by now.
function M.start(o)
  local n, lost
  repeat
    n = M.try(o)
    n:await("nginx is up", function()
      lost = n:said():find("Address already in use", 1, true)
      return lost or n:is_up()
    end)
  until not lost
  return n
end

local function read(path)
  local file = io.open(path)
  local text = file and file:read "*a" or ""
  if file then file:close() end
  return text
end

function Nginx:log()
  return read(self.dir .. "/error.log")
end

-- Its output before it logs.
function Nginx:said()
  return read(self.dir .. "/out")
end

function Nginx:master()
  self.pid = self.pid or tonumber(read(self.dir .. "/nginx.pid"))
  return self.pid
end

-- Pids of the worker processes, ending ones too.
function Nginx:workers()
  local pids = {}
  for pid in helper.sh(("cat /proc/%d/task/%d/children 2>&1"):format(
    self:master() or 0, self:master() or 0)):gmatch "%d+" do
    pids[#pids + 1] = tonumber(pid)
  end
  return pids
end

function Nginx:signal(name, pid)
  os.execute(("kill -%s %d 2>/dev/null"):format(name, pid or self:master()))
end

-- A zombie is one that only waits to be counted.
local function is_alive(pid)
  local state = read(("/proc/%d/stat"):format(pid)):match "^%d+ %b() (%a)"
  return state ~= nil and state ~= "Z"
end

-- Ends nginx and waits until all of it is gone.
function Nginx:stop(signal)
  local pids = self:workers()
  pids[#pids + 1] = self:master()
  self:signal(signal or "QUIT")
  self:await("nginx is gone", function()
    for _, pid in ipairs(pids) do
      if is_alive(pid) then return false end
    end
    return true
  end)
  self.pid = nil -- which may be another's soon
end

-- The body of a response, its status, and its headers as text.
function Nginx:request(path, options)
  local said = helper.sh(("curl -s -m 60 -D %s/head %s -w '\n%%{http_code}' "
    .. "'http://127.0.0.1:%d%s'"):format(self.dir, options or "", self.port,
                                          path))
  local body, status = said:match "^(.*)\n(%d+)$"
  return body, tonumber(status), helper.read(self.dir .. "/head")
end

function Nginx:post(path, body, options)
  helper.write(self.dir .. "/sent", body)
  return self:request(path, ("--data-binary @%s/sent %s"):format(
    self.dir, options or ""))
end

-- Loads it with wrk; returns how many requests were answered and how many of
-- these not with 2xx or 3xx, and what wrk said.
function Nginx:load(path, options)
  local said = helper.sh(("wrk %s 'http://127.0.0.1:%d%s' 2>&1"):format(
    options, self.port, path))
  local n = tonumber(said:match "(%d+) requests in")
  return n, tonumber(said:match "Non%-2xx or 3xx responses: (%d+)") or 0, said
end

-- Calls a function with the store, opened from here.
function Nginx:look(fn)
  local store = assert(respool.open(self.store))
  local ok, result = pcall(fn, store)
  store:close()
  if not ok then error(result, 0) end
  return result
end

-- Runs a shell command in the background, for load beside the spec.
function M.beside(command)
  local pipe = assert(io.popen(command))
  return function()
    local said = pipe:read "*a"
    pipe:close()
    return said
  end
end

-- The master first, which would replace its workers. Its pid is remembered,
-- as the directory may be gone already.
local function clean()
  for _, n in ipairs(running) do
    local pids = n.pid and is_alive(n.pid) and n:workers() or {}
    table.insert(pids, 1, n.pid)
    for _, pid in ipairs(pids) do n:signal("KILL", pid) end
  end
  running = {}
end

busted.subscribe({ "test", "end" }, function()
  clean()
  return nil, true
end)

return M
