"""The gateway's outside: its process, its address, and what it needs of files, database and machine."""
