"""All certificates of the bench, made with the openssl command in a directory.

server(name) gives (chain file, key file). Files for clients: ca.pem (what a client
trusts), other-ca.pem (a root that signed only "wrong_ca"), client.pem and client.key
(accepted), client-wrong.pem with client.key (signed by the other root), crl.pem."""

import os
import subprocess
import threading

SAN = "subjectAltName=DNS:localhost,DNS:kore.test,DNS:*.kore.test,IP:127.0.0.1,IP:::1"
LEAF = ["basicConstraints=critical,CA:false", "extendedKeyUsage=serverAuth"]
CA_EXT = ["basicConstraints=critical,CA:true", "keyUsage=critical,keyCertSign,cRLSign"]

CA_CONFIG = """
[ca]
default_ca = main
[main]
database = %(dir)s/index.txt
new_certs_dir = %(dir)s
rand_serial = yes
default_md = sha256
default_days = 30
default_crl_days = 30
policy = any
unique_subject = no
[any]
commonName = supplied
"""


class Certs:
    def __init__(self, directory):
        self.dir = directory
        self.lock = threading.Lock()
        self.made = False
        self.serial = 1000

    def path(self, name):
        return os.path.join(self.dir, name)

    def server(self, name):
        self.make()
        chain = self.path(name + ".pem")
        if not os.path.exists(chain):
            raise ValueError("no certificate is called %r" % name)
        own = self.path(name + ".key")
        return chain, own if os.path.exists(own) else self.path("leaf.key")

    def make(self):
        with self.lock:
            if not self.made:
                os.makedirs(self.dir, mode=0o700, exist_ok=True)
                self._make()
                self.made = True

    def files(self):
        self.make()
        return {name: self.path(name) for name in sorted(os.listdir(self.dir))
                if name.endswith((".pem", ".key"))}

    # Everything below runs once, under the lock.

    def openssl(self, *words):
        done = subprocess.run(["openssl", *words], cwd=self.dir,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT)
        if done.returncode != 0:
            raise RuntimeError("openssl %s: %s"
                               % (" ".join(words), done.stdout.decode("latin-1")))

    def write(self, name, text):
        with open(self.path(name), "w", encoding="ascii") as out:
            out.write(text)
        return name

    def read(self, name):
        with open(self.path(name), encoding="ascii") as source:
            return source.read()

    def ec_key(self, name):
        self.openssl("genpkey", "-algorithm", "EC", "-pkeyopt",
                     "ec_paramgen_curve:P-256", "-out", name)

    def rsa_key(self, name, bits):
        self.openssl("genrsa", "-out", name, str(bits))

    def root(self, name, common):
        self.ec_key(name + ".key")
        self.openssl("req", "-x509", "-new", "-key", name + ".key", "-subj",
                     "/CN=" + common, "-days", "30", "-out", name + ".pem",
                     *[w for e in CA_EXT for w in ("-addext", e)])

    def request(self, name, key, common):
        self.openssl("req", "-new", "-key", key, "-subj", "/CN=" + common,
                     "-out", name + ".csr")

    def sign(self, name, ca, csr, extensions, *more):
        self.serial += 1
        ext = self.write(name + ".ext", "\n".join(extensions) + "\n")
        self.openssl("x509", "-req", "-in", csr + ".csr", "-CA", ca + ".pem", "-CAkey",
                     ca + ".key", "-set_serial", str(self.serial), "-days", "30",
                     "-extfile", ext, "-out", name + ".pem", *more)

    def sign_dated(self, name, start, end):
        """Only `openssl ca` of OpenSSL 3.0 takes a start date."""
        ext = self.write(name + ".ext", "\n".join(LEAF + [SAN]) + "\n")
        self.openssl("ca", "-batch", "-notext", "-config", "ca.cnf", "-cert", "ca.pem",
                     "-keyfile", "ca.key", "-in", "leaf.csr", "-startdate", start,
                     "-enddate", end, "-extfile", ext, "-out", name + ".pem")

    def _make(self):
        self.write("ca.cnf", CA_CONFIG % {"dir": self.dir})
        self.write("index.txt", "")
        self.root("ca", "koresms test root")
        self.root("other-ca", "koresms other root")
        self.ec_key("leaf.key")
        self.request("leaf", "leaf.key", "localhost")
        server = LEAF + [SAN]
        self.sign("good", "ca", "leaf", server)
        self.sign("wrong_ca", "other-ca", "leaf", server)
        self.sign("wrong_host", "ca", "leaf",
                  LEAF + ["subjectAltName=DNS:elsewhere.test,IP:192.0.2.1"])
        self.sign("wrong_purpose", "ca", "leaf",
                  [LEAF[0], "extendedKeyUsage=clientAuth", SAN])
        self.sign("weak_hash", "ca", "leaf", server, "-sha1")
        self.sign_dated("expired", "20200101000000Z", "20200201000000Z")
        self.sign_dated("not_yet", "20990101000000Z", "20990201000000Z")
        self.sign_dated("revoked", "20200101000000Z", "20990101000000Z")
        self.openssl("ca", "-config", "ca.cnf", "-cert", "ca.pem", "-keyfile",
                     "ca.key", "-revoke", "revoked.pem")
        self.openssl("ca", "-config", "ca.cnf", "-cert", "ca.pem", "-keyfile",
                     "ca.key", "-gencrl", "-out", "crl.pem")
        self.openssl("req", "-x509", "-new", "-key", "leaf.key", "-subj",
                     "/CN=localhost", "-days", "30", "-addext", SAN,
                     "-out", "self_signed.pem")
        self._make_chains(server)
        self._make_weak(server)
        self._make_client()

    def _make_chains(self, server):
        self.ec_key("intermediate.key")
        self.request("intermediate", "intermediate.key", "koresms test intermediate")
        self.sign("intermediate", "ca", "intermediate", CA_EXT)
        self.sign("no_intermediate", "intermediate", "leaf", server)
        leaf, middle, top = (self.read(n + ".pem") for n in
                             ("no_intermediate", "intermediate", "ca"))
        self.write("chain.pem", leaf + middle)
        self.write("reversed.pem", leaf + top + middle)

    def _make_weak(self, server):
        for bits in (512, 1024):
            name = "weak_rsa%d" % bits
            self.rsa_key(name + ".key", bits)
            self.request(name, name + ".key", "localhost")
            self.sign(name, "ca", name, server)

    def _make_client(self):
        self.ec_key("client.key")
        self.request("client", "client.key", "koresms test client")
        extensions = [LEAF[0], "extendedKeyUsage=clientAuth"]
        self.sign("client", "ca", "client", extensions)
        self.sign("client-wrong", "other-ca", "client", extensions)
