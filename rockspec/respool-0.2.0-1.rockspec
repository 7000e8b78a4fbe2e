rockspec_format = "3.0"
package = "respool"
version = "0.2.0-1"
source = {
  url = "file://respool-0.2.0.tar.gz", -- beside it: `make dist`
}
description = {
  summary = "A durable queue that lives inside a program",
  detailed = [[
respool keeps items in LMDB, hands them out under leases, retries them by
policy, keeps what failed for good as dead letters and replays those on
request. Any number of processes work on one store.

Some functions need further rocks, each loaded only where it is used:
argparse for the command line, luasocket for receiving by HTTP, luaossl for
signatures. JSON and delivery by HTTP are built where pkg-config finds jansson
and libcurl.]],
  license = "MIT",
}
dependencies = {
  "lua >= 5.1, < 5.5",
}
external_dependencies = {
  LMDB = { header = "lmdb.h", library = "lmdb" },
  CBOR = { header = "cbor/streaming.h", library = "cbor" },
  XXHASH = { header = "xxhash.h", library = "xxhash" },
}
build = {
  type = "make",
  build_target = "rock",
  build_variables = {
    CC = "$(CC)",
    CFLAGS = "$(CFLAGS)",
    LUA_INCDIR = "$(LUA_INCDIR)",
    CPPFLAGS = "-I$(LMDB_INCDIR) -I$(CBOR_INCDIR) -I$(XXHASH_INCDIR)",
    LDFLAGS = "-L$(LMDB_LIBDIR) -L$(CBOR_LIBDIR) -L$(XXHASH_LIBDIR)",
  },
  install_target = "rock-install",
  install_variables = {
    LUA_INCDIR = "$(LUA_INCDIR)",
    INST_LUADIR = "$(LUADIR)",
    INST_LIBDIR = "$(LIBDIR)",
  },
  install = {
    bin = { respool = "bin/respool" },
  },
}
