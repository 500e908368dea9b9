"""Server-side TLS contexts, good and bad, and handshakes that go half the way."""

import ssl

VERSIONS = {
    "1.0": ssl.TLSVersion.TLSv1, "1.1": ssl.TLSVersion.TLSv1_1,
    "1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3,
}


def context(options, certs):
    """options: cert (a name of certs.py, "good" where none is given), min, max (TLS
    versions), ciphers, client_ca (true: a client certificate is required), alpn."""
    chain, key = certs.server(options.get("cert", "good"))
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # Old protocols, short keys and SHA-1 are what some listeners are for; a good
    # certificate with modern versions loses nothing by the low level of the server.
    made.set_ciphers(options.get("ciphers", "ALL:@SECLEVEL=0"))
    made.minimum_version = VERSIONS[options.get("min", "1.2")]
    made.maximum_version = VERSIONS[options.get("max", "1.3")]
    made.load_cert_chain(chain, key)
    if options.get("client_ca"):
        made.verify_mode = ssl.CERT_REQUIRED
        made.load_verify_locations(certs.path("ca.pem"))
    if options.get("alpn"):
        made.set_alpn_protocols(options["alpn"])
    return made


def first_flight(made, hello):
    """What a server answers to a ClientHello, from ServerHello on."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    machine = made.wrap_bio(incoming, outgoing, server_side=True)
    incoming.write(hello)
    try:
        machine.do_handshake()
    except ssl.SSLError:
        pass                        # it wants the client's next flight, or has refused
    return outgoing.read()
