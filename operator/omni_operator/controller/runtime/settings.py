"""What an administrator can set.

Environment variables of the operator's Deployment, each a value of the Helm chart.
"""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of one process.

    Attributes:
        workers: OmniDeployments that are reconciled at one time.
        resync_seconds: Every OmniDeployment is reconciled this often even when nothing happens.
        http_port: Port of /livez, /readyz and /metrics.
        log_level: Level of the root logger.
        status_pause_seconds: Seconds that another reason of a condition waits for others, when it
            is no news; what only changes a message waits three times as long, or longer.
    """

    workers: int = 8
    resync_seconds: float = 600.0
    http_port: int = 8080
    log_level: str = "INFO"
    status_pause_seconds: float = 10.0

    @classmethod
    def from_environment(cls) -> Settings:
        """Settings of the environment: OMNI_ and the name in capitals, such as OMNI_WORKERS.

        Raises:
            ValueError: A value is not a number.
        """
        env = os.environ
        return cls(
            workers=int(env.get("OMNI_WORKERS", cls.workers)),
            resync_seconds=float(env.get("OMNI_RESYNC_SECONDS", cls.resync_seconds)),
            http_port=int(env.get("OMNI_HTTP_PORT", cls.http_port)),
            log_level=env.get("OMNI_LOG_LEVEL", cls.log_level),
            status_pause_seconds=float(env.get("OMNI_STATUS_PAUSE_SECONDS", cls.status_pause_seconds)),
        )
