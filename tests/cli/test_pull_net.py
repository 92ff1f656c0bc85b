"""styx pull over TLS, through proxies and over HTTP/2, on the loopback."""
import hashlib
import json
import select
import shutil
import socket
import socketserver
import ssl
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.parse

import test_pull
from hub_server import COMMIT, Hub
from test_pull import UNET, PullTest, repository


def openssl(*words, folder):
    subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)


def make_certificates(folder):
    """ca.pem, and server.pem and other.pem (each with its key) that it has signed: one for the
    loopback, one for somebody else."""
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=Styx test CA",
            folder=folder)
    for name, hosts in (("server", "IP:127.0.0.1,IP:127.0.0.2"), ("other", "DNS:example.org")):
        with open(f"{folder}/{name}.ext", "w", encoding="ascii") as file:
            file.write(f"subjectAltName={hosts}\n")
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}",
                folder=folder)
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
                "-CAcreateserial", "-out", f"{name}.pem", "-days", "2", "-extfile",
                f"{name}.ext", folder=folder)


def context(name):
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(f"{CERTIFICATES}/{name}.pem", f"{CERTIFICATES}/{name}.key")
    return made


class ProxyHandler(socketserver.StreamRequestHandler):
    """CONNECT makes a tunnel; GET and HEAD of whole URLs are passed on, one a connection."""

    def handle(self):
        line = self.rfile.readline().decode()
        method, target = line.split()[:2]
        headers = b"".join(iter(self.rfile.readline, b"\r\n"))
        self.server.seen.append((method, target, b"authorization:" in headers.lower()))
        if self.server.answer:
            self.wfile.write(self.server.answer)
            return
        url = urllib.parse.urlsplit(target if method != "CONNECT" else f"//{target}")
        with socket.create_connection((url.hostname, url.port)) as there:
            if method == "CONNECT":
                self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                path = url.path + (f"?{url.query}" if url.query else "")
                there.sendall(f"{method} {path} HTTP/1.1\r\n".encode() + headers +
                              b"Connection: close\r\n\r\n")
            self.pass_on(there)

    def pass_on(self, there):
        other = {there: self.connection, self.connection: there}
        while True:
            for ready in select.select(list(other), [], [], 20)[0]:
                data = ready.recv(1 << 16)
                if not data:
                    return
                other[ready].sendall(data)


