"""A Hugging Face Hub in a thread: what the client asks of it for a model's files, kept in memory.

The real client talks HTTP to it, so that what is tested is what goes over the wire.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

Files = dict[str, bytes]


class FakeHub(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.commits: dict[str, Files] = {}
        self.branches: dict[str, dict[str, str]] = {}  # repository -> branch -> commit
        self.private: dict[str, bool] = {}
        self.asked: list[str] = []
        self.forbidden = False
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def commit(self, repo: str, branch: str, files: Files) -> str:
        branches = self.branches[repo]
        now = {**self.commits.get(branches.get(branch, ""), {}), **files}
        sha = hashlib.sha1(repr((repo, sorted(now.items()))).encode()).hexdigest()
        self.commits[sha] = now
        branches[branch] = sha
        return sha


class Handler(BaseHTTPRequestHandler):
    server: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None: ...

    def answer(self, value: object = None, status: int = 200, body: bytes = b"", **headers: str):
        body = body if value is None else json.dumps(value).encode()
        self.send_response(status)
        for key, text in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key.replace("_", "-"), text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def missing(self, what: str) -> None:
        self.answer({"error": what}, 404, X_Error_Code=what)

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.server.asked.append(f"{self.command} {path}")
        words = [unquote(word) for word in path.strip("/").split("/")]
        if words[:2] == ["api", "models"]:
            repo, rest = "/".join(words[2:4]), words[4:]
        else:
            repo, rest = "/".join(words[:2]), words[2:]
        if repo not in self.server.branches:
            return self.missing("RepoNotFound")
        revision = rest[1] if len(rest) > 1 else "main"
        sha = self.server.branches[repo].get(revision, revision)
        if sha not in self.server.commits:
            if not self.server.branches[repo] and revision == "main":
                return self.answer({"id": repo, "sha": "0" * 40})
            return self.missing("RevisionNotFound")
        files = self.server.commits[sha]
        if not rest or rest[0] == "revision":
            return self.answer({"id": repo, "sha": sha})
        if rest[0] == "tree":
            oid = "0" * 40
            return self.answer(
                [{"type": "file", "path": k, "size": len(v), "oid": oid} for k, v in files.items()]
            )
        body = files[rest[2]]
        etag = f'"{hashlib.sha1(body).hexdigest()}"'
        return self.answer(body=body, ETag=etag, X_Repo_Commit=sha)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append(f"POST {self.path}")
        words = [unquote(word) for word in self.path.strip("/").split("/")]
        if self.server.forbidden or not self.headers.get("Authorization"):
            return self.answer({"error": "no"}, 403)
        if words[:3] == ["api", "repos", "create"]:
            asked = json.loads(body)
            repo = "/".join(x for x in (asked.get("organization"), asked["name"]) if x)
            if repo in self.server.branches:
                return self.answer({"error": "there", "url": f"{self.server.url}/{repo}"}, 409)
            self.server.branches[repo] = {}
            self.server.private[repo] = asked.get("visibility") == "private" or bool(
                asked.get("private")
            )
            return self.answer({"url": f"{self.server.url}/{repo}"})
        if words[1] == "validate-yaml":
            return self.answer({"errors": [], "warnings": []})
        repo, what, branch = "/".join(words[2:4]), words[4], words[5]
        if what == "branch":
            first = self.server.branches[repo].get("main")
            self.server.branches[repo].setdefault(branch, first or "")
            return self.answer({})
        if what == "preupload":
            asked = json.loads(body)["files"]
            return self.answer(
                {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                           for f in asked]}
            )  # fmt: skip
        lines = [json.loads(line) for line in body.splitlines()]
        files = {v["value"]["path"]: base64.b64decode(v["value"]["content"])
                 for v in lines if v["key"] == "file"}  # fmt: skip
        sha = self.server.commit(repo, branch, files)
        return self.answer(
            {"commitUrl": f"{self.server.url}/{repo}/commit/{sha}", "commitOid": sha}
        )
