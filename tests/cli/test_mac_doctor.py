"""`doctor` on a Mac, answered by written-down outputs: this is no Mac, and none was at hand."""

import errno
import os
import sys

import pytest

from producer.settings import load_settings
from tests.stage.farm import free_port
from tests.stage.mac_outputs import AGENT, ASSERTIONS, DAEMON, DF, PMSET, FakeMac
from worker.cli import doctor, launchd_probe, mac_launchd
from worker.cli.finding import NOT_FOUND, TIMED_OUT, Finding, Ran, run_command
from worker.cli.mac_doctor import examine_mac, mac_facts

SYSTEM = ["mac", "low power", "sleep", "awake", "filevault", "updates", "metal", "disk"]


@pytest.fixture
def settings(tmp_path):
    """Return settings with a root that has a file, and no server to reach."""
    (tmp_path / "archive" / "talks").mkdir(parents=True)
    (tmp_path / "archive" / "talks" / "a.wav").write_bytes(b"RIFF")
    return load_settings(
        redis={"url": f"redis://w:hush@127.0.0.1:{free_port()}"},
        audio={"roots": (tmp_path / "archive",)},
    )


@pytest.fixture(autouse=True)
def _root(monkeypatch):
    monkeypatch.setattr(mac_launchd, "_is_root", lambda: True)
    monkeypatch.setattr(mac_launchd, "_console_uid", lambda: 501)


def examined(settings, mac):
    return {finding.check: finding for finding in examine_mac(settings, mac)}


def finding_of(check, also):
    return examined(load_settings(), FakeMac(also=also))[check]


def test_a_mac_that_is_set_up_well_passes_every_check(settings):
    """Its findings say what it is."""
    found = examined(settings, FakeMac())
    assert list(found)[: len(SYSTEM)] == SYSTEM
    assert {name: found[name].status for name in SYSTEM} == dict.fromkeys(SYSTEM, "ok")
    assert found["mac"].found == "Apple M4, 10 GPU cores, 16 GB, macOS 26.1"
    assert found["disk"].found.startswith("100 GB free")


@pytest.mark.parametrize(
    ("check", "also", "status", "advice"),
    [
        ("mac", {"sysctl -n sysctl.proc_translated": "1\n"}, "broken", "arm64"),
        ("mac", {"sw_vers -productVersion": "13.6\n"}, "broken", "macOS 14"),
        ("low power", {"pmset -g": PMSET.replace("mode         0", "mode 1")}, "slow", "pmset"),
        ("sleep", {"pmset -g": PMSET.replace(" sleep                0", " sleep 1")}, "slow", "0"),
        ("sleep", {"pmset -g": PMSET.replace("autorestart          1", "autorestart 0")}, "slow",
         "power cut"),
        ("sleep", {"pmset -g": ""}, "slow", "sudo pmset -a sleep 0"),
        ("awake", {"caffeinate": None,
                   "caffeinate -i /usr/bin/pmset -g assertions": None}, "slow", "never sleep"),
        ("awake", {"caffeinate -i /usr/bin/pmset -g assertions":
                   ASSERTIONS.replace("SystemSleep     1", "SystemSleep     0")
                   .replace("IdleSystemSleep     1", "")}, "slow", "never sleep"),
        ("filevault", {"fdesetup status": "FileVault is On.\n"}, "slow", "unlocks the disk"),
        ("updates", {"defaults read": "1\n", "defaults read /Library/Preferences/"
                     "com.apple.SoftwareUpdate AutomaticallyInstallMacOSUpdates": "1\n"},
         "slow", "download"),
        ("disk", {"df -k": DF.replace("98000000", "1000000")}, "slow", "room"),
        ("disk", {"df -k": Ran(1, "df: broken")}, "slow", "yourself"),
    ],
)  # fmt: skip
def test_what_needs_a_person_is_said_with_what_to_do(check, also, status, advice):
    """Each with the command or the setting."""
    found = finding_of(check, also)
    assert (found.status, advice in found.advice) == (status, True), found


def test_metal_that_fails_in_its_own_process_is_a_finding():
    """The process may even be killed: doctor goes on."""
    mac = FakeMac()
    mac.metal = Ran(-6, "Traceback\nRuntimeError: [metal] No Metal device available\n")
    found = examined(load_settings(), mac)["metal"]
    assert (found.status, found.found) == (
        "broken",
        "ended with -6: RuntimeError: [metal] No Metal device available",
    )
    assert "virtual machines" in found.advice


def test_a_mac_that_answers_nothing_is_no_exception():
    """Every check says that it does not know."""
    nothing = FakeMac()
    nothing.answers = {}
    assert {each.check for each in examine_mac(load_settings(), nothing)} == {*SYSTEM, "launchd"}
    assert mac_facts(nothing).memory_bytes == 0


def test_launchd_is_asked_in_the_workers_own_domain(settings, tmp_path):
    """As the worker's user, with its Python; the job here is run for real."""
    mac = FakeMac(runs_jobs=True)
    found = examined(settings, mac)
    (job,) = mac.jobs
    assert job["ProgramArguments"] == [sys.executable, "-m", "worker.cli.launchd_probe"]
    assert job["UserName"] == "worker"
    started = next(command for command in mac.commands if "bootstrap" in command)
    assert started[:3] == ["/bin/launchctl", "bootstrap", "system"]
    assert ["/bin/launchctl", "bootout", f"system/{job['Label']}"] in mac.commands
    assert found["launchd"].found == "org.scribefarm.worker is a daemon of worker"
    server = found["server from launchd"]
    assert (server.status, "server_unreachable" in server.found) == ("broken", True)
    assert found[f"reads {tmp_path}/archive from launchd"] == Finding(
        f"reads {tmp_path}/archive from launchd", "ok", "a file was read"
    )
    assert "hush" not in str(found)


