"""The front door: an OpenAI-shaped HTTP API, the console's own API and its pages, agents on the bus, channels, triggers.

Everything that comes in becomes what any other client would ask of the log and the services; nothing is decided here.
"""
