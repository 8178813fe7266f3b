#!/bin/bash
# Pid 1 of the fresh machine, in mount, PID, IPC and UTS namespaces of its own:
# ROOT ACCOUNT COMMAND [DIRECTORY...]. Makes ROOT the root, mounts what a booted machine has and the DIRECTORIES of this
# machine, and lets ACCOUNT log in for one command.
set -eu
root=$1 account=$2 command=$3
shift 3
mount --bind "$root" "$root"
cd "$root"
mount -t proc -o nosuid,nodev,noexec proc proc
mount -t sysfs -o nosuid,nodev,noexec sysfs sys
mount --rbind /sys/fs/cgroup sys/fs/cgroup
mount -t tmpfs -o mode=755,nosuid tmpfs dev
for node in null:3 zero:5 full:7 random:8 urandom:9 kmsg:11; do
    mknod -m 666 "dev/${node%:*}" c 1 "${node#*:}"
done
mknod -m 666 dev/tty c 5 0
[ -e /dev/fuse ] && mknod -m 666 dev/fuse c 10 229
mkdir -p dev/pts dev/shm dev/mqueue dev/net
[ -e /dev/net/tun ] && mknod -m 666 dev/net/tun c 10 200
mount -t devpts -o newinstance,nosuid,noexec,gid=5,mode=620,ptmxmode=666 devpts dev/pts
mount -t tmpfs -o nosuid,nodev tmpfs dev/shm
mount -t mqueue -o nosuid,nodev,noexec mqueue dev/mqueue
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd; ln -s fd/0 dev/stdin; ln -s fd/1 dev/stdout; ln -s fd/2 dev/stderr
mount -t tmpfs -o mode=755,nosuid,nodev tmpfs run
mkdir -p run/lock
for directory; do
    mkdir -p ".$directory"
    mount --bind "$directory" ".$directory"
done
pivot_root . .
umount -l .
cd /
hostname fresh 2>/dev/null || echo fresh >/proc/sys/kernel/hostname
# Not exec: pid 1 stays a shell, which reaps whoever loses his parent.
status=0
env -i TERM=dumb su -l "$account" -c "$command" </dev/null || status=$?
exit $status
