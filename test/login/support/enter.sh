#!/bin/sh
# enter.sh PLACE PACKAGES CHANGES CAPABILITIES COMMAND...: runs COMMAND as a container does, with the volumes of PLACE and no more than
# CAPABILITIES (as setpriv lists them). Its image is this machine's own root with PACKAGES and the programs of PLACE on top, and CHANGES,
# separated by commas: files that it lacks, or FILE=TARGET for a link. Whatever it writes there is gone with it. Runs in a mount and process
# namespace of its own.
set -eu
place=$1
packages=$2
changes=$3
capabilities=$4
shift 4

mount --make-rprivate /
mount -t tmpfs tmpfs "$place/image"
mkdir "$place/image/upper" "$place/image/work" "$place/image/root"
root=$place/image/root
mount -t overlay overlay -o "lowerdir=/,upperdir=$place/image/upper,workdir=$place/image/work" "$root"
tar -C "$packages" -c . | tar -C "$root" -x --keep-directory-symlink
# What the package does when it is installed.
grep -q '^sshd:' "$root/etc/passwd" || echo 'sshd:x:973:65534::/run/sshd:/usr/sbin/nologin' >>"$root/etc/passwd"
IFS=,
for change in $changes; do
  case $change in
    *=*) ln -sf "${change#*=}" "$root${change%%=*}" ;;
    *) rm -f "$root$change" ;;
  esac
done
unset IFS

mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
for folder in tmp run sys; do mount -t tmpfs tmpfs "$root/$folder"; done
mkdir -p "$root/sys/fs/cgroup" "$root/home/dev" "$root/workspace" "$root/var/lib/gpu-dev" "$root/etc/gpu-dev/access" "$root/etc/gpu-dev/scripts"
mkdir -p "$root/opt/of-the-image/bin"
mount --bind "$place/programs" "$root/opt/of-the-image/bin"
mount --bind "$place/cgroup" "$root/sys/fs/cgroup"
mount --bind "$place/home" "$root/home/dev"
mount --bind "$place/workspace" "$root/workspace"
mount --bind "$place/state" "$root/var/lib/gpu-dev"
for folder in access scripts; do
  mount --bind "$place/$folder" "$root/etc/gpu-dev/$folder"
  mount -o remount,bind,ro "$root/etc/gpu-dev/$folder"
done
cd "$root"
exec chroot "$root" setpriv --bounding-set "$capabilities" -- "$@"
