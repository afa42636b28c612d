"""Alibaba Cloud ECS as tools, through the vendor's own SDK."""
