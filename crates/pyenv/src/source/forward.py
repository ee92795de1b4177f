"""Listens on the container's loopback and hands each connection to the gate's socket."""
import asyncio
import sys

SOCKET, PORT, READY = sys.argv[1], int(sys.argv[2]), sys.argv[3]


async def pipe(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except OSError:
        writer.close()


async def connected(reader, writer):
    try:
        gate_reader, gate_writer = await asyncio.open_unix_connection(SOCKET)
        await asyncio.gather(pipe(reader, gate_writer), pipe(gate_reader, writer))
        gate_writer.close()
    except OSError as error:
        print(f"the way to the index is closed: {error}", file=sys.stderr, flush=True)
    finally:
        writer.close()


async def main():
    server = await asyncio.start_server(connected, "127.0.0.1", PORT)
    open(READY, "w").close()
    await server.serve_forever()


asyncio.run(main())
