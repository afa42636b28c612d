"""The log and the bus on NATS JetStream. The only folder that imports nats."""
