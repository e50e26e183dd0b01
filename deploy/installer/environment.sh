# shellcheck shell=bash
# shellcheck disable=SC2154 # set in options.sh
# Packages, settings and model, made beside those in use, and checked before anything is stopped.

make_environment() {
  as_user test -r "$here/../uv.lock" || fail 1 "$user cannot read $here: put the clone elsewhere"
  make_folders
  local uv
  uv="$(find_uv)" || fail 1 "needs uv for $user: https://docs.astral.sh/uv/ (brew install uv)"
  # Two folders take turns; `venv` is a link to the one in use.
  case "$(readlink "$prefix/venv" 2>/dev/null)" in
    venv.a) next=venv.b ;;
    *) next=venv.a ;;
  esac
  python="$prefix/$next/bin/python"
  as_user rm -rf "${prefix:?}/$next"
  say "installing the lock file's versions"
  # tiny.en comes along, for a worker that has to work without a hub. uv would reuse what it built
  # of an older state of this clone. A Python of its own: Full Disk Access hangs on it, and `brew upgrade` must not replace it.
  as_user env UV_PROJECT_ENVIRONMENT="$prefix/$next" UV_PYTHON_INSTALL_DIR="$prefix/python" \
    "$uv" sync --quiet --frozen --no-dev --no-editable --reinstall-package scribefarm \
    --managed-python --python 3.12 --extra worker --extra demo --project "$here/.." ||
    fail 1 "the packages could not be installed; nothing was changed"
}

make_folders() {
  if [ -z "$agent" ] && [ ! -d "$prefix" ]; then
    # Its parent may be root's, as /opt is.
    mkdir -p "$prefix"
    chown "$user" "$prefix"
  fi
  as_user mkdir -p "$prefix"
  # The settings hold a password.
  as_user chmod 700 "$prefix"
}

find_uv() {
  local each
  # shellcheck disable=SC2016 # expanded by that user's shell
  for each in "$(as_user /bin/sh -c 'command -v uv' || true)" \
    "$home/.local/bin/uv" /opt/homebrew/bin/uv /usr/local/bin/uv; do
    if [ -n "$each" ] && [ -x "$each" ]; then
      printf %s "$each"
      return
    fi
  done
  return 1
}

files() { as_user "$python" "$here/installer/files.py" "$@"; }

write_settings() {
  printf '%s\n' "$password" |
    files settings "$settings" --address "$address" --model "$model" ||
    fail 2 "the settings could not be written; nothing was changed"
}

fetch_model() {
  local name revision
  name="$(files name "$settings.new")"
  revision="$(files revision "$settings.new")"
  case "$name" in
    # No name: the default, tiny.en, is here. A folder is there or it is not: the worker says so.
    "" | /*) return ;;
  esac
  say "fetching the model $name"
  as_user "$prefix/$next/bin/scribefarm-worker" models fetch "$name" ${revision:+--revision "$revision"} ||
    fail 1 "the model could not be fetched; nothing was changed"
}

# From here it may answer while launchd's jobs are kept from it; wait_until_it_works sees that.
check_server() {
  local code=0
  files server "$settings.new" || code=$?
  [ "$code" = 0 ] || fail "$code" "the server cannot be used; nothing was changed"
}

take_into_use() {
  as_user mv -f "$settings.new" "$settings"
  # What an earlier installer made is a folder.
  [ -L "$prefix/venv" ] || as_user rm -rf "$prefix/venv"
  as_user ln -sfn "$next" "$prefix/venv"
  case "$next" in
    venv.a) as_user rm -rf "$prefix/venv.b" ;;
    venv.b) as_user rm -rf "$prefix/venv.a" ;;
  esac
}
