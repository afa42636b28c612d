"""Training a controller: weighted loss, packing and the trainer. Only this package imports torch, transformers and peft.

Its modules import nothing of ours but each other and nothing else than numpy and those, so that they run wherever torch is:
`python -m services.training PLAN.json` (see services/training/plan.py).
"""
