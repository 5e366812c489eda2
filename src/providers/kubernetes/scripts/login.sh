#!/bin/sh
# The login shell of the user: takes over the environment of the container, which sshd does not pass on, and becomes the user's own shell.
# So a command by ssh, a terminal and a copied file all see the same variables.
shell=/bin/sh
if [ -r /etc/gpu-dev/shell ]; then read -r shell </etc/gpu-dev/shell; fi
[ -x "$shell" ] || shell=/bin/sh
# shellcheck source=/dev/null
if [ -r /etc/gpu-dev/environment.sh ]; then . /etc/gpu-dev/environment.sh; fi
SHELL=$shell
export SHELL
# sshd says "login" by a hyphen before our name, which a script does not get to see; it then gives no arguments either.
if [ $# -eq 0 ]; then exec "$shell" -l; fi
exec "$shell" "$@"
