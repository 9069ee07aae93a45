"""What tests of faults need: a store that fails on command, a small disk, another user, the command as a process."""
