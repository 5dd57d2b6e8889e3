"""Post an entry from a service that knows nothing but the broker: a Celery task by its name.

    export BROKER_URL=redis://…                             # or amqp://…
    python examples/celery_producer.py <thread id> "hello" order-4711

Nothing of arbe is imported. The thread is named by its whole id. The message waits in the
broker until a worker takes it; with the same key it may be sent twice and stays one entry.
Where the workers run with ARBE_TRUST_BROKER_PRODUCERS=false, add `token` to the arguments.
"""

import os
import sys

from celery import Celery

app = Celery(broker=os.environ["BROKER_URL"], set_as_current=False)
app.conf.broker_connection_timeout = 3


def post_entry(thread: str, text: str, key: str) -> str:
    """Send the message; on return the broker has it."""
    sent = app.send_task(
        "dispatch.post_entry",
        kwargs={"thread": thread, "text": text, "key": key, "service": "shop"},
        queue="arbe.producers",
        ignore_result=True,
        retry_policy={"max_retries": 3, "interval_start": 0.2, "interval_max": 1},
    )
    return str(sent.id)


if __name__ == "__main__":
    print(post_entry(*sys.argv[1:4]))
