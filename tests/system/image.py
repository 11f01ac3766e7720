"""The root file system that all guests share: Debian 12 with dnf and rpm, which says that it is RHEL 8.10."""

from pathlib import Path

from tests.system.control import KEY, USER
from tests.system.guests import sh

PACKAGES = (
    "systemd,systemd-sysv,dbus,libpam-systemd,policykit-1,iproute2,iputils-ping,python3,python3-apt,openssh-server,"
    "nftables,firewalld,ipset,iptables,dnf,rpm,python3-rpm,python3-libdnf,ca-certificates,curl,netcat-openbsd,procps,kmod,"
    "libfaketime,sudo,openssh-sftp-server,gnupg,python3-firewall,python3-dnf"
)
OS_RELEASE = """\
NAME="Red Hat Enterprise Linux"
VERSION="8.10 (Ootpa)"
ID="rhel"
ID_LIKE="fedora"
VERSION_ID="8.10"
PLATFORM_ID="platform:el8"
PRETTY_NAME="Debian 12 that says it is Red Hat Enterprise Linux 8.10"
"""
MASKED = (
    "apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer fstrim.timer dnf-makecache.timer getty@.service "
    "console-getty.service systemd-networkd-wait-online.service"
)


def build(cache: Path) -> Path:
    """Return the root file system, made once and kept in ``cache``."""
    rootfs = cache / "rootfs"
    whole, recipe = rootfs / ".whole", Path(__file__).read_text()
    if whole.exists() and whole.read_text() == recipe:
        return rootfs
    sh("rm", "-rf", rootfs)
    mirror = sh("apt-get", "indextargets", "--format", "$(REPO_URI)").split()[0]
    excluded = [f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in ("doc", "man", "locale")]
    without = ["--mode=root", "--variant=minbase", '--aptopt=Apt::Install-Recommends "false"', *excluded]
    sh("mmdebstrap", *without, f"--include={PACKAGES}", "bookworm", rootfs, f"deb {mirror} bookworm main")
    _pretend(rootfs)
    _let_in(rootfs)
    _settle(rootfs)
    whole.write_text(recipe)
    return rootfs


def _pretend(rootfs: Path) -> None:
    for name in ("os-release", "debian_version"):
        (rootfs / "etc" / name).unlink()
    (rootfs / "etc/os-release").write_text(OS_RELEASE)
    (rootfs / "etc/redhat-release").write_text("Red Hat Enterprise Linux release 8.10 (Ootpa)\n")
    (rootfs / "etc/dnf/vars").mkdir(parents=True, exist_ok=True)
    (rootfs / "etc/dnf/vars/releasever").write_text("8\n")
    (rootfs / "etc/dnf/dnf.conf").write_text("[main]\ngpgcheck=1\nclean_requirements_on_remove=True\nbest=True\n")
    (rootfs / "etc/yum.repos.d").mkdir(exist_ok=True)
    # What Ansible looks for on RHEL 8.
    (rootfs / "usr/libexec").mkdir(exist_ok=True)
    (rootfs / "usr/libexec/platform-python").symlink_to("/usr/bin/python3")
    (rootfs / "etc/pki/rpm-gpg").mkdir(parents=True, exist_ok=True)
    # Debian's rpm keeps its database in the user's home; RHEL's is here.
    (rootfs / "etc/rpm").mkdir(exist_ok=True)
    (rootfs / "etc/rpm/macros.here").write_text("%_dbpath /var/lib/rpm\n")
    sh("chroot", rootfs, "rpm", "--initdb")


def _let_in(rootfs: Path) -> None:
    """Let the control machine log in, and there become root by sudo."""
    for path in (KEY, KEY.with_suffix(".pub")):
        path.unlink(missing_ok=True)
    sh("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "control", "-f", KEY)
    sh("chroot", rootfs, "useradd", "--create-home", "--shell", "/bin/bash", USER)
    ssh = rootfs / "home" / USER / ".ssh"
    ssh.mkdir()
    (ssh / "authorized_keys").write_text(KEY.with_suffix(".pub").read_text())
    sh("chroot", rootfs, "chown", "-R", f"{USER}:", f"/home/{USER}/.ssh")
    (rootfs / "etc/sudoers.d/here").write_text(f"{USER} ALL=(ALL) NOPASSWD: ALL\n")


def _settle(rootfs: Path) -> None:
    (rootfs / "etc/hostname").unlink(missing_ok=True)
    (rootfs / "etc/machine-id").write_text("")
    (rootfs / "var/log/journal").mkdir(exist_ok=True)
    (rootfs / "etc/systemd/journald.conf.d").mkdir(exist_ok=True)
    (rootfs / "etc/systemd/journald.conf.d/here.conf").write_text("[Journal]\nStorage=persistent\nSystemMaxUse=64M\n")
    for unit in MASKED.split():
        (rootfs / "etc/systemd/system" / unit).symlink_to("/dev/null")
    # As on RHEL: what is installed starts only when an operator says so. Debian's default is the opposite.
    (rootfs / "etc/systemd/system-preset").mkdir(exist_ok=True)
    (rootfs / "etc/systemd/system-preset/99-default-disable.preset").write_text("disable *\n")
    sh("chroot", rootfs, "systemctl", "enable", "firewalld.service", "ssh.service")
