#!/bin/sh
# Debian's nginx package starts a server on port 80, now and at every boot. While
# tools/setup.sh installs nginx for the first time, this directory stands first on the
# PATH of dpkg, and this file, under each of its names, before the program of that name:
# nginx is then installed, neither started nor enabled. All else is handed on.

self=${0##*/}
case " $* " in
  *" was-enabled nginx.service "*) exit 1 ;;
  " nginx defaults "*) set -- nginx defaults-disabled ;;
  *" nginx status "*) exit 4 ;; # "unknown", which the package takes for "not running"
esac
case "$self $* " in
  "deb-systemd-helper "* | "update-rc.d "*) ;;
  *" nginx "* | *" nginx.service "*)
    echo "$self: koresms's set-up does not start nginx" >&2
    exit 0
    ;;
esac
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin exec "$self" "$@"
