# Python aiohttp: one session, C at a time. with_aiohttp.py URL N C
import asyncio
import sys

import aiohttp

from token_hs256 import token

url, n, concurrency = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
numbers = iter(range(n))


async def worker(session):
    for i in numbers:
        body = {"fromNo": "+19876543210", "toNo": "+91%010d" % i}
        headers = {"auth": token(), "Accept": "application/json"}
        async with session.post(url, headers=headers, json=body) as reply:
            answer = await reply.json()
            if reply.status != 200 or "errors" in answer:
                sys.exit("status %d" % reply.status)


async def main():
    connector = aiohttp.TCPConnector(limit=concurrency)
    timeout = aiohttp.ClientTimeout(total=10)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        await asyncio.gather(*[worker(session) for _ in range(concurrency)])


asyncio.run(main())
