"""APIs that are known by their description alone: looked at, planned and recognised by names, whoever answers them."""
