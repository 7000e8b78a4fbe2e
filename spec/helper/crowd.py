# SPDX-License-Identifier: MIT
#
# Answers requests only when so many connections are open at a time.
import asyncio
import resource
import sys

hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
crowd = int(sys.argv[1])
here, full = 0, None


async def serve(reader, writer):
    global here
    await reader.readuntil(b"\r\n\r\n")
    here += 1
    if here == crowd:
        full.set()
    await full.wait()
    writer.write(b"HTTP/1.1 202 Fine\r\nContent-Length: 0\r\n"
                 b"Connection: close\r\n\r\n")
    await writer.drain()
    writer.close()


async def main():
    global full
    full = asyncio.Event()
    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=4096)
    print("port", server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
