"""Services small enough to test the supervisor with: what each does is in its name."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

from infra.processes import announce_ready


def serve(name: str, copy: int) -> None:
    """Entry of a dummy service's process; ends on SIGTERM, except `stubborn`."""
    note = Path(os.environ["MILEPOST_HOME"]) / "notes" / f"{name}-{copy}"
    note.parent.mkdir(exist_ok=True)
    with note.open("a") as file:
        file.write(f"{os.getpid()} {os.getppid()} {threading.active_count()} {os.environ['MILEPOST_NATS_URL']}\n")
    ended = threading.Event()
    signal.signal(signal.SIGTERM, signal.SIG_IGN if name == "stubborn" else lambda *_: ended.set())
    match name:
        case "crashing":
            print("no model file at /nowhere", file=sys.stderr)
            raise SystemExit(3)
        case "once":
            return
        case "deaf":
            pass
        case "crash_later":
            announce_ready()
            raise RuntimeError("broke after it was ready")
        case _:
            announce_ready()
    print(f"{name} serves", flush=True)
    while not ended.is_set():
        signal.pause() if name == "stubborn" else time.sleep(0.02)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
