#!/usr/bin/env bash
# Pack what the bench imports for an x86-64 Linux GPU machine without a network, at the lock's versions.
#
#   tests/benchmarks/gpu/pack.sh DEST [PYTHON] [PACKAGE ...]     makes DEST/site.tar.xz, some 40 MB
#
# PYTHON is the version of that machine's Python (3.12). PACKAGEs, beside MLX and NumPy, are there already. On it:
#   mkdir SITE && tar xf site.tar.xz -C SITE && export PYTHONPATH=SITE:$PWD
set -euo pipefail
dest=${1:?usage: pack.sh DEST [PYTHON] [PACKAGE ...]}
python=${2:-3.12}
there=(mlx mlx-cpu mlx-metal mlx-cuda-13 numpy "${@:3}")
dest=$(mkdir -p "$dest" && cd "$dest" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
uv=$(command -v uv || echo .tools/bin/uv)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$uv" export --quiet --frozen --no-default-groups --no-emit-project --no-hashes --no-annotate --no-header \
  --extra worker --extra embedded "${there[@]/#/--no-emit-package=}" >"$work/requirements.txt"
"$uv" pip install --quiet --no-deps --only-binary :all: --target "$work/site" \
  --python-version "$python" --python-platform x86_64-manylinux_2_28 -r "$work/requirements.txt"
# Times that were measured are kept by the package's version.
metadata=$work/site/scribefarm-0.dist-info
mkdir "$metadata" && printf 'Metadata-Version: 2.1\nName: scribefarm\nVersion: 0\n' >"$metadata/METADATA"
find "$work/site" -name __pycache__ -prune -exec rm -r {} +
tar cf - -C "$work/site" . | xz -T0 -6 >"$dest/site.tar.xz"
ls -l "$dest/site.tar.xz"
