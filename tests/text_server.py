"""A server on loopback that has texts."""

from __future__ import annotations

import http.server
import threading
import time


class Server:
    """Serve `text` under any path; `fault` says what goes wrong: missing, silent, cut."""

    def __init__(self, text: bytes, fault: str = "") -> None:
        self.text, self.fault, self.requests = text, fault, 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.requests += 1
                if outer.fault == "silent":
                    time.sleep(2)
                    return
                if outer.fault == "missing":
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(outer.text)))
                self.end_headers()
                self.wfile.write(outer.text[: len(outer.text) // 2] if outer.fault == "cut" else outer.text)

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/clean.txt"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()
