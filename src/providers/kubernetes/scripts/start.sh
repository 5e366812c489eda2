#!/bin/sh
# Turns an image into a dev server: its user, its keys, its notices, sshd. Runs as root, at each start of the container.
# Plain POSIX, so that every image with a shell can run it. Data comes in by files and environment; nothing of it is ever read as a script.
# When the port answers, everything before it is done: ready means staged.
set -eu
umask 022

scripts=${0%/*}
access=/etc/gpu-dev/access
# Lives as long as the pod: it survives a restart of the container.
state=/var/lib/gpu-dev
user=dev
uid=1081
home=/home/dev
port=${GPU_DEV_SSH_PORT:-22}

say() { printf '[gpu-dev] %s\n' "$*"; }
fail() {
  say "cannot start: $*"
  exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

# What logins get of the container's environment; sshd passes none of it on. The shell itself does the quoting.
write_environment() {
  umask 077
  (
    for name in _ HOME PWD OLDPWD SHLVL USER LOGNAME MAIL SHELL TERM HOSTNAME UID EUID GID EGID PPID SHELLOPTS BASHOPTS; do
      # bash holds some of them fast, and trying it would end this shell; it can keep them to itself, though.
      # shellcheck disable=SC3045,SC2163
      if (unset "$name") 2>/dev/null; then
        unset "$name"
      elif (export -n "$name") 2>/dev/null; then
        export -n "$name"
      fi
    done
    export -p
  ) >/etc/gpu-dev/environment.sh
  umask 022
}

install_packages() {
  say "installing $*"
  if have apt-get; then
    apt-get update -q >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "$@" >/dev/null
  elif have dnf; then
    dnf install -qy "$@"
  elif have microdnf; then
    microdnf install -y "$@"
  elif have yum; then
    yum install -qy "$@"
  elif have apk; then
    apk add --quiet --no-cache "$@"
  elif have zypper; then
    zypper -qn install "$@"
  elif have pacman; then
    pacman -Sy --noconfirm "$@"
  else
    say "no package manager for $*"
    return 1
  fi
}

install_missing() {
  if ! have sshd; then
    install_packages openssh-server || install_packages openssh || true
    have sshd || fail "this image has no sshd, and none could be installed"
  fi
  have sudo || install_packages sudo || say "no sudo in this image"
}

make_user() {
  shell=/bin/bash
  [ -x "$shell" ] || shell=/bin/sh
  if ! id "$user" >/dev/null 2>&1; then
    if have useradd; then
      useradd -o -u "$uid" -d "$home" -s "$shell" -M "$user"
    else
      adduser -D -H -u "$uid" -h "$home" -s "$shell" "$user"
    fi || fail "the user $user could not be made"
  fi
  uid=$(id -u "$user")
  # No password opens this account, and yet it is not locked: sshd turns locked ones away, keys or not.
  [ ! -w /etc/shadow ] || sed -i "s/^$user:[^:]*:/$user:*:/" /etc/shadow
  given=$(sed -n "s/^$user:.*://p" /etc/passwd)
  if [ "$given" != "$scripts/login.sh" ]; then
    printf '%s\n' "${given:-$shell}" >/etc/gpu-dev/shell
    sed -i "s|^\($user:.*:\)[^:]*\$|\1$scripts/login.sh|" /etc/passwd
  fi
  if have sudo; then
    mkdir -p /etc/sudoers.d
    printf '%s ALL=(ALL) NOPASSWD:ALL\n' "$user" >/etc/sudoers.d/gpu-dev
    chmod 440 /etc/sudoers.d/gpu-dev
  fi
}

# The folder itself and no more: a disk of a terabyte must not be walked at each start.
own() { [ "$(stat -c %u "$1")" = "$uid" ] || chown "$uid:$(id -g "$user")" "$1" || say "$1 keeps its owner"; }

stage_home() {
  own "$home"
  # A folder that ends with the server comes open to all.
  case $(stat -c %a "$home") in *[2367]) chmod go-w "$home" ;; esac
  for folder in /workspace /shared-personal; do
    [ ! -d "$folder" ] || own "$folder"
  done
  [ "${CREATE_SH_ENV:-true}" = true ] && [ -d /devserver-setup ] || return 0
  for file in /devserver-setup/.[!.]*; do
    name=$(basename "$file")
    if [ ! -e "$file" ] || [ -e "$home/$name" ]; then continue; fi
    if ! cp -R "$file" "$home/$name" || ! chown -R "$uid:$(id -g "$user")" "$home/$name"; then say "$name could not be staged"; fi
  done
}

# Login shells read profile.d; other interactive ones the file of their kind, if the image has it.
stage_prompt() {
  mkdir -p /etc/profile.d
  cp "$scripts/profile.sh" /etc/profile.d/gpu-dev.sh
  for file in /etc/bash.bashrc /etc/bashrc /etc/zsh/zshrc /etc/zshrc; do
    [ -f "$file" ] || continue
    grep -q gpu-dev/scripts/prompt "$file" || printf '\n. %s/prompt.sh\n' "$scripts" >>"$file" || say "$file stays as it is"
  done
}

# Keys of the host stay through a restart: nobody is to be told that the server is not the one they know.
write_sshd_config() {
  config=/etc/gpu-dev/sshd_config
  mkdir -p "$state/ssh" /run/sshd
  chmod 755 /run/sshd
  chmod 700 "$state/ssh"
  sed "s/^Port .*/Port $port/" "$scripts/sshd_config" >"$config"
  for kind in ed25519 ecdsa; do
    key=$state/ssh/ssh_host_${kind}_key
    [ -s "$key" ] || ssh-keygen -q -t "$kind" -N '' -C "$(hostname)" -f "$key"
    printf 'HostKey %s\n' "$key" >>"$config"
  done
  # The probes of the cluster connect and leave: newer versions would come to refuse them for it, older ones do not know the word.
  ! "$sshd" -t -f "$config" -o PerSourcePenalties=no 2>/dev/null || printf 'PerSourcePenalties no\n' >>"$config"
  "$sshd" -t -f "$config" || fail "sshd does not accept its configuration"
}

