#!/bin/sh
# jupyter.sh start PORT (token on standard input) | resume | stop
# Start ends well only if Jupyter answers: one that falls over a second later does not count as on. After a restart of the container
# `resume` brings back what was on. The token stands in no list of arguments.
set -eu
umask 077
state=/var/lib/gpu-dev/jupyter
not_installed=127

say() { printf '%s\n' "$*" >&2; }
alive() { [ -s "$state/pid" ] && kill -0 "$(cat "$state/pid")" 2>/dev/null; }
answers() {
  url=http://127.0.0.1:$1/api
  if command -v curl >/dev/null 2>&1; then
    curl -fsS --noproxy '*' -m 2 -o /dev/null "$url" 2>/dev/null
  else
    python3 -c 'import sys, urllib.request as r; r.build_opener(r.ProxyHandler({})).open(sys.argv[1], timeout=2)' "$url" 2>/dev/null
  fi
}

launch() {
  JUPYTER_TOKEN=$(cat "$state/token")
  GPU_DEV_JUPYTER_PORT=$1
  export JUPYTER_TOKEN GPU_DEV_JUPYTER_PORT
  umask 022
  cd /workspace 2>/dev/null || cd /
  # shellcheck disable=SC2016 # the shell that runs it is to expand it
  command='exec jupyter lab --ip=0.0.0.0 --port="$GPU_DEV_JUPYTER_PORT" --ServerApp.port_retries=0 --no-browser --allow-root --ServerApp.root_dir="$PWD"'
  if [ "$(id -u)" = 0 ] && id dev >/dev/null 2>&1; then
    HOME=/home/dev USER=dev LOGNAME=dev nohup su -m -s /bin/sh dev -c "$command" >"$state/log" 2>&1 </dev/null &
  else
    nohup /bin/sh -c "$command" >"$state/log" 2>&1 </dev/null &
  fi
  echo $! >"$state/pid"
}

start() {
  if ! command -v jupyter >/dev/null 2>&1; then
    say "this image has no jupyter"
    exit "$not_installed"
  fi
  alive || launch "$1"
  waited=0
  while [ "$waited" -lt 30 ]; do
    if answers "$1"; then return 0; fi
    alive || break
    sleep 1
    waited=$((waited + 1))
  done
  tail -n 5 "$state/log" >&2
  return 1
}

stop() {
  rm -f "$state/token" "$state/port"
  alive || return 0
  pid=$(cat "$state/pid")
  kill "$pid" 2>/dev/null || true
  waited=0
  while [ "$waited" -lt 5 ] && kill -0 "$pid" 2>/dev/null; do
    sleep 1
    waited=$((waited + 1))
  done
  ! kill -0 "$pid" 2>/dev/null || kill -9 "$pid" 2>/dev/null || true
  rm -f "$state/pid"
}

mkdir -p "$state"
case "${1:-}" in
  start)
    read -r token
    printf '%s\n' "$token" >"$state/token"
    printf '%s\n' "$2" >"$state/port"
    start "$2"
    ;;
  resume)
    # The number in the file is that of a process of the container before.
    rm -f "$state/pid"
    start "$(cat "$state/port")"
    ;;
  stop) stop ;;
  *)
    say "usage: jupyter.sh start PORT | resume | stop"
    exit 2
    ;;
esac
