# shellcheck shell=bash
# shellcheck disable=SC2154 # set in options.sh
# The server's address and password. The password is never an argument: `ps` shows those to all.

check_address() {
  if [ -z "$address" ]; then
    [ -e "$settings" ] || fail 2 "the first time an address is needed: rediss://worker@HOST:PORT"
    return
  fi
  case "$address" in
    rediss://?* | redis://?*) ;;
    *) fail 2 "the address must be rediss://HOST:PORT or redis://HOST:PORT" ;;
  esac
  local server="${address#*://}"
  server="${server%%[/?#]*}"
  case "$server" in
    *:*@*) refuse_password ;;
  esac
  case "$address" in
    *password=*) refuse_password ;;
  esac
}

refuse_password() {
  fail 2 "no password in the address: \`ps\` and the shell's history show it to others, so it is
void now. Change it on the server, then give the address as rediss://USER@HOST:PORT, and the new
password in one of three ways: type it when asked, --password-file FILE, or REDIS_PASSWORD in
the environment"
}

# Leaves it in $password; without a user in the address, and nothing given, there is none.
read_password() {
  password="${REDIS_PASSWORD:-}"
  unset REDIS_PASSWORD
  if [ -n "$password_file" ]; then
    # The last line may have no end.
    IFS= read -r password <"$password_file" || [ -n "$password" ] ||
      fail 2 "no password in $password_file"
    password="${password%$'\r'}"
  fi
  if [ -z "$address" ]; then
    [ -z "$password" ] || fail 2 "a new password needs its address: rediss://USER@HOST:PORT"
    return
  fi
  case "$address" in
    *@*) [ -n "$password" ] || ask_password ;;
  esac
}

ask_password() {
  [ -t 0 ] || fail 2 "the address names a user, and there is no terminal to ask for the password:
use --password-file FILE or REDIS_PASSWORD"
  IFS= read -r -s -p "password of $address: " password || true
  echo
  [ -n "$password" ] || fail 2 "no password"
}
