"""The `ntalker` command: one dataclass per sub-command."""
