# SPDX-License-Identifier: MIT
#
# A proxy for TCP on loopback: proxy.py FROM:TO... takes connections to each
# port FROM and passes them on to port TO. While it is stopped by a signal, what
# lies behind it is cut off.
import asyncio
import sys


async def pass_on(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


def server(to):
    async def serve(reader, writer):
        try:
            there = await asyncio.open_connection("127.0.0.1", to)
        except OSError:
            writer.transport.abort()
            return
        await asyncio.gather(pass_on(reader, there[1]),
                             pass_on(there[0], writer))

    return serve


async def main():
    for pair in sys.argv[1:]:
        port, to = map(int, pair.split(":"))
        await asyncio.start_server(server(to), "127.0.0.1", port)
    await asyncio.Event().wait()


asyncio.run(main())
