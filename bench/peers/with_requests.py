# Python requests: one session, one after another. with_requests.py URL N
import sys

import requests

from token_hs256 import token

session = requests.Session()
session.trust_env = False
for i in range(int(sys.argv[2])):
    reply = session.post(sys.argv[1], headers={"auth": token(), "Accept": "application/json"},
                         json={"fromNo": "+19876543210", "toNo": "+91%010d" % i}, timeout=10)
    if reply.status_code != 200 or "errors" in reply.json():
        sys.exit("status %d" % reply.status_code)
