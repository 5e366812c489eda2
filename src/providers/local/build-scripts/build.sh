#!/bin/sh
# Runs in the pod of a build, in two containers: `build.sh fetch` has the token and runs nobody's code, `build.sh build` runs the steps of the
# Dockerfile and has no token. Nothing is echoed but plain sentences: what is read here must not stand in a log.
set -eu

# Where the context is fetched from: `fetch` puts it here, `build` reads it.
CONTEXT="${CONTEXT:-/context}"

fail() {
  echo "build: $1" >&2
  exit "$2"
}

# One try: it may take as long as something comes. This image's wget has no patience of its own, and none would be too much.
get() {
  : >"$packed"
  wget -q -S -O "$packed" --header "Authorization: Bearer $(cat "$token_file")" "$CONTEXT_URL" 2>"$CONTEXT/.why" &
  wget=$!
  (
    before=0
    while sleep "${FETCH_PATIENCE:-90}"; do
      size="$(wc -c <"$packed")"
      [ "$size" -gt "$before" ] || kill "$wget"
      before="$size"
    done
  ) >/dev/null 2>&1 &
  watch=$!
  code=0
  wait "$wget" 2>/dev/null || code=$?
  kill "$watch" 2>/dev/null || true
  return "$code"
}

fetch() {
  token_file="${TOKEN_FILE:-/run/gpu-dev/token/token}"
  [ -s "$token_file" ] || fail 'there is no token for the build context' 40
  packed="$CONTEXT/.packed.tar.gz"
  rm -rf "$CONTEXT/files"
  mkdir -p "$CONTEXT/files"
  tries=0
  # A connection that breaks leaves the token good; one that is refused stays refused, and asking again costs nothing.
  until get; do
    tries=$((tries + 1))
    if [ "$tries" -ge "${FETCH_TRIES:-5}" ]; then
      status="$(sed -n 's/.*HTTP\/1\.[01] \([0-9][0-9][0-9]\).*/\1/p' "$CONTEXT/.why" | tail -n 1)"
      fail "the build context could not be fetched (${status:-no answer})" 41
    fi
    sleep "${FETCH_PAUSE:-2}"
  done
  tar -xzf "$packed" -C "$CONTEXT/files" || fail 'the build context cannot be unpacked' 42
  rm -f "$packed" "$CONTEXT/.why"
}

build() {
  [ -f "$CONTEXT/files/Dockerfile" ] || fail 'the build context holds no Dockerfile' 43
  output="type=image,name=$IMAGE,push=true"
  [ "${REGISTRY_INSECURE:-}" = true ] && output="$output,registry.insecure=true"
  set -- build --progress plain --frontend dockerfile.v0 --local "context=$CONTEXT/files" --local "dockerfile=$CONTEXT/files" \
    --output "$output" --metadata-file /tmp/metadata.json
  if [ -n "${CACHE:-}" ]; then
    # A cache that is not there, or cannot be written, makes a build slow and nothing else.
    cache="type=registry,ref=$CACHE"
    [ "${REGISTRY_INSECURE:-}" = true ] && cache="$cache,registry.insecure=true"
    set -- "$@" --import-cache "$cache" --export-cache "$cache,mode=max,ignore-error=true"
  fi
  buildctl-daemonless.sh "$@" || fail "the build ended with code $?" 44
  # The digest of what was pushed, for whoever waits for this pod.
  # shellcheck disable=SC2020 # three characters, each its own line end
  digest="$(tr ',{}' '\n\n\n' </tmp/metadata.json 2>/dev/null | sed -n 's/.*"containerimage.digest" *: *"\(sha256:[0-9a-f]\{64\}\)".*/\1/p' | head -n 1)"
  # Without it nobody can say what was built: what the tag leads to is up to everybody who may push.
  [ -n "$digest" ] || fail 'the builder told no digest of the image' 45
  printf '%s' "$digest" >"${RESULT_FILE:-/dev/termination-log}" || fail 'the digest of the image cannot be told' 45
}

case "${1:-}" in
  fetch) fetch ;;
  build) build ;;
  *) fail 'say fetch or build' 64 ;;
esac
