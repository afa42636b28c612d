"""What the gateway needs of files, database and machine; `infra.gateway` has it."""
