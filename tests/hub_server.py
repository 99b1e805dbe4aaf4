"""A Hugging Face hub on this machine: its HTTP API, as far as the real clients ask for it, and the faults of a network.

The tests point `HF_ENDPOINT` at it and run huggingface_hub, datasets and transformers as they are. Checked against
huggingface_hub 2.4 and datasets 5.2, and written after the hub's own answers: https://huggingface.co/docs/hub/api.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import socket
import struct
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

LARGE = (".safetensors", ".bin", ".parquet", ".jsonl", ".txt.gz")  # kept in LFS there: known by their sha256


@dataclass
class Repository:
    """Commits, each a whole tree of files, and the names that point at them."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    gated: bool = False


class Hub:
    """The server; `with Hub() as hub:` starts it on a free port of 127.0.0.1 and stops it.

    `asked` has what was asked for, as "GET /path"; `fetched` how many times the content of each file was sent. Faults
    are set while it runs, for a file by its path in the repository:
        `cut`: send that many bytes of its content and break the connection, each time it is asked for;
        `cut_once`: the same, the first time only;
        `wrong`: send this content in its place, under the ETag and the size of the right one;
        `forbidden`: answer 403 when asked for it, a file or a folder;
        `delay`: seconds before any answer.

    It also takes what is sent to it: repositories that are made, files (large ones by LFS), commits. `sent` has all
    of that as it came, for a test to look for what must not be in it; the authorisations are in `authorised`.
    """

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.cut: dict[str, int] = {}
        self.cut_once: dict[str, int] = {}
        self.wrong: dict[str, bytes] = {}
        self.forbidden: set[str] = set()
        self.delay = 0.0
        self.forget()
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> Hub:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def commit(self, kind: str, name: str, files: dict[str, bytes], branch: str = "main", **changes: bool) -> str:
        """Add a commit with these files to a `model` or `dataset`, and return its 40 hex digits."""
        repository = self.repositories.setdefault((kind, name), Repository())
        vars(repository).update(changes)
        identity = hashlib.sha1(repr((len(repository.commits), sorted(files.items()))).encode()).hexdigest()
        repository.commits[identity] = files
        repository.refs[branch] = identity
        return identity

    def forget(self) -> None:
        """Empty the records."""
        self.asked: list[str] = []
        self.sent: list[bytes] = []
        self.authorised: set[str] = set()
        self.stored: dict[str, bytes] = {}  # LFS objects by their sha256
        self.fetched: Counter[str] = Counter()

    def mend(self) -> None:
        """Take every fault away."""
        self.cut, self.cut_once, self.wrong, self.forbidden, self.delay = {}, {}, {}, set(), 0.0


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.answer()

    def do_HEAD(self) -> None:
        self.answer()

    def do_CONNECT(self) -> None:  # what a proxy is asked for
        self.hub.asked.append(f"CONNECT {self.path}")
        self.refuse(403, "NotHere")

    def do_POST(self) -> None:
        self.answer()

    def do_PUT(self) -> None:
        self.answer()

    def answer(self) -> None:
        asked = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.hub.asked.append(f"{self.command} {asked.path}")
        time.sleep(self.hub.delay)
        path = asked.path
        if self.taken(path, body):
            return None
        given = parse_qs(asked.query) | parse_qs(body.decode())
        api = re.fullmatch(
            r"/api/(model|dataset)s/([^/]+/[^/]+)(?:/(revision|tree|paths-info)/([^/]+)(?:/(.*))?)?", path
        )
        file = re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        if api:
            kind, name, what, revision, rest = api.groups()
        elif file:
            kind, name, revision, rest = "dataset" if file[1] else "model", file[2], file[3], file[4]
            what = "resolve"
        else:
            return self.refuse(404, "NotFound")
        repository = self.hub.repositories.get((kind, name))
        if repository is None:
            return self.refuse(401, "RepoNotFound")  # what the hub says to someone who is not logged in
        if repository.gated and what == "resolve":
            return self.refuse(401, "GatedRepo")
        revision = unquote(revision or "main")
        commit = repository.refs.get(revision, revision)
        commit = next((one for one in repository.commits if one.startswith(commit) and len(commit) >= 7), commit)
        if commit not in repository.commits:
            return self.refuse(404, "RevisionNotFound")
        files = repository.commits[commit]
        if rest in self.hub.forbidden:
            return self.refuse(403, "Forbidden")
        if what in (None, "revision"):
            siblings = [{"rfilename": path} for path in files]
            gated = "auto" if repository.gated else False
            return self.send_json({"id": name, "sha": commit, "gated": gated, "private": False, "siblings": siblings})
        if what == "tree":
            recursive = given.get("recursive", [""])[0].lower() == "true"
            return self.tree(files, unquote(rest or ""), recursive)
        if what == "paths-info":
            return self.send_json([entry(path, files[path]) for path in given["paths"] if path in files])
        path = unquote(rest)
        if path not in files:
            return self.refuse(404, "EntryNotFound", commit)
        return self.send_file(path, files[path], commit)

    def taken(self, path: str, body: bytes) -> bool:
        """Answer what is sent to the hub; tell whether this was that."""
        if self.command == "PUT" and path.startswith("/lfs/"):
            self.hub.sent.append(body)
            self.hub.stored[path.removeprefix("/lfs/")] = body
            self.send_json({})
            return True
        lfs = re.fullmatch(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path)
        model = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit|branch)/([^/]+)", path)
        if not (lfs or model or path in ("/api/repos/create", "/api/validate-yaml")):
            return False
        self.hub.sent.append(body)
        self.hub.authorised.add(self.headers.get("Authorization", ""))
        if any(path.endswith(part) for part in self.hub.forbidden):
            self.refuse(403, "Forbidden")
            return True
        if lfs:
            self.send_json({"transfer": "basic", "objects": [self.store(each) for each in json.loads(body)["objects"]]})
        elif path == "/api/validate-yaml":
            self.send_json({"errors": [], "warnings": []})
        elif path == "/api/repos/create":
            wanted = json.loads(body)
            if wanted.get("organization") in self.hub.forbidden:
                self.refuse(403, "Forbidden")
                return True
            name = f"{wanted.get('organization') or 'somebody'}/{wanted['name']}"
            if ("model", name) not in self.hub.repositories:
                self.hub.commit("model", name, {".gitattributes": b""})
            self.send_json({"url": f"{self.hub.url}/{name}", "name": name, "id": name})
        else:
            assert model is not None
            self.written(model[1], model[2], unquote(model[3]), body)
        return True

    def store(self, wanted: dict[str, object]) -> dict[str, object]:
        """Say where an LFS object is to be put, unless it is here."""
        if wanted["oid"] in self.hub.stored:
            return wanted
        return wanted | {"actions": {"upload": {"href": f"{self.hub.url}/lfs/{wanted['oid']}", "header": {}}}}

    def written(self, name: str, what: str, branch: str, body: bytes) -> None:
        """Answer how a model's files are to be sent, or take a commit or a branch of it."""
        repository = self.hub.repositories[("model", name)]
        if what == "preupload":
            files = json.loads(body)["files"]
            mode = {True: "lfs", False: "regular"}
            about = [
                {"path": file["path"], "shouldIgnore": False, "uploadMode": mode[file["path"].endswith(LARGE)]}
                for file in files
            ]
            return self.send_json({"files": about})
        if what == "branch":
            repository.refs[branch] = repository.refs["main"]
            return self.send_json({})
        files = dict(repository.commits[repository.refs[branch]])
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.stored[value["oid"]]
        commit = self.hub.commit("model", name, files, branch)
        url = f"{self.hub.url}/{name}/commit/{commit}"
        return self.send_json({"success": True, "commitUrl": url, "commitOid": commit})

    def tree(self, files: dict[str, bytes], folder: str, recursive: bool) -> None:
        inside = [path for path in files if not folder or path.startswith(f"{folder}/")]
        if folder and not inside:
            return self.refuse(404, "EntryNotFound")
        depth = folder.count("/") + 1 if folder else 0
        found = {"/".join(path.split("/")[: depth + 1]): path for path in inside}
        folders = [path for path in found if path not in files]
        if recursive:
            found = {path: path for path in inside}
            folders = sorted({path.rsplit("/", n + 1)[0] for path in inside for n in range(path.count("/") - depth)})
        listed = [{"type": "directory", "path": path, "size": 0, "oid": "0" * 40} for path in folders]
        return self.send_json(listed + [entry(path, files[path]) for path in found if path in files])

    def send_file(self, path: str, content: bytes, commit: str) -> None:
        about = entry(path, content)
        start, end = 0, len(content)
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted:
            start, end = int(wanted[1]), int(wanted[2]) + 1 if wanted[2] else end
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(content)}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{about["oid"]}"')
        self.send_header("X-Repo-Commit", commit)
        if "lfs" in about:
            self.send_header("X-Linked-Etag", f'"{about["lfs"]["oid"]}"')
            self.send_header("X-Linked-Size", str(len(content)))
        self.send_header("Content-Length", str(end - start))
        self.end_headers()
        if self.command == "HEAD":
            return
        content = self.hub.wrong.get(path, content)[start:end]
        at = self.hub.cut_once.pop(path, None)
        at = self.hub.cut.get(path) if at is None else at
        if at is None:
            self.hub.fetched[path] += 1
            self.wfile.write(content)
            return
        self.wfile.write(content[:at])
        self.wfile.flush()
        # Nothing left to send, and a reset instead of an orderly end: a cable that was pulled.
        if path in self.hub.cut:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.close() if path in self.hub.cut else self.connection.shutdown(socket.SHUT_RDWR)

    def send_json(self, answer: object) -> None:
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def refuse(self, status: int, code: str, commit: str | None = None) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", code)
        if commit:
            self.send_header("X-Repo-Commit", commit)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


def entry(path: str, content: bytes) -> dict[str, object]:
    """Say of a file what the hub's tree says of it: its git id, and for a large one its sha256."""
    found: dict[str, object] = {"type": "file", "path": path, "size": len(content)}
    if not path.endswith(LARGE):
        return found | {"oid": hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()}
    sha256 = hashlib.sha256(content).hexdigest()
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {len(content)}\n".encode()
    return found | {
        "oid": hashlib.sha1(b"blob %d\0" % len(pointer) + pointer).hexdigest(),
        "lfs": {"oid": sha256, "size": len(content), "pointerSize": len(pointer)},
    }
