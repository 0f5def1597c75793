"""A hub on this machine: enough of the Hugging Face Hub's HTTP protocol for the real `huggingface_hub` client.

    with HubServer() as hub:
        subprocess.run(..., env={**os.environ, **hub.environment(tmp_path)})
        hub.files("user/name")["README.md"]

A repository is a list of commits, and a commit is a dict from path to bytes. Commits wait until `hub.open` is set, an
event that is set unless a test clears it. `hub.faults[step]` says how the next requests of a step ("create",
"preupload", "lfs", "commit", "resolve" of a large file) go wrong: a status, or "hang up", which closes the connection
half-way.
"""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import yaml

TOKEN = "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"


def git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class HubServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.clear()

    def clear(self) -> None:
        """Forget all repositories, requests and faults."""
        self.repositories: dict[str, list[dict[str, bytes]]] = {}
        self.private, self.large, self.requests = set(), {}, []
        self.faults: dict[str, list] = {}
        self.open = threading.Event()  # commits wait until this is set
        self.open.set()

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()

    def environment(self, home, token: str = TOKEN) -> dict[str, str]:
        """Return the variables that make a process use this hub and no files of the user."""
        names = {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "HF_TOKEN": token, "NO_PROXY": "127.0.0.1"}
        return names | {"HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}

    def add(self, name: str, files: dict[str, bytes]) -> None:
        """Add a repository that exists already."""
        self.repositories[name] = [files]

    def files(self, name: str) -> dict[str, bytes]:
        """Return the files of the newest commit."""
        return self.repositories[name][-1]

    def handle_error(self, request, client_address):
        pass  # clients that have left


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubServer

    def log_message(self, *_):
        pass

    def answer(self, content=b"", status: int = 200, head_only: bool = False, **headers) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for key, value in {"Content-Length": len(body), **headers}.items():
            self.send_header(key.replace("_", "-"), str(value))
        self.end_headers()
        if not head_only:
            self.wfile.write(body)

    def missing(self, what: str, **headers) -> None:
        self.answer(
            {"error": f"{what} not found"}, 404, self.command == "HEAD", X_Error_Code=f"{what}NotFound", **headers
        )

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def fails(self, step: str) -> bool:
        """Return whether this request must fail; if so, make it fail."""
        fault = self.server.faults[step].pop(0) if self.server.faults.get(step) else None
        if fault == "hang up":
            self.rfile.read(int(self.headers.get("Content-Length") or 0) // 2)
            self.close_connection = True
            self.connection.close()
        elif fault is not None:
            self.body()
            self.answer({"error": "as the test wants it"}, fault)
        return fault is not None

    def writes(self) -> bool:
        """Return whether this client may write; if not, answer with an error."""
        if self.headers.get("Authorization") == f"Bearer {TOKEN}":
            return True
        self.body()
        self.answer({"error": "Invalid username or password."}, 401)
        return False

    def commit(self, name: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """Return (id, files) of a commit; if there is none, answer with an error."""
        commits = self.server.repositories.get(name)
        hidden = name in self.server.private and self.headers.get("Authorization") != f"Bearer {TOKEN}"
        if commits is None or hidden:
            return self.missing("Repo")
        for number, files in reversed(list(enumerate(commits))):
            if revision in ("main", self.sha(name, number)):
                return self.sha(name, number), files
        return self.missing("Revision")

    @staticmethod
    def sha(name: str, number: int) -> str:
        return hashlib.sha1(f"{name}{number}".encode()).hexdigest()

    def do_GET(self):
        self.server.requests.append((self.command, self.path))
        path = unquote(urlsplit(self.path).path)
        if path == "/api/whoami-v2":
            return self.answer({"name": "user", "type": "user", "orgs": []}) if self.writes() else None
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)/?", path):
            if commit := self.commit(*found.groups()):
                self.answer([self.entry(*file) for file in commit[1].items()], X_Repo_Commit=commit[0])
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?", path):
            if commit := self.commit(found[1], found[2] or "main"):
                siblings = [{"rfilename": name} for name in commit[1]]
                private = found[1] in self.server.private
                self.answer({"id": found[1], "sha": commit[0], "private": private, "siblings": siblings})
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            if commit := self.commit(found[1], found[2]):
                content = commit[1].get(found[3])
                if content is None:
                    return self.missing("Entry", X_Repo_Commit=commit[0])
                etag = f'"{hashlib.sha256(content).hexdigest()}"'
                headers = {"ETag": etag, "X_Repo_Commit": commit[0]}
                if self.command == "GET" and self.server.faults.get("resolve") and len(content) > 10_000:
                    self.server.faults["resolve"].pop()
                    self.answer(content, head_only=True, **headers)
                    self.wfile.write(content[: len(content) // 2])
                    self.close_connection = True
                else:
                    self.answer(content, head_only=self.command == "HEAD", **headers)
        else:
            self.missing("Entry")

    do_HEAD = do_GET

    @staticmethod
    def entry(path: str, content: bytes) -> dict:
        return {"type": "file", "path": path, "size": len(content), "oid": git_oid(content)}

    def do_POST(self):
        self.server.requests.append((self.command, self.path))
        path = unquote(urlsplit(self.path).path)
        if path == "/api/validate-yaml":
            content = json.loads(self.body())["content"]
            good = isinstance(yaml.safe_load(content.split("---\n")[1]), dict)
            return self.answer(
                {"errors": [] if good else [{"message": "no metadata"}], "warnings": []}, 200 if good else 400
            )
        steps = {
            r"/api/repos/create": ("create", self.create),
            r"/api/models/([^/]+/[^/]+)/preupload/main": ("preupload", self.preupload),
            r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch": ("batch", self.batch),
            r"/api/models/([^/]+/[^/]+)/commit/main": ("commit", self.add_commit),
        }
        for pattern, (step, function) in steps.items():
            if found := re.fullmatch(pattern, path):
                if step == "commit":
                    self.server.open.wait(300)
                if not self.fails(step) and self.writes():
                    function(*found.groups())
                return
        self.body()
        self.missing("Entry")

    def create(self) -> None:
        wanted = json.loads(self.body())
        name = f"{wanted.get('organization') or 'user'}/{wanted['name']}"
        exists = name in self.server.repositories
        self.server.repositories.setdefault(name, [{".gitattributes": b""}])
        if not exists and wanted.get("visibility") == "private":
            self.server.private.add(name)
        self.answer({"url": f"{self.server.url}/{name}", "name": name}, 409 if exists else 200)

    def preupload(self, name: str) -> None:
        files, held = [], self.server.files(name)
        for file in json.loads(self.body())["files"]:
            large = file["size"] > 2**20 or re.search(r"\.(safetensors|png)$|tfevents", file["path"])
            oid = git_oid(held[file["path"]]) if file["path"] in held else None
            files.append(
                {"path": file["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False, "oid": oid}
            )
        self.answer({"files": files})

    def batch(self, name: str) -> None:
        objects = [{"oid": o["oid"], "size": o["size"]} for o in json.loads(self.body())["objects"]]
        for wanted in objects:
            if wanted["oid"] not in self.server.large:
                wanted["actions"] = {"upload": {"href": f"{self.server.url}/lfs/{wanted['oid']}"}}
        self.answer({"transfer": "basic", "objects": objects})

    def do_PUT(self):
        self.server.requests.append((self.command, self.path))
        if self.fails("lfs"):
            return
        content, oid = self.body(), self.path.split("/")[-1]
        if hashlib.sha256(content).hexdigest() != oid:
            return self.answer({"error": "not the content that was announced"}, 400)
        self.server.large[oid] = content
        self.answer()

    def add_commit(self, name: str) -> None:
        files, number = dict(self.server.files(name)), len(self.server.repositories[name])
        for line in self.body().splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                if value["oid"] not in self.server.large:
                    return self.answer({"error": f"{value['path']} was never uploaded"}, 400)
                files[value["path"]] = self.server.large[value["oid"]]
            elif item["key"] == "deletedFile":
                files.pop(value["path"], None)
        self.server.repositories[name].append(files)
        sha = self.sha(name, number)
        self.answer({"commitUrl": f"{self.server.url}/{name}/commit/{sha}", "commitOid": sha, "success": True})
