#!/bin/sh
# Makes the vendored modules of the packages that package.json pins. Needs Node.js; nobody who runs Milepost does.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$here"/package.json "$here"/*.entry.js "$work"
cd "$work"
npm install --no-audit --no-fund --no-package-lock --silent
for name in preact markdown uplot; do
  npx esbuild "$name.entry.js" --bundle --format=esm --minify --legal-comments=eof --target=es2022 --outfile="$here/$name.js"
done
cp node_modules/uplot/dist/uPlot.min.css "$here/uplot.css"
for package in preact htm @preact/signals marked dompurify uplot; do
  printf '%s %s\n\n' "$package" "$(node -p "const p = require('./node_modules/$package/package.json'); p.version + ', ' + p.license")"
  cat node_modules/$package/LICENSE* 2>/dev/null
  printf '\n----\n\n'
done > "$here/LICENSES.txt"
