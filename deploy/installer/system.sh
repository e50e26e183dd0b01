# shellcheck shell=bash
# shellcheck disable=SC2154 # set in options.sh and environment.sh
# What the Mac itself needs: a log that does not grow for ever, no sleep, and a person's consent.

# Each by itself, since not every Mac has all of them. womp wakes it by network.
power_settings="sleep=0 disksleep=0 womp=1 autorestart=1 powernap=0 lowpowermode=0"

# The worker opens the new file by itself (--log-file), so newsyslog signals nobody.
rotate_log() {
  if [ -n "$agent" ]; then
    mkdir -p "$(dirname "$log")"
  else
    # The folder is root's, so nobody can put a link in the way of newsyslog.
    mkdir -p "$(dirname "$log")" "$(dirname "$rotation")"
    chmod 755 "$(dirname "$log")"
    sed -e "s#@USER@#$user#g" "$here/launchd/newsyslog.conf" >"$rotation"
    chmod 644 "$rotation"
  fi
  [ -e "$log" ] || : >"$log"
  chmod 640 "$log"
  [ -n "$agent" ] || chown "$user" "$log"
}

keep_awake() {
  if [ -n "$agent" ] || ! may_change_power; then
    say "keep this Mac awake: sudo pmset -a $(printf %s "$power_settings" | tr '=' ' ')"
    return
  fi
  local each
  for each in $power_settings; do
    pmset -a "${each%=*}" "${each#*=}" >/dev/null 2>&1 || say "this Mac has no setting ${each%=*}"
  done
}

may_change_power() {
  [ -z "$yes" ] || return 0
  [ -t 0 ] || return 1
  local answer
  read -r -p "set pmset to $power_settings? [Y/n] " answer || return 1
  case "$answer" in
    "" | [yY]*) return 0 ;;
    *) return 1 ;;
  esac
}

say_what_is_left() {
  say "the worker runs as $user; its log: $log"
  say "recordings on a share or an external disk: allow this program in System Settings > Privacy &
Security > Full Disk Access (+, then Shift-Command-G), then run this again:
  $(as_user "$python" -c 'import os, sys; print(os.path.realpath(sys.executable))')"
  [ -z "$agent" ] || say "an agent runs only while $user is logged in at the screen, ends at logout, and on
macOS 15 and later reaches no server on the local network: for that install the daemon with sudo"
}
