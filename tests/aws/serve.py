"""Runs a local AWS server until standard input closes.

    serve.py ministack|moto PORT

Whoever starts it keeps the other end of the pipe: when that process ends, in
whatever way, the pipe closes and the server is gone too.
"""

import os
import sys
import threading


def leave_with_the_starter():
    sys.stdin.buffer.read()
    os._exit(0)


def main():
    kind, port = sys.argv[1], sys.argv[2]
    threading.Thread(target=leave_with_the_starter, daemon=True).start()
    if kind == "ministack":
        # Read when the module is loaded, so they are set before that.
        os.environ.update(
            BIND_HOST="127.0.0.1",
            GATEWAY_PORT=port,
            SERVICES="autoscaling,dynamodb,ec2,monitoring,sqs,sts",
            IOT_MTLS_ENABLED="0",
            LOG_LEVEL="WARNING",
        )
        from ministack.app import main as serve

        sys.argv = ["ministack"]
        serve()
    elif kind == "moto":
        from moto.server import main as serve

        serve(["--host", "127.0.0.1", "--port", port])
    else:
        sys.exit(f"{kind}: neither ministack nor moto")


if __name__ == "__main__":
    main()
