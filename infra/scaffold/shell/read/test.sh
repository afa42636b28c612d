#!/bin/sh
cd "$(dirname "$0")" || exit 1
said=$(NATS_REQUEST_BODY='{"want": "call", "arguments": {"text": " one  two three "}}' ./tool.sh)
[ "$said" = "3 words" ] || { echo "it said: $said"; exit 1; }
jq -e '.name == "__NAME__" and .lane == "bus"' card.json > /dev/null || { echo "the card is another tool's"; exit 1; }
echo ok
