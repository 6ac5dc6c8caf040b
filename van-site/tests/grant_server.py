"""A grant server with one grant for one use, for a test: `grant_server.py FOLDER`.

Prints the token, then serves. Written from the description of the protocol alone.
"""
import base64, http.server, json, pathlib, ssl, subprocess, sys, uuid

HOST, NAME, CODE, GRANT = "127.0.0.1", "python", "k3V9pXw2LqRt7YbN5cZd8FhJ", str(uuid.uuid4())
folder = pathlib.Path(sys.argv[1])
uses = [1]


def openssl(*arguments):
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, stderr=subprocess.DEVNULL)


def authority(name):
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "9", "-subj", f"/CN={name}",
            "-keyout", f"{name}.key", "-out", f"{name}.crt")


def certificate(ca, name, subject):
    (folder / "extensions").write_text(f"subjectAltName=DNS:{HOST},IP:{HOST}\nbasicConstraints=critical,CA:FALSE\n"
                                       "extendedKeyUsage=serverAuth,clientAuth\n")
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={subject}", "-keyout", f"{name}.key", "-out", "request")
    openssl("x509", "-req", "-in", "request", "-CA", f"{ca}.crt", "-CAkey", f"{ca}.key", "-CAcreateserial",
            "-days", "9", "-extfile", "extensions", "-out", f"{name}.crt")


def credentials(name, subject):
    certificate("site-ca", "client", subject)
    encode = lambda file: base64.b64encode((folder / file).read_bytes()).decode()
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": "kubernetes.io/tls", "data": {
        "ca.crt": encode("site-ca.crt"), "tls.crt": encode("client.crt"), "tls.key": encode("client.key")}}
    endpoints = [{"group": "skupper-router", "host": HOST, "name": role, "port": port}
                 for role, port in (("inter-router", "55671"), ("edge", "45671"))]
    link = {"apiVersion": "skupper.io/v2alpha1", "kind": "Link", "metadata": {"name": name},
            "spec": {"endpoints": endpoints, "tlsCredentials": name}}
    return "".join(f"---\n{json.dumps(document)}\n" for document in (secret, link))


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        code = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if self.path.replace("/", "") != GRANT:
            return self.answer(404, "No such claim\n")
        if not uses:
            return self.answer(404, "No such access granted\n")
        if code != CODE:
            return self.answer(403, "Redemption of access token refused\n")
        uses.pop()
        name = self.headers["name"] or "grant"
        self.answer(200, credentials(name, self.headers["subject"] or name))

    def answer(self, status, text):
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


authority("grant-ca")
authority("site-ca")
certificate("grant-ca", "server", "server")
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.minimum_version = ssl.TLSVersion.TLSv1_3
context.load_cert_chain(folder / "server.crt", folder / "server.key")
server = http.server.HTTPServer((HOST, 0), Handler)
server.socket = context.wrap_socket(server.socket, server_side=True)
spec = {"url": f"https://{HOST}:{server.server_port}/{GRANT}", "code": CODE, "ca": (folder / "grant-ca.crt").read_text(),
        "linkCost": 7}
print(json.dumps({"apiVersion": "skupper.io/v2alpha1", "kind": "AccessToken", "metadata": {"name": NAME}, "spec": spec}))
print("...", flush=True)
server.serve_forever()
