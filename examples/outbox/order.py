"""An order and the message about it, in one transaction: both are there, or neither.

    python3 order.py postgres://host/db 17 +911234567890 [fail]

A worker (`koresms campaign run --all --stay`) sends what was committed, once.
"""
import sys

import psycopg2

address, order, phone = sys.argv[1:4]
fails = "fail" in sys.argv[4:]

connection = psycopg2.connect(address)
with connection, connection.cursor() as cursor:
    cursor.execute("insert into orders (id, phone) values (%s, %s)", (order, phone))
    # `dedupe` keeps a repeated call from texting twice; `expires` keeps a text that is late from
    # being sent at all.
    cursor.execute(
        "insert into koresms_message (recipient, dedupe, expires)"
        " values (%s, %s, now() + interval '10 minutes') on conflict do nothing",
        (phone, "order-" + order),
    )
    if fails:
        raise SystemExit("the order was not placed, and nobody is texted")
connection.close()