# Once in the life of the server, however often its container starts.
run_command() {
  [ -n "${GPU_DEV_COMMAND:-}" ] && [ ! -e "$state/command-started" ] || return 0
  : >"$state/command-started"
  (cd "$home" && exec su - "$user" -c "$GPU_DEV_COMMAND") >"$home/startup-output.log" 2>&1 &
}

count_ooms() {
  for file in /sys/fs/cgroup/memory.events /sys/fs/cgroup/memory/memory.oom_control; do
    [ -r "$file" ] && sed -n 's/^oom_kill \([0-9][0-9]*\)$/\1/p' "$file" && return
  done
  echo 0
}

# The cluster tells of it when the whole container was killed; one process of it dies unseen.
watch_memory() {
  seen=$(count_ooms)
  while sleep 2; do
    now=$(count_ooms)
    if [ "${now:-0}" -gt "${seen:-0}" ]; then
      /bin/sh "$scripts/notice.sh" "$home/OOM_DETECTED.txt" \
        "This server ran out of memory at $(date -u '+%Y-%m-%d %H:%M:%S') UTC: $((now - seen)) of its processes killed." || true
      seen=$now
    fi
  done
}

# The end of the pod: everybody gets the time to write down what they have. Only where process 1 is ours does "all" mean the container.
stop() {
  trap '' TERM INT
  kill "$server" 2>/dev/null || true
  if [ $$ -eq 1 ]; then
    kill -TERM -1 2>/dev/null || true
    waited=0
    while [ "$waited" -lt 20 ] && kill -0 -1 2>/dev/null; do
      sleep 1
      waited=$((waited + 1))
    done
  fi
  sync
  exit 0
}

[ "$(id -u)" = 0 ] || fail "it must run as root"
mkdir -p /etc/gpu-dev "$state" "$home"
write_environment
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
[ -r "$access/authorized_keys" ] || say "no keys yet: $access/authorized_keys is missing"
install_missing
sshd=$(command -v sshd)
make_user
chown "$uid" /etc/gpu-dev/environment.sh
chmod 400 /etc/gpu-dev/environment.sh
stage_home
stage_prompt
write_sshd_config
run_command
[ ! -s "$state/jupyter/token" ] || /bin/sh "$scripts/jupyter.sh" resume || say "Jupyter did not come back"
watch_memory &

server=
trap stop TERM INT
while true; do
  "$sshd" -D -e -f "$config" &
  server=$!
  code=0
  wait "$server" || code=$?
  say "sshd ended with code $code, starting it again"
  sleep 1
done
