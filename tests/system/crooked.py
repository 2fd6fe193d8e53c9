"""The operator's own build of the desk, as a process: started in an edited copy of the source.

python -m tests.system.crooked WORKDIR --execute RUN [--days-back N]
python -m tests.system.crooked WORKDIR --approve REQUEST
"""

import argparse
from datetime import datetime, timedelta
from pathlib import Path

from compliance.execution.process import EngineFailedError
from compliance.execution.run import run
from compliance.settings import load
from compliance.wiring import open_services, system_clock
from engine.contract import Job
from tests.compliance.pretence import engines


def main() -> None:
    """Do what was asked, in the code that lies here."""
    parser = argparse.ArgumentParser()
    parser.add_argument("workdir", type=Path)
    parser.add_argument("--execute")
    parser.add_argument("--approve")
    parser.add_argument("--fail")
    parser.add_argument("--days-back", type=int, default=0)
    asked = parser.parse_args()

    def clock() -> datetime:
        return system_clock() - timedelta(days=asked.days_back)

    def before(job: Job) -> None:
        if asked.fail is not None and job.method == asked.fail:
            message = "out of luck"
            raise EngineFailedError(message, code="out-of-luck")

    desk = open_services(load(asked.workdir), clock=clock)
    if asked.approve is not None:
        with desk.transaction() as ledger:
            ledger.approve_request(request_id=asked.approve, actor="operator", now=desk.clock())
    if asked.execute is not None:
        run(desk, asked.execute, engines=engines(before=before))
    desk.database.dispose()


if __name__ == "__main__":
    main()
