"""Starts what a plist names, as launchd does, or says for it what the test has prepared."""

import os
import plistlib
import subprocess
import sys
from pathlib import Path

mac, job = Path(os.environ["MAC"]), plistlib.loads(Path(sys.argv[1]).read_bytes())
with Path(job["StandardErrorPath"]).open("ab") as log:
    if (mac / "real_worker").exists():
        # launchd hands over nothing but what the file says; MAC is what the stand-ins need.
        kept = {name: os.environ[name] for name in ("MAC", "HOME", "PATH")}
        process = subprocess.Popen(
            job["ProgramArguments"],
            env=kept | job.get("EnvironmentVariables", {}),
            cwd=job["WorkingDirectory"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,
        )
        (mac / "pid").write_text(str(process.pid))
    else:
        log.write((mac / "worker_says").read_bytes())
