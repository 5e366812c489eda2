# shellcheck shell=sh
# Shows each notice once in a terminal: those that are there at login, and before the next prompt those that came since.
# Read by bash, zsh and plain shells alike. Silent where nobody looks: a copy by ssh must not find text in its stream.
gpu_dev_notices() {
  # zsh takes a pattern without a match for an error.
  if [ -n "${ZSH_VERSION:-}" ]; then setopt local_options null_glob; fi
  for gpu_dev_file in /home/dev/WARN_EXPIRES_IN_*MIN.txt /home/dev/EXPIRED_NOTICE.txt /home/dev/OOM_DETECTED.txt; do
    [ -r "$gpu_dev_file" ] || continue
    gpu_dev_mark="$gpu_dev_file $(cksum <"$gpu_dev_file")"
    case "${gpu_dev_shown:-}" in *"|$gpu_dev_mark|"*) continue ;; esac
    gpu_dev_shown="${gpu_dev_shown:-}|$gpu_dev_mark|"
    cat "$gpu_dev_file"
  done
  unset gpu_dev_file gpu_dev_mark
}
case $- in
  *i*)
    if [ -z "${gpu_dev_prompt:-}" ]; then
      gpu_dev_prompt=on
      gpu_dev_notices
      if [ -n "${ZSH_VERSION:-}" ]; then
        eval 'precmd_functions+=(gpu_dev_notices)'
      elif [ -n "${BASH_VERSION:-}" ]; then
        PROMPT_COMMAND="gpu_dev_notices${PROMPT_COMMAND:+; $PROMPT_COMMAND}"
      fi
    fi
    ;;
esac
