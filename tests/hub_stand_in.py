"""A stand-in for the Hugging Face hub: the part of its HTTP interface that models go through."""

import base64
import hashlib
import http.server
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

TOKEN = "hf_writes"


class Hub(http.server.ThreadingHTTPServer):
    """The repositories, and what was asked for.

    Attributes:
        files: content by path, by repository.
        large: content by digest, of files that go in apart from the commit.
        private: repositories that want the token.
        asked: method and path of every request.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, dict[str, bytes]] = {}
        self.large: dict[str, bytes] = {}
        self.private: set[str] = set()
        self.asked: list[tuple[str, str]] = []

    @property
    def address(self) -> str:
        """Of its front page."""
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def running_hub() -> Iterator[Hub]:
    """A hub that answers until the block ends."""
    hub = Hub()
    thread = threading.Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        self.server.asked.append((self.command, self.path))
        found = re.fullmatch(r"/([\w.-]+/[\w.-]+)/resolve/([^/]+)/([^?]+)(\?.*)?", self.path)
        if found is None:
            self._send(404, {"error": "unknown"})
            return
        repository, revision, name = found.group(1), found.group(2), found.group(3)
        files = self.server.files.get(repository)
        closed = repository in self.server.private and not self._is_known()
        if files is None or closed:
            self._send(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        elif revision != "main" and revision != _commit(files):
            self._send(404, {"error": "no revision"}, {"X-Error-Code": "RevisionNotFound"})
        elif name not in files:
            headers = {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": _commit(files)}
            self._send(404, {"error": "Entry not found"}, headers)
        else:
            digest = hashlib.sha256(files[name]).hexdigest()
            self._send(200, files[name], {"ETag": f'"{digest}"', "X-Repo-Commit": _commit(files)})

    do_HEAD = do_GET

    def do_POST(self) -> None:
        self.server.asked.append((self.command, self.path))
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/api/validate-yaml":
            self._send(200, {"errors": [], "warnings": []})
            return
        if not self._is_known():
            self._send(401, {"error": "Invalid username or password."})
            return
        path = self.path.split("?")[0]
        if path == "/api/repos/create":
            self._create(json.loads(body))
        elif found := re.fullmatch(r"/api/models/(.+)/preupload/main", path):
            large = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                }
                for file in json.loads(body)["files"]
            ]
            self._send(200, {"files": large})
        elif path.endswith(".git/info/lfs/objects/batch"):
            self._send(200, self._places(json.loads(body)))
        elif found := re.fullmatch(r"/api/models/(.+)/commit/main", path):
            self._commit(found.group(1), body)
        else:
            self._send(404, {"error": "unknown"})

    def do_PUT(self) -> None:
        self.server.asked.append((self.command, self.path))
        content = self.rfile.read(int(self.headers["Content-Length"]))
        digest = self.path.rsplit("/", 1)[-1]
        assert hashlib.sha256(content).hexdigest() == digest
        self.server.large[digest] = content
        self._send(200, {})

    def _is_known(self) -> bool:
        return self.headers["Authorization"] == f"Bearer {TOKEN}"

    def _create(self, asked: dict[str, Any]) -> None:
        repository = f"{asked['organization']}/{asked['name']}"
        self.server.files.setdefault(repository, {})
        if asked.get("private") or asked.get("visibility") == "private":
            self.server.private.add(repository)
        self._send(200, {"url": f"{self.server.address}/{repository}", "id": repository})

    def _places(self, asked: dict[str, Any]) -> dict[str, Any]:
        objects = [
            {
                **one,
                "actions": {"upload": {"href": f"{self.server.address}/large/{one['oid']}"}},
            }
            for one in asked["objects"]
        ]
        return {"transfer": "basic", "objects": objects}

    def _commit(self, repository: str, body: bytes) -> None:
        files = self.server.files[repository]
        for line in body.decode().splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.server.large[value["oid"]]
        commit = _commit(files)
        where = f"{self.server.address}/{repository}/commit/{commit}"
        self._send(200, {"success": True, "commitOid": commit, "commitUrl": where})

    def _send(
        self, status: int, content: bytes | dict[str, Any], headers: dict[str, str] | None = None
    ) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def _commit(files: dict[str, bytes]) -> str:
    """The name of a state of a repository."""
    told = b"".join(name.encode() + content for name, content in sorted(files.items()))
    return hashlib.sha1(told).hexdigest()
