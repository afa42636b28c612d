#!/bin/sh
# One call: the question is in NATS_REQUEST_BODY, the answer is what is printed. It writes, so it is planned, a person is
# asked, and it is done once: Milepost gives every effect a key, and the same key twice has one effect.
set -e
book=${BOOK:-book.jsonl}
ask() { printf '%s' "$NATS_REQUEST_BODY" | jq -r "$1"; }
touch "$book"
entries=$(wc -l < "$book" | tr -d ' ')
text=$(ask .arguments.text)
key=$(ask '.write_key // ""')

case $(ask .want) in
  plan) # what would it do? `state` is what that depends on: when it changes, the approval is void
    jq -n --arg text "$text" --argjson entries "$entries" \
      '{preview: {summary: "entry \($entries + 1) of the log book", rows: [["text", $text]]}, state: {entries: $entries}}' ;;
  call)
    line=$(jq -r --arg key "$key" 'select(.key == $key) | input_line_number' "$book" | head -n 1)
    if [ -z "$line" ]; then
      jq -nc --arg key "$key" --arg text "$text" '{key: $key, text: $text}' >> "$book"
      line=$((entries + 1))
    fi
    echo "entry $line is in the log book" ;;
  *)
    jq -n --arg want "$(ask .want)" '{fault: {kind: "unasked", what: "__NAME__ does not answer \($want)."}}' ;;
esac
