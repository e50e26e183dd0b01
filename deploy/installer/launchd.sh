# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # set in, or read by, the other files
# Stops and starts the worker, and waits until launchd and the worker have done what they were asked.

# Set while neither the old worker runs nor the new one.
is_stopped=""
# Longer than ExitTimeOut of the plists, after which launchd kills.
drain_s=120
# Weights from a slow disk, and Metal's kernels compiled once.
start_s=180
# A worker that may not do all of its work ends just after it has started.
settle_s=5
bootstrap_tries=5

is_loaded() { launchctl print "$1/$label" >/dev/null 2>&1; }

stop_worker() { stop_in "$domain"; }

# bootout returns while a worker drains; until it has left the domain, no other can take its place.
stop_in() {
  is_loaded "$1" || return 0
  say "stopping the worker that runs; what it is at goes back to the queue"
  [ -n "$remove" ] || is_stopped=yes
  launchctl bootout "$1/$label" >/dev/null 2>&1 || true
  local waited=0
  while is_loaded "$1"; do
    [ "$waited" -lt "$drain_s" ] ||
      fail 1 "the old worker does not end within $drain_s s: launchctl print $1/$label"
    sleep 1
    waited=$((waited + 1))
  done
}

# The daemon takes over from an agent, its user's or the caller's; the other way check_session has
# refused.
remove_the_other_kind() {
  [ -z "$agent" ] || return 0
  remove_agent_of "$user"
  case "${SUDO_USER:-root}" in
    root | "$user") ;;
    *) remove_agent_of "$SUDO_USER" ;;
  esac
}

remove_agent_of() {
  stop_in "gui/$(id -u "$1")"
  rm -f "$(home_of "$1")/Library/LaunchAgents/$label.plist"
}

write_plist() {
  local kind=daemon
  [ -z "$agent" ] || kind=agent
  plist_text="$(files plist "$here/launchd/$label.$kind.plist" \
    --prefix "$prefix" --user "$user" --home "$home" --log "$log")" ||
    fail 1 "the launchd file could not be written; nothing was changed"
}

start_worker() {
  mkdir -p "$(dirname "$plist")"
  printf '%s\n' "$plist_text" >"$plist"
  chmod 644 "$plist"
  [ -n "$agent" ] || chown root:wheel "$plist"
  # `launchctl disable` outlives a removal.
  launchctl enable "$domain/$label" || true
  log_start=$(($(wc -c <"$log") + 1))
  local tries=1 answer
  # 5 and 37 pass: launchd has not yet forgotten the old job.
  until answer="$(launchctl bootstrap "$domain" "$plist" 2>&1)"; do
    [ "$tries" -lt "$bootstrap_tries" ] || fail 1 "launchd does not take $plist: $answer"
    tries=$((tries + 1))
    sleep 2
  done
  is_stopped=""
}

new_lines() { tail -c "+$log_start" "$log"; }

# Not grep -q, which ends early: the left side would then fail of a closed pipe.
is_running() { launchctl print "$domain/$label" 2>/dev/null | grep 'state = running' >/dev/null; }

has_started() { new_lines | grep worker_started >/dev/null; }

# What a worker says when it ends because it cannot work.
last_error() {
  new_lines | grep -E '^error \[|"level": "critical"|Traceback|dyld' | tail -n 1 || true
}

# A worker says `worker_started` once its model is loaded and the server knows its name.
wait_until_it_works() {
  say "waiting until the worker has reached server and model"
  local waited=0
  until has_started; do
    [ -z "$(last_error)" ] || report_failure
    [ "$waited" -lt "$start_s" ] || report_silence
    sleep 1
    waited=$((waited + 1))
  done
  sleep "$settle_s"
  if [ -n "$(last_error)" ] || ! is_running; then
    report_failure
  fi
}

report_failure() {
  local error
  error="$(last_error)"
  case "$error" in
    *'error [server_unreachable]'* | *'error [local_network_denied]'*)
      fail 3 "the worker is installed, but does not reach the server from launchd: $error$(why_not_local)"
      ;;
  esac
  fail 1 "the worker is installed, but does not work: ${error:-it ended}; see $log
(launchd starts it again every 30 s)"
}

why_not_local() {
  [ -z "$agent" ] || printf %s "
macOS 15 and later keep agents from the local network: install the daemon with sudo"
}

report_silence() {
  is_running || fail 1 "the worker is installed, but does not stay alive; see $log"
  fail 1 "the worker lives, but did not say within $start_s s that it has server and model; see $log
(with log.level above info it never says so: scribefarm status shows whether it is there)"
}
