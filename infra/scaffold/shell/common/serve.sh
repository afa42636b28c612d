#!/bin/sh
# Makes the tool known and answers its calls until it is stopped. Start as many copies as you like: they share the calls.
# NATS_URL says where: eval "$(milepost env)". `_all` is everybody's; put a tenant's name there for one tenant alone.
cd "$(dirname "$0")" || exit 1
nats pub mp.card._all.bus.__NAME__ "$(cat card.json)"
exec nats reply mp.tool._all.__NAME__ --command "./tool.sh"