def test_a_root_that_launchd_cannot_read_is_broken_with_its_reason(tmp_path, monkeypatch):
    """Absent, empty, or kept away by macOS's privacy settings."""
    (tmp_path / "empty").mkdir()
    roots = (tmp_path / "absent", tmp_path / "empty", tmp_path / "kept")
    scandir = os.scandir

    def keep(path):
        if str(path).endswith("kept"):
            raise PermissionError(errno.EPERM, "Operation not permitted")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", keep)
    monkeypatch.setattr(sys, "platform", "darwin")
    server, absent, empty, kept = launchd_probe.probe(load_settings(audio={"roots": roots}))
    assert server.status == "ok"
    assert (absent.status, "[source_" in absent.found) == ("broken", True)
    assert (empty.status, empty.found) == ("slow", "no file is there to read")
    assert (kept.status, "[privacy_denied]" in kept.found) == ("broken", True)
    assert "Full Disk Access" in kept.advice


@pytest.mark.parametrize(
    ("root", "status", "found"),
    [
        ("/Volumes/archive/talks", "slow", "smbfs mounted at /Volumes/archive"),
        ("/Volumes/gone", "broken", "nothing is mounted there"),
        ("/opt/talks", "ok", "nfs mounted at /opt/talks"),
        ("/System/Volumes/Data/archive", "ok", "autofs mounted at"),
        ("/Users/worker/archive", "ok", "apfs mounted at /"),
    ],
)
def test_a_roots_mount_is_told_without_touching_it(root, status, found):
    """A share that hangs would hang doctor, too."""
    finding = examined(load_settings(audio={"roots": (root,)}), FakeMac())[f"root {root}"]
    assert (finding.status, found in finding.found) == (status, True), finding


def test_an_agent_is_advised_to_become_a_daemon():
    """It is asked in its own domain, without another user."""
    mac = FakeMac(
        also={
            "launchctl print system/org.scribefarm.worker": None,
            "launchctl print gui/501/org.scribefarm.worker": AGENT,
        }
    )
    found = examined(load_settings(), mac)
    assert "daemon" in found["launchd"].advice
    assert "UserName" not in mac.jobs[0]
    assert any(command[1:3] == ["bootstrap", "gui/501"] for command in mac.commands)


def test_what_launchd_would_not_start_or_answer_is_a_finding(monkeypatch):
    """Nothing is installed; or only root may ask; or the job is refused, or hangs."""
    none = FakeMac(also={"launchctl print system/org.scribefarm.worker": None})
    assert "deploy/install" in examined(load_settings(), none)["launchd"].advice
    refused = FakeMac()
    refused.bootstrap = Ran(5, "Bootstrap failed: 5: Input/output error\n")
    found = examined(load_settings(), refused)["from launchd"]
    assert (found.status, "Input/output error" in found.found) == ("broken", True)
    monkeypatch.setattr(FakeMac, "_start", lambda *_: Ran(0, ""))
    waits = []
    silent = {
        each.check: each
        for each in mac_launchd.examine_launchd(load_settings(), FakeMac(), waits.append)
    }
    assert "no answer within 40 s" in silent["from launchd"].found
    assert sum(waits) == mac_launchd.ANSWER_S
    monkeypatch.setattr(mac_launchd, "_is_root", lambda: False)
    assert "sudo" in examined(load_settings(), FakeMac())["launchd"].advice


def test_the_domain_is_read_from_launchds_own_words():
    """The daemon's user; nothing where it names none."""
    domain = mac_launchd.worker_domain(FakeMac(), 501)
    assert (domain.name, domain.user) == ("system", "worker")
    nameless = {"launchctl print system/org.scribefarm.worker": DAEMON.replace("username", "x")}
    assert mac_launchd.worker_domain(FakeMac(also=nameless), 501).user == ""


def test_on_a_mac_doctor_adds_these_checks_and_elsewhere_not(monkeypatch):
    """All of them go through the one runner."""
    monkeypatch.setattr(doctor, "_server", lambda _: Finding("server", "ok", ""))
    monkeypatch.setattr(doctor, "_device", lambda: Finding("device", "broken", ""))
    monkeypatch.setattr(doctor, "run_command", FakeMac())
    checks = [finding.check for finding in doctor.examine(load_settings())]
    assert not set(SYSTEM) & set(checks)
    monkeypatch.setattr(doctor.sys, "platform", "darwin")
    checks = [finding.check for finding in doctor.examine(load_settings())]
    assert set(SYSTEM) <= set(checks)


def test_a_program_that_is_absent_or_hangs_is_a_code():
    """As a shell has it; both streams are kept."""
    assert run_command(["/nowhere/at-all"]).code == NOT_FOUND
    assert run_command(["sleep", "9"], timeout_s=0.1).code == TIMED_OUT
    ran = run_command([sys.executable, "-c", "import sys; print('a'); sys.exit('b')"])
    assert (ran.code, sorted(ran.output.split())) == (1, ["a", "b"])
