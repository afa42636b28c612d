#!/bin/sh
# One call: the question is in NATS_REQUEST_BODY, the answer is what is printed.
printf '%s' "$NATS_REQUEST_BODY" | jq -r '.arguments.text | [splits("\\s+") | select(. != "")] | "\(length) words"'
