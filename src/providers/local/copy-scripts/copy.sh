#!/bin/sh
# Runs in the pod of a copy, between two volumes. `copy.sh save` copies a volume that nobody writes to (SOURCE) into a volume of its own
# (TARGET): a snapshot. `copy.sh fill` copies such a snapshot (SOURCE) into a new volume (TARGET).
#
# Each try copies into a folder of its own, and a mark in the target says how far it is: `copying`, then `moving` (fill alone: whole, and on its
# way to its place), then `complete`. The mark is replaced whole and comes to the disk after what it tells of: a try that was cut off anywhere
# leaves `copying`, which nobody takes for a copy, and the next try begins anew. What has no mark and is not empty is never touched.
# CONTENTS, arguments of contents.sh after its folder, asks for a list of what is on the disk; nothing depends on it.
set -eu
export LC_ALL=C

SOURCE="${SOURCE:-/source}"
TARGET="${TARGET:-/target}"
# For notes; the pod's root cannot be written.
WORK="${WORK:-/work}"
# Name of the snapshot, and of this try.
: "${SNAPSHOT:?}" "${RUN:?}"
MARK=.gpu-dev-copy
FOLDER="$MARK.$RUN"

fail() {
  echo "copy: $1" >&2
  printf '%s' "$1" >"${RESULT_FILE:-/dev/termination-log}" 2>/dev/null || true
  exit "$2"
}

# Sets state, snapshot and run to what the mark of a volume says; to nothing where there is none.
read_mark() {
  state='' snapshot='' run=''
  if [ -f "$1/$MARK" ]; then read -r state snapshot run <"$1/$MARK" || true; fi
}

# All that was written so far is on the disk before the mark says so, and the mark is before this returns.
write_mark() {
  sync -f "$TARGET"
  # Data that was moved in may have something of this name: a link must not be followed, nor a folder stand in the way.
  rm -rf -- "${TARGET:?}/$MARK.new"
  printf '%s %s %s\n' "$1" "$SNAPSHOT" "$RUN" >"$TARGET/$MARK.new"
  sync -f "$TARGET"
  mv -f "$TARGET/$MARK.new" "$TARGET/$MARK"
  sync -f "$TARGET"
}

is_empty() {
  [ -z "$(find "$TARGET" -mindepth 1 ! -path "$TARGET/lost+found" ! -path "$TARGET/$MARK.new" -print -quit | head -c 1)" ]
}

# Makes the target ours. Ends this script if it is complete already.
take_target() {
  read_mark "$TARGET"
  if [ -z "$state" ]; then
    is_empty || fail 'The new volume holds data that is not of this copy; it was left as it is' 50
  elif [ "$snapshot" != "$SNAPSHOT" ]; then
    fail "The new volume holds another copy ($snapshot); it was left as it is" 51
  fi
  case "$state" in
    complete)
      echo 'copy: it is complete already'
      exit 0
      ;;
    moving)
      # Whole already: this try only takes it further.
      RUN="$run"
      FOLDER="$MARK.$RUN"
      return
      ;;
    '' | copying) ;;
    *) fail 'The mark of the new volume cannot be read; it was left as it is' 52 ;;
  esac
  write_mark copying
  for left in "$TARGET/$MARK".*; do rm -rf -- "$left"; done
}

# Another try may have begun while this one was on a node that nobody heard of.
still_ours() {
  read_mark "$TARGET"
  [ "$state $snapshot $run" = "copying $SNAPSHOT $RUN" ] || fail 'Another try has taken over' 60
}

kilobytes_used() {
  df -k --output=used "$1" | tail -n 1
}

# A line `progress PERCENT` from time to time. An estimate, from what the file systems say.
tell_progress() {
  before="$(kilobytes_used "$TARGET")"
  if [ "$(stat -c %d "$SOURCE")" != "$(stat -c %d "$TARGET")" ]; then
    total="$(kilobytes_used "$SOURCE")"
  else
    # Folders of one file system: its numbers say nothing about one of them.
    total="$(timeout 600 du -skx "$1" 2>/dev/null | cut -f 1)" || total=0
  fi
  while sleep "${PROGRESS_SECONDS:-10}"; do
    [ "${total:-0}" -gt 0 ] || continue
    percent=$((($(kilobytes_used "$TARGET") - before) * 100 / total))
    if [ "$percent" -gt 99 ]; then percent=99; elif [ "$percent" -lt 0 ]; then percent=0; fi
    echo "progress $percent"
  done
}

