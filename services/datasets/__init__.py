"""What models learn from and are examined on: conversations, the public sets they come from, and how sets are mixed.

No service of its own: `services.training` and `services.evaluation` read it, as a set is a set to both.
"""
