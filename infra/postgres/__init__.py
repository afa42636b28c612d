"""PostgreSQL behind the services' ports: one adapter a file, over SQLAlchemy Core and psycopg."""
