"""The unit may use newer systemd's directives to harden further; what it needs to work, systemd 239 must know."""

from pathlib import Path

UNIT = Path(__file__).parents[2] / "systemd/p2pfl-node.service"
KNOWN_TO_239 = {
    *("Description", "Documentation", "Wants", "After", "StartLimitIntervalSec", "StartLimitBurst", "WantedBy"),
    *("Type", "NotifyAccess", "User", "Group", "ExecStart", "ExecReload", "Restart", "RestartSec"),
    *("TimeoutStartSec", "TimeoutStopSec", "WatchdogSec", "StateDirectory", "StateDirectoryMode", "UMask"),
    *("MemoryMax", "TasksMax", "LimitNOFILE", "LimitCORE", "AmbientCapabilities", "CapabilityBoundingSet"),
    *("NoNewPrivileges", "ProtectSystem", "ProtectHome", "PrivateTmp", "PrivateDevices", "PrivateUsers"),
    *("ProtectKernelTunables", "ProtectKernelModules", "ProtectControlGroups", "RestrictAddressFamilies"),
    *("RestrictNamespaces", "RestrictRealtime", "LockPersonality", "MemoryDenyWriteExecute", "RemoveIPC"),
    *("KeyringMode", "SystemCallArchitectures", "SystemCallFilter", "SystemCallErrorNumber", "IPAddressDeny"),
}
"""Of those in use, what the manual pages of systemd 239 have (systemd.unit, .service, .exec, .resource-control)."""
ONLY_HARDEN = {
    "ProtectClock": 245,
    "ProtectHostname": 242,
    "ProtectKernelLogs": 244,
    "ProtectProc": 247,
    "RestrictSUIDSGID": 242,
    "OOMPolicy": 243,
    "ProcSubset": 247,
}
"""Newer ones, with the version that brought them: RHEL 8 says that it ignores them, and the node works the same."""


def _directives() -> set[str]:
    lines = UNIT.read_text().splitlines()
    return {line.partition("=")[0] for line in lines if line and line[0] not in "#["}


def test_every_directive_is_known_to_rhel_8_or_only_hardens() -> None:
    used = _directives()
    assert used <= KNOWN_TO_239 | ONLY_HARDEN.keys()
    assert {"Type", "WatchdogSec", "ExecReload"} <= used, "the file was read"
