"""Amazon Web Services as tools: the EC2 life cycle as it is shipped, and every operation of botocore's models."""
