# shellcheck shell=bash
# shellcheck disable=SC2034 # the other files read what is set here
# What was asked for, whether it can be done on this machine, and for whom.

label=org.scribefarm.worker
# Only tests set it: what stands before the system's own folders.
system_root="${MAC_ROOT:-}"

say() { printf 'install: %s\n' "$*"; }

# fail CODE MESSAGE: 1 this Mac, 2 usage, 3 the server.
fail() {
  local code="$1"
  shift
  printf 'install: %s\n' "$*" >&2
  exit "$code"
}

usage() {
  cat <<'END'
usage: sudo deploy/install [options] [ADDRESS] [MODEL]     a daemon: runs from boot, nobody logged in
       deploy/install --agent [options] [ADDRESS] [MODEL]  an agent: for a Mac with somebody at it
       sudo deploy/install --remove                        undo it; settings and log stay
       deploy/install --agent --remove

ADDRESS is the server's, without a password: rediss://worker@farm.example:6380. It is needed the
first time. MODEL is a hub id, a folder or a packaged name; mlx-community/whisper-large-v3-turbo if
none was ever given. Run it again to update, or with another address or model to change them.

The password is asked for. A script gives it in one of two other ways, never on the command line:
  --password-file FILE    its first line; /dev/stdin is a file too
  REDIS_PASSWORD     in the environment: sudo --preserve-env=REDIS_PASSWORD deploy/install

  --user NAME     who the daemon runs as; the one who called sudo, or who it runs as now
  --prefix DIR    where packages and settings go; .scribefarm in that user's home
  --yes           change the power settings without asking: no sleep, start after a power cut
  --agent         runs only while its user is logged in at the screen, and macOS 15 and later keep
                  it from servers on the local network
  --remove, --help

Exit codes: 0 the worker runs, 1 something on this Mac failed, 2 wrong usage or settings,
3 the server does not answer or does not let us in.
END
}

read_options() {
  address="" model="" agent="" remove="" yes="" user="" prefix="" password_file=""
  local num_words=0
  while [ $# -gt 0 ]; do
    case "$1" in
      -h | --help) usage; exit 0 ;;
      --agent) agent=yes ;;
      --remove) remove=yes ;;
      --yes) yes=yes ;;
      --user | --prefix | --password-file)
        [ -n "${2:-}" ] || fail 2 "$1 needs a value"
        set_option "$1" "$2"
        shift
        ;;
      -*) fail 2 "no such option: $1; --help shows them all" ;;
      *)
        num_words=$((num_words + 1))
        case $num_words in
          1) address="$1" ;;
          2) model="$1" ;;
          *) fail 2 "too many arguments: $1; --help shows how" ;;
        esac
        ;;
    esac
    shift
  done
  check_characters
}

set_option() {
  case "$1" in
    --user) user="$2" ;;
    --prefix) prefix="$(absolute "$2")" ;;
    --password-file) password_file="$(absolute "$2")" ;;
  esac
}

absolute() {
  case "$1" in
    /*) printf %s "$1" ;;
    *) printf %s "$PWD/$1" ;;
  esac
}

# Everything else is quoted where it is written.
check_characters() {
  case "$address$model$user$prefix" in
    *[[:cntrl:]]*) fail 2 "no control characters in address, model, user or prefix" ;;
  esac
  case "$user" in
    -*) fail 2 "no such user: $user" ;;
  esac
}

check_machine() {
  [ "$(uname -s)" = Darwin ] || fail 2 "this is for macOS; on Linux use deploy/systemd"
  [ "$(uname -m)" = arm64 ] || fail 2 "MLX needs Apple silicon, and an arm64 shell (not Rosetta)"
}

choose_kind() {
  if [ -n "$agent" ]; then
    [ "$(id -u)" != 0 ] || fail 2 "an agent belongs to a user: run it without sudo"
    [ -z "$user" ] || fail 2 "an agent runs as who installs it: no --user"
    domain="gui/$(id -u)"
    plist="$HOME/Library/LaunchAgents/$label.plist"
    rotation=""
    check_session
  else
    [ "$(id -u)" = 0 ] || fail 2 "a daemon is installed with sudo; --agent does without"
    domain=system
    plist="$system_root/Library/LaunchDaemons/$label.plist"
    rotation="$system_root/etc/newsyslog.d/scribefarm.conf"
  fi
}

check_session() {
  launchctl print "$domain" >/dev/null 2>&1 ||
    fail 1 "nobody is logged in at this Mac's screen, so no agent can run: install the daemon with sudo"
  if launchctl print "system/$label" >/dev/null 2>&1; then
    fail 1 "the daemon is installed, and two workers would share one GPU: sudo deploy/install --remove"
  fi
}

choose_user_and_prefix() {
  if [ -n "$agent" ]; then
    user="$(id -un)"
    home="$HOME"
    log="$home/Library/Logs/scribefarm/worker.log"
  else
    # A daemon that is there keeps its user and folder.
    user="${user:-$(installed UserName)}"
    user="${user:-${SUDO_USER:-}}"
    [ -n "$user" ] || fail 2 "no user to run as: --user NAME"
    id -u "$user" >/dev/null 2>&1 || fail 2 "no such user: $user"
    [ "$(id -u "$user")" != 0 ] || fail 2 "a worker reads other people's files: not as root; --user NAME"
    home="$(home_of "$user")"
    log="$system_root/Library/Logs/scribefarm/worker.log"
  fi
  prefix="${prefix:-$(installed WorkingDirectory)}"
  prefix="${prefix:-$home/.scribefarm}"
  settings="$prefix/settings.toml"
}

# shellcheck disable=SC2016 # that user's HOME
home_of() { sudo -H -u "$1" -- /bin/sh -c 'printf %s "$HOME"'; }

# installed KEY: what the worker's plist says now, or nothing.
installed() {
  [ ! -e "$plist" ] || plutil -extract "$1" raw -o - "$plist" 2>/dev/null || true
}

# Root keeps its hands off what belongs to the worker's user.
as_user() {
  if [ -n "$agent" ]; then
    "$@"
  else
    sudo -E -H -u "$user" -- "$@"
  fi
}
