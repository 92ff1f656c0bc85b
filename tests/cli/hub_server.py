"""A hub on the loopback that can misbehave in every way that the tests of `styx pull` want."""
import hashlib
import http.server
import json
import threading
import time
import urllib.parse

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def blob_name(path, data):
    """As a hub names it: LFS files by SHA-256, others by git's SHA-1."""
    if path.endswith((".safetensors", ".bin")):
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        headers.setdefault("Content_Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        hub = self.server.hub
        url = urllib.parse.urlsplit(self.path)
        path = urllib.parse.unquote(url.path)
        hub.requests.append((self.server.role, self.command, path,
                             self.headers.get("Authorization"), self.headers.get("Range")))
        for prefix, status, headers in hub.refusals:
            if path.startswith(prefix):
                if headers.get("times", 1) <= 0:
                    continue
                headers["times"] = headers.get("times", 10 ** 9) - 1
                return self.answer(status, b"no", **{k: v for k, v in headers.items()
                                                      if k != "times"})
        try:
            self.route(hub, path, url.query)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def route(self, hub, path, query):
        if self.server.role == "cdn":
            return self.send_file(hub, path[1:])
        if path.startswith("/direct/"):
            return self.send_file(hub, path[len("/direct/"):])
        if path.startswith("/api/v1/model-versions/"):
            return self.answer(200, json.dumps(hub.civitai).encode())
        about = f"/api/models/{hub.repository}"
        if path == about or path.startswith(about + "/revision/"):
            if path != about and path.rsplit("/", 1)[1] not in ("main", COMMIT):
                return self.answer(404, b"{}", X_Error_Code="RevisionNotFound")
            names = [{"rfilename": name} for name in hub.files]
            info = {"id": hub.repository, "sha": COMMIT, "siblings": names, "private": False,
                    "gated": False, "disabled": False, "downloads": 0, "likes": 0, "tags": []}
            return self.answer(200, json.dumps(info).encode())
        if path in (f"{about}/tree/{COMMIT}", f"{about}/tree/main") and hub.tree:
            return self.send_tree(hub, query)
        start = f"/{hub.repository}/resolve/{COMMIT}/"
        if path.startswith(start) and path[len(start):] in hub.files:
            return self.resolve(hub, path[len(start):])
        self.answer(404, b"{}", X_Error_Code="RepoNotFound")

    def send_tree(self, hub, query):
        page = int(dict(urllib.parse.parse_qsl(query)).get("cursor", "0"))
        entries = []
        for name, data in hub.files.items():
            entry = {"type": "file", "path": name, "size": len(data), "oid": blob_name("", data)}
            if name.endswith((".safetensors", ".bin")):
                entry["lfs"] = {"oid": hub.announced(name),
                                "size": hub.sizes.get(name, len(data)), "pointerSize": 134}
            entries.append(entry)
        entries.append({"type": "directory", "path": "unet", "oid": "00"})
        entries.extend({"type": "file", "path": p, "size": 1, "oid": "00"} for p in hub.evil)
        here = entries[page * 5:page * 5 + 5]
        more = {}
        if len(entries) > page * 5 + 5:
            more["Link"] = (f'<{hub.endpoint}/api/models/{hub.repository}/tree/{COMMIT}'
                            f'?recursive=1&cursor={page + 1}>; rel="next"')
        self.answer(200, json.dumps(here).encode(), **more)

    def resolve(self, hub, name):
        data = hub.files[name]
        headers = {"X_Repo_Commit": COMMIT, "ETag": f'"{blob_name(name, data)}"'}
        if name.endswith((".safetensors", ".bin")):
            headers.update(X_Linked_Etag=f'"{hub.announced(name)}"',
                           X_Linked_Size=str(len(data)), Location=f"{hub.cdn}/{name}")
            return self.answer(302, b"over there", **headers)
        if self.command == "HEAD":
            headers["Content_Length"] = str(len(data))
            return self.answer(200, b"", **headers)
        self.send_file(hub, name, headers)

    def send_file(self, hub, name, headers=None):
        if name not in hub.files:
            return self.answer(404)
        data, how = hub.files[name], hub.trouble.get(name, {})
        given, start = self.headers.get("Range"), 0
        if given and not how.get("ignore_range"):
            start = int(given[len("bytes="):].split("-")[0])
            if start >= len(data):
                return self.answer(416, b"")
        if how.get("wrong_bytes"):
            data = bytes(len(data))
        body = data[start:]
        if how.get("longer"):
            body += b"x" * 1000
        self.send_response(206 if given and not how.get("ignore_range") else 200)
        for key, value in (headers or {}).items():
            self.send_header(key.replace("_", "-"), value)
        if given and not how.get("ignore_range"):
            first = start + how.get("range_lie", 0)
            self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(body) + how.get("length_lie", 0)))
        self.end_headers()
        self.send_body(body, how)

    def send_body(self, body, how):
        sent, chunk = 0, how.get("chunk", 1 << 16)
        while sent < len(body):
            if how.get("cut_after") is not None and sent >= how["cut_after"] and how["cuts"] > 0:
                how["cuts"] -= 1
                self.close_connection = True
                return
            if how.get("stall_after") is not None and sent >= how["stall_after"] and \
                    how["stalls"] > 0:
                how["stalls"] -= 1
                time.sleep(4)
                self.close_connection = True
                return
            self.wfile.write(body[sent:sent + chunk])
            sent += chunk
            time.sleep(how.get("pause", 0))


class Hub:
    """files: {path: bytes} of the one repository. tls: an ssl.SSLContext, for https."""

    def __init__(self, files, repository="some/model", tls=None):
        self.files, self.repository, self.tls = files, repository, tls
        self.requests, self.refusals, self.trouble, self.evil = [], [], {}, []
        self.tree, self.civitai, self.lies, self.sizes = True, {}, {}, {}
        self.servers = []
        self.endpoint = self.start("hub", "127.0.0.1")
        self.cdn = self.start("cdn", "127.0.0.2")  # another host, as of real hubs

    def start(self, role, host):
        server = http.server.ThreadingHTTPServer((host, 0), Handler)
        server.daemon_threads = True
        if self.tls:  # the handshake is the affair of each connection's thread
            server.socket = self.tls.wrap_socket(server.socket, server_side=True,
                                                 do_handshake_on_connect=False)
        server.hub, server.role = self, role
        server.handle_error = lambda *_: None  # clients that are killed
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        self.servers.append(server)
        return f"http{'s' if self.tls else ''}://{host}:{server.server_address[1]}"

    def announced(self, name):
        return self.lies.get(name) or blob_name(name, self.files[name])

    def got(self, name, role="cdn"):
        """The ranges of the requests for a file."""
        return [r[4] for r in self.requests if r[0] == role and r[1] == "GET" and
                r[2].endswith("/" + name)]

    def close(self):
        for server in self.servers:
            server.shutdown()
            server.server_close()
