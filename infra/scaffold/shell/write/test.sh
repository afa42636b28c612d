#!/bin/sh
cd "$(dirname "$0")" || exit 1
BOOK=$(mktemp)
export BOOK
trap 'rm -f "$BOOK"' EXIT
ask() { NATS_REQUEST_BODY="{\"want\": \"$1\", \"arguments\": {\"text\": \"the till was opened\"}, \"write_key\": \"k1\"}" ./tool.sh; }
expect() { [ "$1" = "$2" ] || { echo "it said: $1"; exit 1; }; }

expect "$(ask plan | jq -c .state)" '{"entries":0}'
expect "$(ask call)" "entry 1 is in the log book"
expect "$(ask call)" "entry 1 is in the log book"
expect "$(ask plan | jq -c .state)" '{"entries":1}'
echo ok
