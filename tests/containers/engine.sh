#!/usr/bin/env bash
# A Docker engine of the tests' own: `engine.sh start`, `engine.sh stop`, `engine.sh why-not`. As root on Debian 12 or newer.
#
# Its socket, data and programs are below $MNIST_ABLATE_CONTAINERS. An engine that is on the machine already is left alone.
# Programs, base images and layers stay there between runs; delete the folder to begin anew.
set -euo pipefail
cache=${MNIST_ABLATE_CONTAINERS:-/var/cache/mnist-ablate-containers}
suite=trixie # the oldest suite of Debian with Compose 2.24 or newer
needed_gb=12 # for programs and images, 5 of them kept, and for what the tests write
programs=$cache/programs
pid_file=$cache/run/docker.pid
export PATH=$programs/usr/bin:$programs/usr/sbin:/usr/sbin:$PATH DEBIAN_FRONTEND=noninteractive
export DOCKER_HOST=unix://$cache/run/docker.sock DOCKER_CONFIG=$programs/config

# Prints the reason why containers cannot run here, if there is one.
why_not() {
  [ "$(id -u)" = 0 ] || { echo "it needs root"; return; }
  command -v apt-get >/dev/null || { echo "it needs apt-get, of Debian"; return; }
  grep -qw overlay /proc/filesystems || modprobe overlay 2>/dev/null ||
    { echo "the kernel has no overlay file system"; return; }
  [ -e /sys/fs/cgroup/memory ] || [ -e /sys/fs/cgroup/cgroup.controllers ] || { echo "no control groups are mounted"; return; }
  unshare --net true 2>/dev/null || { echo "the kernel gives no network namespaces"; return; }
  [ ! -e "$programs/done" ] || return 0
  mkdir -p "$cache"
  local free
  free=$(df --output=avail --block-size=1G "$cache" | tail -1)
  [ "$free" -ge "$needed_gb" ] || echo "it needs $needed_gb GB below $cache, and ${free// /} GB are free"
}

# Docker and Compose of a newer suite, unpacked beside the machine's packages: its runc, iptables and libc do.
install_programs() {
  if ! { command -v runc && command -v iptables && command -v debootstrap; } >/dev/null; then
    apt-get update -q
    apt-get install -qy --no-install-recommends runc iptables debootstrap ca-certificates
  fi
  [ ! -e "$programs/done" ] || return 0
  local apt=$cache/apt own
  rm -rf "$programs" "$apt"
  mkdir -p "$programs/config" "$apt"/{lists,archives}/partial
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $(mirror) $suite main" >"$apt/sources.list"
  own=(-o "Dir::Etc::sourcelist=$apt/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$apt/lists"
    -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o APT::Sandbox::User=root)
  apt-get "${own[@]}" update -q
  (cd "$apt" && apt-get "${own[@]}" download docker.io docker-cli docker-compose docker-buildx containerd tini caddy)
  for package in "$apt"/*.deb; do dpkg -x "$package" "$programs"; done
  rm -rf "$apt" "$programs/usr/share"
  ln -s "$programs/usr/libexec/docker/cli-plugins" "$programs/config/cli-plugins"
  touch "$programs/done"
}

# Where this machine gets Debian's packages.
mirror() {
  awk '/^URIs:/ {print $2; exit} /^deb / {print $2; exit}' /etc/apt/sources.list.d/debian.sources \
    /etc/apt/sources.list 2>/dev/null | grep . || echo http://deb.debian.org/debian
}

# What this machine does with packets of others: the policy of FORWARD, and whether any are forwarded at all.
forwarding() { iptables -S FORWARD | awk '/^-P/ {print $3}' && cat /proc/sys/net/ipv4/ip_forward; }

# The network is left as it was found. A bridge of another engine, and all rules but Docker's, stay.
remove_network() {
  [ -s "$cache/forwarding" ] || return 0
  local was table
  mapfile -t was <"$cache/forwarding"
  ! ip link show docker0 >/dev/null 2>&1 || ip link delete docker0
  for table in iptables ip6tables; do
    "$table-save" 2>/dev/null | grep -vi docker | "$table-restore" 2>/dev/null || true
  done
  iptables -P FORWARD "${was[0]}"
  echo "${was[1]}" >/proc/sys/net/ipv4/ip_forward
  rm "$cache/forwarding"
}

# A dead one that nobody has waited for has no program.
running() { [ -s "$pid_file" ] && [[ $(readlink "/proc/$(cat "$pid_file")/exe") == */dockerd ]]; }

start() {
  install_programs >&2
  ! running || return 0
  # What a dead engine left running is taken over, by what it wrote there.
  pgrep -f "containerd-shim.* -address $cache/run/" >/dev/null || rm -rf "$cache/run"
  rm -f "$pid_file"
  mkdir -p "$cache/run" "$cache/data"
  [ -e /sys/class/net/docker0 ] || forwarding >"$cache/forwarding"
  # A shell ignores SIGINT for what it starts in the background, and every container would inherit that.
  python3 -c 'import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.setsid()
os.execvp(sys.argv[1], sys.argv[1:])' \
    dockerd --host "$DOCKER_HOST" --data-root "$cache/data" --exec-root "$cache/run/exec" --pidfile "$pid_file" \
    --storage-driver overlay2 --log-level warn >>"$cache/dockerd.log" 2>&1 </dev/null &
  for _ in $(seq 150); do
    ! docker version >/dev/null 2>&1 || return 0
    sleep 0.2
  done
  tail -20 "$cache/dockerd.log" >&2
  echo "dockerd does not answer: see $cache/dockerd.log" >&2
  return 1
}

stop() {
  if running; then
    kill "$(cat "$pid_file")"
    for _ in $(seq 300); do
      running || break
      sleep 0.2
    done
  fi
  ! running || kill -9 "$(cat "$pid_file")"
  remove_network
}

case ${1:-} in
  start) start ;;
  stop) stop ;;
  why-not) why_not ;;
  mirror) mirror ;;
  *)
    echo "usage: engine.sh start|stop|why-not|mirror" >&2
    exit 2
    ;;
esac
