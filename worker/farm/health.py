"""How a worker is, for a monitor that asks it: alive, and ready for recordings."""

from dataclasses import dataclass

# The loop turns several times a second; a server that answers slowly holds it for some of its time
# limits. After this it hangs.
MAX_LOOP_AGE_S = 60.0


@dataclass(frozen=True)
class Health:
    """A worker at one moment.

    Attributes:
        loop_age_s: Seconds since the farm's loop last turned.
        is_registered: A heartbeat was sent.
        is_blocked: Too many reading threads hang in a share.
        has_server: No outage of the server is under way.
    """

    loop_age_s: float
    is_registered: bool
    is_draining: bool
    is_blocked: bool
    is_asleep: bool
    is_paused: bool
    has_server: bool

    @property
    def is_alive(self) -> bool:
        """Whether the worker still turns; it works on through an outage of the server."""
        return self.loop_age_s < MAX_LOOP_AGE_S

    @property
    def why_not_ready(self) -> str:
        """Why it takes no recordings now; "" if it does."""
        reasons = {
            "the loop hangs": not self.is_alive,
            "starting": not self.is_registered,
            "draining": self.is_draining,
            "reading hangs": self.is_blocked,
            "asleep (active hours)": self.is_asleep,
            "paused": self.is_paused,
            "the server does not answer": not self.has_server,
        }
        return ", ".join(reason for reason, holds in reasons.items() if holds)