class Proxy(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def __init__(self, answer=None):
        super().__init__(("127.0.0.1", 0), ProxyHandler)
        self.seen, self.answer = [], answer
        self.handle_error = lambda *_: None  # clients that hang up
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()


class NetTest(PullTest):
    certificate = "server"

    def setUp(self):
        super().setUp()
        self.hub = Hub(repository(), tls=context(self.certificate))
        self.addCleanup(self.hub.close)

    def environment(self, **more):
        return super().environment(**{"CURL_CA_BUNDLE": f"{CERTIFICATES}/ca.pem",
                                      "SSL_CERT_FILE": "", "SSL_CERT_DIR": "", "http_proxy": "",
                                      "https_proxy": "", "all_proxy": "", **more})

    def proxy(self, answer=None):
        made = Proxy(answer)
        self.addCleanup(made.server_close)
        self.addCleanup(made.shutdown)
        return made

    def refuses(self, *says, **environment):
        """In one sentence, at once, with nothing in the cache."""
        began = time.monotonic()
        done = self.pull("some/model", code=1, **environment)
        self.assertLess(time.monotonic() - began, 5)
        lines = done.stderr.strip().splitlines()
        self.assertEqual(len(lines), 1, done.stderr)
        for part in says:
            self.assertIn(part, lines[0])
        self.assert_nothing()


class Tls(NetTest):
    def test_known_authority(self):
        self.pull("some/model")
        self.assert_right(UNET, "unet/config.json")

    def test_authority_of_ssl_cert_file(self):
        self.pull("some/model", CURL_CA_BUNDLE="", SSL_CERT_FILE=f"{CERTIFICATES}/ca.pem")
        self.assert_right(UNET)

    def test_token_stays_with_its_host(self):
        self.pull("some/model", HF_TOKEN="secret")
        self.assertEqual({(r[0], r[3]) for r in self.hub.requests},
                         {("hub", "Bearer secret"), ("cdn", None)})

    def test_unknown_authority(self):
        self.refuses("cannot be trusted", "certificate", "CURL_CA_BUNDLE", CURL_CA_BUNDLE="")
        self.refuses("cannot be trusted", CURL_CA_BUNDLE=f"{CERTIFICATES}/other.pem")
        self.assertFalse(self.hub.requests)

    def test_no_authorities(self):
        self.refuses("cannot be trusted", "/nowhere", CURL_CA_BUNDLE="/nowhere")

    def test_a_file_from_an_unknown_authority(self):
        done = self.pull(f"{self.hub.endpoint}/direct/{UNET}", "-o", "x.safetensors", code=1,
                         CURL_CA_BUNDLE="")
        self.assertIn("cannot be trusted", done.stderr)
        self.assertEqual([f for f in self.files() if not f.endswith(".incomplete")], [])

    def test_redirected_to_plain_http(self):
        plain = Hub(self.hub.files)
        self.addCleanup(plain.close)
        self.hub.cdn = plain.cdn
        done = self.pull("some/model", code=1)
        self.assertIn("where nobody should go", done.stderr)
        self.assertFalse(plain.requests)
        self.assert_nothing()

    def test_cut_connections(self):
        self.hub.trouble[UNET] = {"cut_after": 40000, "cuts": 3, "chunk": 10000}
        self.pull("some/model")
        self.assert_right(UNET)
        self.assertEqual(len(self.hub.got(UNET)), 4)


class TlsOfSomebodyElse(NetTest):
    certificate = "other"

    def test_refused(self):
        self.refuses("cannot be trusted", "127.0.0.1")
        self.assertFalse(self.hub.requests)


class Proxies(NetTest):
    def test_tunnel(self):
        proxy = self.proxy()
        self.pull("some/model", https_proxy=proxy.url, no_proxy="", HF_TOKEN="secret")
        self.assert_right(UNET, "unet/config.json")
        self.assertEqual({method for method, _, _ in proxy.seen}, {"CONNECT"})
        hosts = {target.split(":")[0] for _, target, _ in proxy.seen}
        self.assertEqual(hosts, {"127.0.0.1", "127.0.0.2"})
        self.assertFalse([x for x in proxy.seen if x[2]], "the proxy saw the token")

    def test_no_proxy(self):
        proxy = self.proxy()
        self.pull("some/model", https_proxy=proxy.url, no_proxy="127.0.0.1")
        self.assert_right(UNET)
        self.assertEqual({target.split(":")[0] for _, target, _ in proxy.seen}, {"127.0.0.2"})

    def test_refusing(self):
        proxy = self.proxy(b"HTTP/1.1 407 Proxy Authentication Required\r\n"
                           b"Content-Length: 0\r\n\r\n")
        self.refuses("proxy", "407", https_proxy=proxy.url, no_proxy="")
        self.assertEqual(len(proxy.seen), 1)

    def test_plain_http(self):
        self.hub = Hub(repository())
        self.addCleanup(self.hub.close)
        proxy = self.proxy()
        self.pull("some/model", "--only", "unet", http_proxy=proxy.url, no_proxy="")
        self.assert_right(UNET)
        self.assertTrue(all(target.startswith("http://") for _, target, _ in proxy.seen))
        self.assertIn(f"{self.hub.cdn}/{UNET}", [target for _, target, _ in proxy.seen])


@unittest.skipUnless(shutil.which("nghttpd"), "nghttpd is not installed")
class Http2(NetTest):
    """nghttpd speaks nothing else over TLS. It serves a hub's answers as files."""

    def setUp(self):
        super().setUp()
        site = self.path("site")
        files = {f"some/model/resolve/{COMMIT}/{name}": data
                 for name, data in self.hub.files.items()}
        about = "api/models/some/model"
        files[f"{about}/revision/main"] = json.dumps({"sha": COMMIT, "siblings": []}).encode()
        files[f"{about}/tree/{COMMIT}"] = json.dumps([
            {"type": "file", "path": name, "size": len(data),
             "oid": hashlib.sha256(data).hexdigest()}
            for name, data in self.hub.files.items()]).encode()
        for name, data in files.items():
            (site / name).parent.mkdir(parents=True, exist_ok=True)
            (site / name).write_bytes(data)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log = open(self.path("log"), "wb+")
        self.addCleanup(self.log.close)
        server = subprocess.Popen(["nghttpd", "-v", "--address=127.0.0.1", f"--htdocs={site}",
                                   str(self.port), f"{CERTIFICATES}/server.key",
                                   f"{CERTIFICATES}/server.pem"], stdout=self.log,
                                  stderr=subprocess.STDOUT)
        self.addCleanup(server.wait)
        self.addCleanup(server.terminate)
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        self.fail("nghttpd does not listen")

    def test_pull(self):
        self.pull("some/model", HF_ENDPOINT=f"https://127.0.0.1:{self.port}")
        self.assert_right(UNET, "unet/config.json")
        self.log.seek(0)
        said = self.log.read()
        self.assertIn(b"negotiated protocol: h2", said)
        self.assertIn(UNET.encode(), said)


def setUpModule():
    global CERTIFICATES
    test_pull.setUpModule()
    if not shutil.which("openssl"):
        raise unittest.SkipTest("openssl is not installed")
    CERTIFICATES = tempfile.mkdtemp(prefix="styx-tls-")
    unittest.addModuleCleanup(shutil.rmtree, CERTIFICATES)
    make_certificates(CERTIFICATES)


if __name__ == "__main__":
    unittest.main()
