-- SPDX-License-Identifier: MIT

local build = assert(os.getenv "RESPOOL_BUILD", "eval \"$(make env)\" first")

local function run(arguments)
  local pipe = assert(io.popen(("%s/lifecycle %s 2>&1; echo $?")
    :format(build, arguments)))
  local said = pipe:read "*a"
  pipe:close()
  return said
end

describe("the C example", function()
  it("goes through the life of its items", function()
    assert.matches("account%s+4 pushed = 3 done %+ 1 died\n0\n$", run "")
  end)

  it("does so on disk as well", function()
    local dir = os.tmpname()
    os.remove(dir)
    assert.matches("4 pushed = 3 done %+ 1 died\n0\n$", run(dir))
    os.execute("rm -rf " .. dir)
  end)

  it("stops where something fails, and says what", function()
    assert.matches("^open: IO: [^\n]*/dev/null[^\n]*\n1\n$", run "/dev/null")
  end)
end)
