# An HS256 token with the standard library.
import base64
import hmac
import json
import time

SECRET = b"0123456789abcdef" * 3


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


HEAD = b64(b'{"alg":"HS256","typ":"JWT"}') + b"."


def token():
    now = int(time.time())
    claims = {"appId": "cs-00000000-0000-5000-8000-000000000002", "sub": "koresms",
              "iat": now, "exp": now + 300}
    signed = HEAD + b64(json.dumps(claims, separators=(",", ":")).encode())
    return (signed + b"." + b64(hmac.digest(SECRET, signed, "sha256"))).decode()
