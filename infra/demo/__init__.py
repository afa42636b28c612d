"""The demo: the whole product on real parts, in one command."""
