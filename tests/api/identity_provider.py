"""An identity provider of the tests' own, on loopback, in a process of its own.

`python tests/api/identity_provider.py PORT` serves it. A test says by POST /_next what the next ID
token is like; keys, codes, PKCE and client authentication are real.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

CLIENT, SECRET = "yutu", "a client's secret"
KEYS: dict[str, Any] = {
    "one": rsa.generate_private_key(65537, 2048),
    "two": ec.generate_private_key(ec.SECP256R1()),
    "foreign": rsa.generate_private_key(65537, 2048),
}
STATE: dict[str, Any] = {"next": {}, "codes": {}, "asked": [], "published": ["one"]}


def public(kid: str) -> dict[str, Any]:
    key = KEYS[kid].public_key()
    algorithm = jwt.algorithms.RSAAlgorithm if kid != "two" else jwt.algorithms.ECAlgorithm
    return {**json.loads(algorithm.to_jwk(key)), "kid": kid, "use": "sig"}


def pem(kid: str) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return bytes(KEYS[kid].public_key().public_bytes(serialization.Encoding.PEM, form))


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def id_token(issuer: str, nonce: str, access_token: str) -> str:
    wish = STATE["next"]
    now = int(time.time())
    claims = {
        "iss": issuer,
        "sub": "person-1",
        "aud": CLIENT,
        "iat": now,
        "exp": now + 300,
        "nonce": nonce,
        "preferred_username": "li.si",
        "groups": ["yuzhong-field"],
        "at_hash": b64(hashlib.sha256(access_token.encode()).digest()[:16]),
        **wish.get("claims", {}),
    }
    claims = {name: value for name, value in claims.items() if value is not None}
    kid = wish.get("kid", "one")
    header = {"kid": wish.get("header_kid", kid)}
    match wish.get("sign"):
        case "none":
            return jwt.encode(claims, None, "none", headers=header)
        case "hs256 with the public key":
            # PyJWT refuses to sign so; an attacker does not
            parts = [b64(json.dumps(p).encode()) for p in ({"alg": "HS256", **header}, claims)]
            signed = ".".join(parts)
            return f"{signed}.{b64(hmac.new(pem('one'), signed.encode(), hashlib.sha256).digest())}"
        case "hs256 with the client's secret":
            return jwt.encode(claims, SECRET.ljust(32), "HS256", headers=header)
        case "tampered":
            head, _, signature = jwt.encode(claims, KEYS["one"], "RS256", headers=header).split(".")
            return (
                f"{head}.{b64(json.dumps({**claims, 'groups': ['admins']}).encode())}.{signature}"
            )
    return jwt.encode(claims, KEYS[kid], "ES256" if kid == "two" else "RS256", headers=header)


class Provider(BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def answer(self, status: int, body: Any, **headers: str) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path == "/.well-known/openid-configuration":
            metadata = {
                "issuer": STATE["next"].get("issuer", self.issuer),
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token",
                "jwks_uri": f"{self.issuer}/keys",
                "id_token_signing_alg_values_supported": ["RS256", "HS256", "none"],
            }
            self.answer(200, metadata)
        elif parts.path == "/keys":
            # a careless provider: its client secret among the keys
            shared = {
                "kty": "oct",
                "k": b64(SECRET.ljust(32).encode()),
                "kid": "shared",
                "alg": "HS256",
            }
            self.answer(200, {"keys": [*(public(kid) for kid in STATE["published"]), shared]})
        elif parts.path == "/authorize":
            code = secrets.token_urlsafe(16)
            STATE["codes"][code] = query
            back = urlencode({"code": code, "state": query["state"]})
            self.answer(302, {}, Location=f"{query['redirect_uri']}?{back}")
        else:
            self.answer(404, {})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/_next":
            given = json.loads(body)
            STATE["published"] = given.pop("published", STATE["published"])
            STATE["next"] = given
            self.answer(200, {})
            return
        form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        asked = STATE["codes"].pop(form.get("code", ""), None)  # a code is good once
        challenge = b64(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
        basic = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        if (
            asked is None
            or asked["code_challenge"] != challenge
            or asked["code_challenge_method"] != "S256"
            or asked["redirect_uri"] != form["redirect_uri"]
            or self.headers.get("Authorization") != f"Basic {basic}"
        ):
            self.answer(400, {"error": "invalid_grant"})
            return
        status = STATE["next"].get("status", 200)
        token = secrets.token_urlsafe(16)
        made = id_token(self.issuer, asked["nonce"], token)
        self.answer(status, {"access_token": token, "token_type": "Bearer", "id_token": made})


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Provider)
    print(server.server_address[1], flush=True)
    server.serve_forever()
