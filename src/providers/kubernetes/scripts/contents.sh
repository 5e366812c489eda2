#!/bin/sh
# contents.sh FOLDER LEVELS SECONDS BYTES: what is in a folder, for people: the upper levels first, and no more than may be said. Reads names and
# sizes, never a file. Each record ends with a zero byte, since a name may hold everything else: `KIND SIZE PATH` for each entry (f, d, l or
# another letter; `-` is a size that nobody knows), and `end DEEPER UNREAD` at the end (1: there is more below the levels; something could not
# be read). Without that record it was cut off, by its time or by its length.
# Plain POSIX; with GNU find it knows sizes as well.
set -eu
export LC_ALL=C

cd -- "${1:?}"
levels=${2:?}
bytes=${4:?}
ends=$(($(date +%s) + ${3:?}))
# Nothing of this may run without an end.
command -v timeout >/dev/null

# The entries of one level, with what `find` is to do with each.
look() {
  level=$1
  shift
  left=$((ends - $(date +%s)))
  [ "$left" -gt 0 ] || exit 0
  # Marks that a copy of the disk has left in it are none of its user's files.
  timeout "$left" find . -xdev -mindepth "$level" -maxdepth "$level" ! -path './.gpu-dev-copy' ! -path './.gpu-dev-copy.*' \
    ! -path './lost+found' "$@" 2>/dev/null
}

# shellcheck disable=SC2016
KINDS='for path do
  if [ -h "$path" ]; then kind=l; elif [ -d "$path" ]; then kind=d; elif [ -f "$path" ]; then kind=f; else kind=o; fi
  printf "%s - %s\0" "$kind" "${path#./}"
done'

tell() {
  unread=0
  level=1
  while [ "$level" -le "$levels" ]; do
    if [ "$gnu" = 1 ]; then look "$level" -printf '%y %s %P\0'; else look "$level" -exec sh -c "$KINDS" sh {} +; fi || unread=1
    level=$((level + 1))
  done
  deeper=0
  [ -z "$(look "$level" -print | head -c 1)" ] || deeper=1
  # Whatever ran out of its time has told only a part.
  [ "$(date +%s)" -lt "$ends" ] || exit 0
  printf 'end %s %s\0' "$deeper" "$unread"
}

gnu=0
if find . -maxdepth 0 -printf '' 2>/dev/null; then gnu=1; fi
tell | head -c "$bytes"
