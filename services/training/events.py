"""What a run tells: JSON lines on stdout and in metrics.jsonl."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path


class Events:
    """Tells only where it is the first of several processes. file: None until the run has a folder."""

    def __init__(self, *, speaks: bool = True) -> None:
        self.speaks = speaks
        self.file: Path | None = None

    def tell(self, event: str, **facts: object) -> None:
        """One line. Numbers that are none (NaN, infinity) become null, as JSON has no word for them."""
        if not self.speaks:
            return
        told = {name: None if isinstance(one, float) and not math.isfinite(one) else one for name, one in facts.items()}
        line = json.dumps({"event": event, **told}, ensure_ascii=False)
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
        if self.file is not None:
            with self.file.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
