#!/usr/bin/env bash
# Makes local/python, local/postgres:17 and local/s3 with Debian's packages, unless the engine has them.
set -euo pipefail
cd "$(dirname "$0")"
suite=trixie
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if ! docker image inspect "local/debian:$suite" >/dev/null 2>&1; then
  debootstrap --variant=minbase "$suite" "$work/root" "$("../engine.sh" mirror)" >"$work/log" 2>&1 ||
    { tail -20 "$work/log" >&2; exit 1; }
  rm -rf "$work"/root/var/cache/apt/archives/*.deb "$work"/root/var/lib/apt/lists/*
  tar -C "$work/root" -c . | docker import - "local/debian:$suite" >/dev/null
  rm -rf "$work/root"
fi

mkdir "$work/context"
cp Dockerfile postgres-entrypoint.sh "$work/context"
cp -L /etc/ssl/certs/ca-certificates.crt "$work/context"
printf '[global]\ncert = /etc/ssl/certs/ca-certificates.crt\ntimeout = 180\n' >"$work/context/pip.conf"
build() { # by the machine's own network: a bridge may have no way to its names
  docker build --quiet --network host --build-arg "DEBIAN=local/debian:$suite" --target "$1" --tag "$2" "$work/context" >/dev/null
}
build python local/python:$suite
build postgres local/postgres:17
build s3 local/s3:1
