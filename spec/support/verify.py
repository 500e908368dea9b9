"""Checks tokens with PyJWT and the cryptography package, which share no code with us.

Standard input: one JSON object a line with `token`, `algorithm`, `client_id` and either
`secret` (hexadecimal) or `public_key` (PEM); `now` is the time to judge by. Standard
output: "ok" or what is wrong, one line each.
"""
import json
import sys

import jwt


def check(case):
    key = bytes.fromhex(case["secret"]) if "secret" in case else case["public_key"]
    claims = jwt.decode(case["token"], key, algorithms=[case["algorithm"]],
                        options={"verify_exp": False, "verify_iat": False})
    if claims["appId"] != bytes.fromhex(case["client_id"]).decode("utf-8"):
        return "appId"
    if claims["sub"] != bytes.fromhex(case["subject"]).decode("utf-8"):
        return "sub"
    for name in ("iat", "exp"):
        if type(claims[name]) is not int:
            return name + " is no integer"
    if claims["iat"] != case["now"] or claims["exp"] != case["now"] + case["ttl"]:
        return "times"
    if ("jti" in claims) != case["jti"]:
        return "jti"
    header = jwt.get_unverified_header(case["token"])
    if header != {"alg": case["algorithm"], "typ": "JWT"}:
        return "header"
    return "ok"


for line in sys.stdin:
    try:
        print(check(json.loads(line)))
    except Exception as problem:
        print(type(problem).__name__, problem)
