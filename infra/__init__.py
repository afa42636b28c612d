"""The outside world and the wiring: settings, servers, stores, command line. Imports all; nobody imports it."""
