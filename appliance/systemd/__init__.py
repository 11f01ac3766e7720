"""Notification and watchdog of systemd."""
