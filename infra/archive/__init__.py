"""The archive: closed segments of the log, kept as objects that prove themselves, so that their streams may be dropped.

    {segment}.json                           which tenants a segment has, and what its stream had come to
    {tenant}/{segment}/runs-0001.jsonl.gz    runs, a gzip member each, in the format of `runs export`, without keys
    {tenant}/{segment}/index.jsonl           a line a run: where it stands, its digest, what became of it
    {tenant}/{segment}/payloads/{name}       bytes that the runs refer to, as they were stored
    {tenant}/{segment}/payloads.jsonl        a line a payload: its data key and digest
    {tenant}/{segment}/strays.jsonl.gz       messages that belong to no run that can be read, if there are any
    {tenant}/{segment}/manifest.json         digests of all of these; without it, nothing of this folder counts

Retention by age and tenant is to remove whole folders. See docs/archive.md.
"""
