/** The script that turns an image into a dev server: user, sshd, limits, notices at the prompt. Data comes in by files and environment, never by text. */

export const HOME = '/home/dev';
/** Where the Secret of keys and token is mounted. */
export const ACCESS_FOLDER = '/etc/gpu-dev/access';
export const USER = { name: 'dev', id: 1081 } as const;

/**
 * Runs as root in the main container of every server that does not keep its image's entry point.
 * The keys are read from the mounted Secret at each login, so that a changed list holds without a restart.
 */
export const STARTUP_SCRIPT = `set -u
say() { echo "[gpu-dev] $*"; }
install() {
  if command -v apt-get >/dev/null; then apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy "$@"
  elif command -v dnf >/dev/null; then dnf install -qy "$@"
  elif command -v yum >/dev/null; then yum install -qy "$@"
  elif command -v apk >/dev/null; then apk add --no-cache "$@"
  elif command -v zypper >/dev/null; then zypper -n install "$@"
  elif command -v pacman >/dev/null; then pacman -Sy --noconfirm "$@"
  else say "no package manager for: $*"; return 1; fi
}
[ -x /usr/sbin/sshd ] || install openssh-server || install openssh || exit 1
command -v sudo >/dev/null || install sudo || say "no sudo in this image"

shell=/bin/bash; [ -x "$shell" ] || shell=/bin/sh
if ! id ${USER.name} >/dev/null 2>&1; then
  useradd -u ${USER.id} -d ${HOME} -s "$shell" -M ${USER.name} 2>/dev/null || adduser -D -u ${USER.id} -h ${HOME} -s "$shell" ${USER.name} || exit 1
fi
passwd -d ${USER.name} >/dev/null 2>&1 || true
mkdir -p ${HOME} /workspace /etc/sudoers.d /run/sshd /etc/profile.d /etc/gpu-dev
# Only what is not the user's already: a disk of a terabyte must not be walked at each start.
[ "$(stat -c %u ${HOME})" = ${USER.id} ] || chown ${USER.id}:${USER.id} ${HOME}
chown ${USER.id}:${USER.id} /workspace
echo '${USER.name} ALL=(ALL) NOPASSWD:ALL' > /etc/sudoers.d/gpu-dev && chmod 440 /etc/sudoers.d/gpu-dev

# Logins by ssh do not inherit the container's environment.
quote="'\\''"
{ env -0 | while IFS= read -r -d '' pair; do
    key=\${pair%%=*}
    case "$key" in HOME|PWD|OLDPWD|SHLVL|_|USER|LOGNAME|SHELL|TERM|HOSTNAME) continue;; esac
    case "$key" in *[!A-Za-z0-9_]*|[0-9]*) continue;; esac
    value=\${pair#*=}
    printf "export %s='%s'\\n" "$key" "\${value//\\'/$quote}"
  done; } > /etc/gpu-dev/environment.sh
chown ${USER.id} /etc/gpu-dev/environment.sh && chmod 400 /etc/gpu-dev/environment.sh
cat > /etc/profile.d/gpu-dev.sh <<'PROFILE'
[ -r /etc/gpu-dev/environment.sh ] && . /etc/gpu-dev/environment.sh
for notice in "$HOME"/WARN_EXPIRES_IN_*MIN.txt "$HOME"/EXPIRED_NOTICE.txt "$HOME"/OOM_DETECTED.txt; do
  [ -f "$notice" ] && cat "$notice"
done
unset notice
PROFILE
if [ "\${CREATE_SH_ENV:-true}" = true ] && [ -d /devserver-setup ]; then
  for file in /devserver-setup/.[!.]*; do
    [ -e "${HOME}/$(basename "$file")" ] || { cp -r "$file" ${HOME}/ && chown -R ${USER.id}:${USER.id} "${HOME}/$(basename "$file")"; }
  done
fi

if [ -n "\${GPU_DEV_COMMAND:-}" ]; then
  (cd ${HOME} && su -l ${USER.name} -s "$shell" -c "$GPU_DEV_COMMAND" > ${HOME}/startup-output.log 2>&1) &
fi

ssh-keygen -A >/dev/null
cat > /etc/ssh/sshd_config.gpu-dev <<'SSHD'
Port 22
PermitRootLogin no
PasswordAuthentication no
KbdInteractiveAuthentication no
PubkeyAuthentication yes
AllowUsers ${USER.name}
AuthorizedKeysFile none
AuthorizedKeysCommand /bin/cat ${ACCESS_FOLDER}/authorized_keys
AuthorizedKeysCommandUser root
PrintMotd no
X11Forwarding no
AllowTcpForwarding yes
ClientAliveInterval 30
Subsystem sftp internal-sftp
SSHD
/usr/sbin/sshd -t -f /etc/ssh/sshd_config.gpu-dev || exit 1
say ready
trap 'kill "$server" 2>/dev/null; exit 0' TERM
while true; do
  /usr/sbin/sshd -D -e -f /etc/ssh/sshd_config.gpu-dev & server=$!
  wait "$server"; say "sshd ended with code $?, starting it again"; sleep 5
done
`;
