"""Stands in for the metadata service of one instance (IMDSv2): what it tells is
read from the local AWS server whenever it is asked. It prints its port and runs
until standard input closes.

    metadata.py PORT-OF-THE-SERVER INSTANCE
"""

import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from look import client

SERVER, INSTANCE = sys.argv[1:]
TOKEN = "a-token"
TAGS = "tags/instance/"


def tag(key):
    filters = [
        {"Name": "resource-id", "Values": [INSTANCE]},
        {"Name": "key", "Values": [key]},
    ]
    tags = client("ec2", SERVER).describe_tags(Filters=filters)["Tags"]
    return tags[0]["Value"] if tags else None


def told(path):
    if path == "instance-id":
        return INSTANCE
    if path == "placement/region":
        return "us-east-1"
    return tag(path.removeprefix(TAGS)) if path.startswith(TAGS) else None


class Metadata(BaseHTTPRequestHandler):
    def answer(self, status, text=""):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_PUT(self):
        lives = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds")
        if self.path == "/latest/api/token" and lives:
            return self.answer(200, TOKEN)
        return self.answer(400)

    def do_GET(self):
        if self.headers.get("X-aws-ec2-metadata-token") != TOKEN:
            return self.answer(401)
        text = told(self.path.removeprefix("/latest/meta-data/"))
        return self.answer(404) if text is None else self.answer(200, text)

    def log_message(self, *_):
        pass


def main():
    # Before the first question: boto3 does not make clients in two threads at once.
    client("ec2", SERVER)
    service = ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
    print(service.server_port, flush=True)
    threading.Thread(target=service.serve_forever, daemon=True).start()
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    main()
