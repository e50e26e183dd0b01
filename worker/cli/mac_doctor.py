"""What `doctor` looks at on a Mac beside the rest: chip, power, sleep, updates, Metal, disk.

Everything is asked of macOS's own programs through one runner, so that tests can answer for them.
What launchd lets a worker do is asked in `worker.cli.mac_launchd`.
"""

import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

from producer.settings import Settings
from worker.cli.finding import Finding, Run
from worker.cli.mac_launchd import examine_launchd

OLDEST_MACOS = 14  # MLX has wheels from there on
# A recording of 12 h spools up to 2.2 GB of features; several are read at once.
LEAST_FREE_GB = 10.0
METAL_PROGRAM = (
    "import mlx.core as mx; a = mx.random.normal((256, 256)); mx.eval(a @ a);"
    " print(mx.default_device(), mx.device_info()['device_name'])"
)
PMSET = "sudo pmset -a sleep 0 disksleep 0 womp 1 autorestart 1 powernap 0 lowpowermode 0"
NO_GPU = (
    "MLX found no GPU: Metal is not there in most virtual machines and sandboxes, nor under a "
    "Python for Intel."
)


@dataclass(frozen=True)
class MacFacts:
    """Which Mac this is: chip as macOS says it, None or 0 for what it does not say."""

    chip: str
    gpu_cores: int | None
    memory_bytes: int
    macos: str


def examine_mac(settings: Settings, run: Run) -> Iterator[Finding]:
    """Run all checks of a Mac; none of them raises."""
    yield _mac(run)
    power = power_settings(run)
    yield _low_power(power)
    yield _sleep(power)
    yield _assertion(run)
    yield _filevault(run)
    yield _updates(run)
    yield _metal(run)
    yield _disk(run)
    yield from examine_launchd(settings, run)


def mac_facts(run: Run) -> MacFacts:
    """Return which Mac this is."""
    displays = run(["/usr/sbin/system_profiler", "SPDisplaysDataType"]).output
    cores = re.search(r"Total Number of Cores: (\d+)", displays)
    memory = _said(run, "/usr/sbin/sysctl", "-n", "hw.memsize")
    return MacFacts(
        _said(run, "/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string") or "an unknown chip",
        int(cores[1]) if cores else None,
        int(memory) if memory.isdecimal() else 0,
        _said(run, "/usr/bin/sw_vers", "-productVersion") or "unknown",
    )


def power_settings(run: Run) -> dict[str, int]:
    """Return pmset's numbers by name, those in use; empty if it does not answer."""
    lines = run(["/usr/bin/pmset", "-g"]).output.splitlines()
    found = (re.match(r"\s*(\w+)\s+(\d+)\b", line) for line in lines)
    return {match[1]: int(match[2]) for match in found if match}


def _mac(run: Run) -> Finding:
    facts = mac_facts(run)
    cores = f", {facts.gpu_cores} GPU cores" if facts.gpu_cores else ""
    found = f"{facts.chip}{cores}, {facts.memory_bytes / (1 << 30):.0f} GB, macOS {facts.macos}"
    if _said(run, "/usr/sbin/sysctl", "-n", "sysctl.proc_translated") == "1":
        advice = "This Python is for Intel: install an arm64 one (uv python install)."
        return Finding("mac", "broken", f"{found}, under Rosetta", advice)
    major = facts.macos.partition(".")[0]
    if major.isdecimal() and int(major) < OLDEST_MACOS:
        return Finding("mac", "broken", found, f"MLX needs macOS {OLDEST_MACOS} or later: update.")
    return Finding("mac", "ok", found)


def _low_power(power: dict[str, int]) -> Finding:
    # An older name and a newer one, whose 2 is high power.
    if power.get("lowpowermode") == 1 or power.get("powermode") == 1:
        advice = "The GPU runs at a fraction of its speed: sudo pmset -a lowpowermode 0"
        return Finding("low power", "slow", "Low Power Mode is on", advice)
    return Finding("low power", "ok", "off")


def _sleep(power: dict[str, int]) -> Finding:
    if "sleep" not in power:
        return Finding("sleep", "slow", "pmset does not say", f"To be sure: {PMSET}")
    found = (
        f"sleep {power['sleep']}, restart after power loss {power.get('autorestart', 'unknown')}"
    )
    if power["sleep"]:
        advice = (
            "A worker keeps the Mac awake while it has work, but a Mac that has fallen asleep sees "
            f"no evening's jobs: {PMSET}"
        )
        return Finding("sleep", "slow", found, advice)
    if power.get("autorestart") == 0:
        return Finding("sleep", "slow", found, "After a power cut it stays off: " + PMSET)
    return Finding("sleep", "ok", found)


def _assertion(run: Run) -> Finding:
    """Hold the assertion that a worker holds, and ask macOS whether it counts."""
    asked = ["/usr/bin/caffeinate", "-i", "/usr/bin/pmset", "-g", "assertions"]
    ran = run(asked)
    if ran.code == 0 and re.search(r"PreventUserIdleSystemSleep\s+1", ran.output):
        return Finding("awake", "ok", "caffeinate -i keeps it awake")
    advice = f"A worker cannot keep this Mac awake; let it never sleep: {PMSET}"
    return Finding("awake", "slow", f"caffeinate -i does not count: {ran.last_line}", advice)


def _filevault(run: Run) -> Finding:
    said = _said(run, "/usr/bin/fdesetup", "status")
    if "FileVault is On" in said:
        advice = (
            "After a restart nothing runs until somebody unlocks the disk. Off, if that matters."
        )
        return Finding("filevault", "slow", "on", advice)
    return Finding("filevault", "ok", said or "not known")


def _updates(run: Run) -> Finding:
    domain = "/Library/Preferences/com.apple.SoftwareUpdate"
    said = _said(run, "/usr/bin/defaults", "read", domain, "AutomaticallyInstallMacOSUpdates")
    if said == "1":
        advice = (
            "macOS restarts at night to install updates. System Settings > General > Software "
            "Update: download them only."
        )
        return Finding("updates", "slow", "macOS installs its updates by itself", advice)
    return Finding("updates", "ok", "macOS does not install its updates by itself")


def _metal(run: Run) -> Finding:
    """Multiply in a process of its own: what goes wrong there may end it."""
    ran = run([sys.executable, "-c", METAL_PROGRAM])
    if ran.code == 0 and "gpu" in ran.output:
        return Finding("metal", "ok", ran.last_line)
    return Finding("metal", "broken", f"ended with {ran.code}: {ran.last_line}", NO_GPU)


def _disk(run: Run) -> Finding:
    folder = tempfile.gettempdir()
    ran = run(["/bin/df", "-k", folder])
    # Blocks, used, available, capacity.
    sizes = re.search(r"\s\d+\s+\d+\s+(\d+)\s+\d+%", ran.output)
    if not sizes:
        return Finding("disk", "slow", f"df does not say: {ran.last_line}", "Look at it yourself.")
    free_gb = int(sizes[1]) * 1024 / 1e9
    found = f"{free_gb:.0f} GB free for {folder}"
    if free_gb < LEAST_FREE_GB:
        return Finding("disk", "slow", found, "Long recordings spool gigabytes there: make room.")
    return Finding("disk", "ok", found)


def _said(run: Run, *command: str) -> str:
    """Return what a program printed, "" if it failed."""
    ran = run(command)
    return ran.output.strip() if ran.code == 0 else ""