# Everything in folder $1 into the new folder FOLDER: owners, modes, times, links, holes, and attributes where both file systems have them.
copy_all() {
  mkdir "$TARGET/$FOLDER"
  rm -f "$WORK/copied"
  tell_progress "$1" &
  teller=$!
  # A full disk makes cp complain of every file that is left: the end of `head` is its end.
  (if cp -a --sparse=always -- "$1/." "$TARGET/$FOLDER" 2>&1; then : >"$WORK/copied"; fi) | head -n 5 >"$WORK/said"
  kill "$teller" 2>/dev/null || true
  [ ! -f "$WORK/copied" ] || return 0
  case "$(cat "$WORK/said")" in
    *'No space left on device'* | *'Disk quota exceeded'*) fail 'There is no space left on the new volume' 53 ;;
  esac
  fail "Not everything could be copied: $(head -c 1000 "$WORK/said")" 54
}

# What is on the disk, for people, beside the copying and never in its way: whatever is told by then, within the time of the list itself, comes
# into the log. The disk is seen as it was copied: nobody writes to it.
begin_contents() {
  [ -n "${CONTENTS:-}" ] || return 0
  rm -f "$WORK/contents" "$WORK/contents.new"
  # shellcheck disable=SC2086
  (/bin/sh "${0%/*}/contents.sh" "$SOURCE" $CONTENTS >"$WORK/contents.new" 2>/dev/null && mv "$WORK/contents.new" "$WORK/contents") &
  contents=$!
}

# A small disk is copied sooner than it is listed; that is waited for, for two seconds at most.
tell_contents() {
  [ -n "${contents:-}" ] || return 0
  waited=0
  while [ ! -f "$WORK/contents" ] && kill -0 "$contents" 2>/dev/null && [ "$waited" -lt 20 ]; do
    sleep 0.1
    waited=$((waited + 1))
  done
  kill "$contents" 2>/dev/null || true
  [ -f "$WORK/contents" ] || return 0
  base64 "$WORK/contents" | sed 's/^/contents /' || true
}

same_attributes() {
  chown --reference="$1" -- "$2"
  chmod --reference="$1" -- "$2"
  touch --reference="$1" -- "$2"
}

save() {
  take_target
  begin_contents
  copy_all "$SOURCE"
  # What an earlier fill left in the volume is no data of its user.
  rm -rf -- "${TARGET:?}/$FOLDER/$MARK" "${TARGET:?}/$FOLDER/$MARK.new"
  still_ours
  same_attributes "$SOURCE" "$TARGET/$FOLDER"
  write_mark complete
  tell_contents
}

fill() {
  read_mark "$SOURCE"
  data="$SOURCE/$MARK.$run"
  if [ "$state" != complete ] || [ "$snapshot" != "$SNAPSHOT" ] || [ ! -d "$data" ]; then
    fail "The copy $SNAPSHOT is not complete; nothing was restored from it" 55
  fi
  take_target
  if [ "$state" != moving ]; then
    copy_all "$data"
    still_ours
    write_mark moving
  fi
  # That of a new file system is empty, and checks of it make it anew; the data may bring one.
  rmdir "$TARGET/lost+found" 2>/dev/null || true
  if [ -d "$TARGET/$FOLDER" ]; then
    find "$TARGET/$FOLDER" -mindepth 1 -maxdepth 1 -exec mv -n -t "$TARGET" -- {} +
    rmdir "$TARGET/$FOLDER" || fail 'Not everything could be moved to its place' 56
  fi
  write_mark complete
  same_attributes "$data" "$TARGET"
}

case "${1:-}" in
  save) save ;;
  fill) fill ;;
  *) fail 'say save or fill' 64 ;;
esac
