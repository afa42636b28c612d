"""A cloud on loopback that answers like Alibaba Cloud ECS (RPC, version 2014-05-26): for the demo, tests and kill drills.

It keeps its world in SQLite, so that neither kill -9 nor a restart loses or repeats an effect. Prices, instances and
keys are invented; error codes, parameters and answers follow the real service (docs of the SDK's models).
"""
