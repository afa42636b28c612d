// The words of a query, as runtime/run_query.py reads them: NAME:VALUE is a filter, quotes hold words together.
const WORD = /(?:[^\s"']|"(?:[^"\\]|\\.)*"|'[^']*')+/g;

export function wordsOf(query) {
  const found = {};
  for (const word of query.match(WORD) ?? []) {
    const [name, value] = [word.slice(0, word.indexOf(":")), word.slice(word.indexOf(":") + 1)];
    if (word.includes(":")) found[name] = value;
  }
  return found;
}

// The query with another value for a filter; null takes it out.
export function withWord(query, name, value) {
  const rest = (query.match(WORD) ?? []).filter((word) => !word.startsWith(`${name}:`));
  return [...rest, ...(value === null ? [] : [`${name}:${value}`])].join(" ");
}
