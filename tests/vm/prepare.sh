#!/bin/bash
# Installs what the emulated machines need, if it is missing: an emulator, depmod, mke2fs, newuidmap and friends.
set -eu
declare -A package=(
    [qemu-system-x86_64]=qemu-system-x86 [depmod]=kmod [modprobe]=kmod [mke2fs]=e2fsprogs [mmdebstrap]=mmdebstrap
    [useradd]=passwd [newuidmap]=uidmap [dpkg]=dpkg
)
PATH=$PATH:/usr/sbin:/sbin
missing=()
for command in "${!package[@]}"; do
    command -v "$command" >/dev/null || missing+=("${package[$command]}")
done
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -ne 0 ]; then
    echo "missing: ${missing[*]}; install them with: sudo apt-get install ${missing[*]}" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
for attempt in 1 2 3; do
    if apt-get -q -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 update &&
        apt-get -q -y -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 install --no-install-recommends "${missing[@]}"; then
        exit 0
    fi
    sleep $((attempt * 10))
done
exit 1
