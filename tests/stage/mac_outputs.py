"""A Mac's answers to the commands of `doctor` and `accept`, for machines that are none.

**Written after the manual pages and other people's reports, not recorded on a Mac of ours.** Whoever
runs `scribefarm-worker accept` on one: its file has the real ones.
"""

import plistlib
import subprocess
from pathlib import Path

from worker.cli.finding import NOT_FOUND, Ran

PMSET = """\
System-wide power settings:
Currently in use:
 standby              0
 Sleep On Power Button 1
 womp                 1
 autorestart          1
 hibernatefile        /var/vm/sleepimage
 powernap             0
 networkoversleep     0
 disksleep            0
 sleep                0 (sleep prevented by caffeinate, powerd)
 hibernatemode        0
 ttyskeepawake        1
 displaysleep         10
 tcpkeepalive         1
 lowpowermode         0
"""
ASSERTIONS = """\
2026-11-24 22:00:00 +0100
Assertion status system-wide:
   BackgroundTask                 0
   UserIsActive                   0
   PreventUserIdleDisplaySleep    0
   PreventSystemSleep             0
   PreventUserIdleSystemSleep     1
   NetworkClientActive            0
Listed by owning process:
   pid 4391(caffeinate): [0x000012c800018b5a] 00:00:00 PreventUserIdleSystemSleep named: "caffeinate"
"""
DISPLAYS = """\
Graphics/Displays:

    Apple M4:

      Chipset Model: Apple M4
      Type: GPU
      Bus: Built-In
      Total Number of Cores: 10
      Vendor: Apple (0x106b)
      Metal Support: Metal 3
"""
DF = """\
Filesystem   1024-blocks      Used Available Capacity iused      ifree %iused  Mounted on
/dev/disk3s5   239362496 120048180 98000000    56%  812345 980000000    0%   /System/Volumes/Data
"""
MOUNTS = """\
/dev/disk3s1s1 on / (apfs, sealed, local, read-only, journaled)
devfs on /dev (devfs, local, nobrowse)
/dev/disk3s5 on /System/Volumes/Data (apfs, local, journaled, nobrowse, protect, root data)
map auto_smb on /System/Volumes/Data/archive (autofs, automounted, nobrowse)
//worker@nas.local/archive on /Volumes/archive (smbfs, nodev, nosuid, mounted by worker)
nas:/export/talks on /opt/talks (nfs, nodev, nosuid, asynchronous)
"""
DAEMON = """\
system/org.scribefarm.worker = {
	active count = 1
	path = /Library/LaunchDaemons/org.scribefarm.worker.plist
	type = LaunchDaemon
	state = running

	program = /Users/worker/.scribefarm/venv/bin/scribefarm-worker
	username = worker
	pid = 512
}
"""
AGENT = """\
gui/501/org.scribefarm.worker = {
	active count = 1
	type = LaunchAgent
	state = running
}
"""
PMSET_LOG = """\
2026-11-24 22:10:01 +0100 Assertions          	PID 512(caffeinate) Created PreventUserIdleSystemSleep
2026-11-25 01:02:03 +0100 Sleep               	Entering Sleep state due to 'Idle Sleep': TCPKeepAlive=active
2026-11-25 01:30:00 +0100 DarkWake            	DarkWake from Deep Idle [CDNPB] : due to RTC/Maintenance
2026-11-25 06:59:59 +0100 Wake                	Wake from Deep Idle [CDNVA] : due to UserActivity
"""

ANSWERS = {
    "system_profiler SPDisplaysDataType": DISPLAYS,
    "sysctl -n hw.memsize": "17179869184\n",
    "sysctl -n machdep.cpu.brand_string": "Apple M4\n",
    "sysctl -n sysctl.proc_translated": "0\n",
    "sw_vers -productVersion": "26.1\n",
    "pmset -g": PMSET,
    "caffeinate -i /usr/bin/pmset -g assertions": ASSERTIONS,
    "fdesetup status": "FileVault is Off.\n",
    "defaults read /Library/Preferences/com.apple.SoftwareUpdate AutomaticallyInstallMacOSUpdates": (
        "0\n"
    ),
    "df -k": DF,
    "mount": MOUNTS,
    "launchctl print system/org.scribefarm.worker": DAEMON,
    "pmset -g log": PMSET_LOG,
}


class FakeMac:
    """Answers commands as a Mac would; launchd's one-shot jobs find nothing, or are run for real.

    Attributes:
        answers: Output by the start of a command without its folder; a `Ran` also has a code.
        commands: All that was asked, in order.
        jobs: The property lists of the jobs that were started.
    """

    def __init__(self, also=None, *, runs_jobs=False):
        self.answers, self.runs_jobs = ANSWERS | (also or {}), runs_jobs
        self.commands, self.jobs = [], []
        self.bootstrap = Ran(0, "")
        self.metal = Ran(0, "Device(gpu, 0) Apple M4\n")

    def __call__(self, command):
        self.commands.append(list(command))
        asked = " ".join([command[0].rpartition("/")[2], *command[1:]])
        if "mx." in asked:
            return self.metal
        if asked.startswith("launchctl bootstrap"):
            return self._start(command[-1])
        if asked.startswith("launchctl bootout"):
            return Ran(0, "")
        # The longest: `pmset -g log` is not `pmset -g`.
        known = max((key for key in self.answers if asked.startswith(key)), key=len, default=None)
        if known is None or self.answers[known] is None:
            return Ran(NOT_FOUND, f"{command[0]}: No such file or directory")
        answer = self.answers[known]
        return answer if isinstance(answer, Ran) else Ran(0, answer)

    def _start(self, plist):
        if self.bootstrap.code:
            return self.bootstrap
        job = plistlib.loads(Path(plist).read_bytes())
        self.jobs.append(job)
        answer = Path(job["StandardOutPath"])
        answer.write_text("[]\n")
        if self.runs_jobs:
            with answer.open("wb") as out:
                environment = job["EnvironmentVariables"]
                subprocess.run(job["ProgramArguments"], env=environment, stdout=out, check=False)
        return self.bootstrap
