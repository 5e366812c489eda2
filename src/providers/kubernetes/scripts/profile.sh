# shellcheck shell=sh source=/dev/null
# Read by login shells: /etc/profile has set a PATH of its own, the container's comes after it.
if [ -r /etc/gpu-dev/environment.sh ]; then . /etc/gpu-dev/environment.sh; fi
if [ -r /etc/gpu-dev/scripts/prompt.sh ]; then . /etc/gpu-dev/scripts/prompt.sh; fi
