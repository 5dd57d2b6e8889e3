"""Post an entry from plain synchronous code, as in a view of Django or Flask.

    export ARBE_URL=http://127.0.0.1:8700 ARBE_TOKEN=…      # `arbe up` prints both
    python examples/sync_producer.py @demo 4711

In Flask the view below would be

    @app.post("/orders/<order_id>/question")
    def ask(order_id):
        return {"entry": ask_about_order("@demo", order_id)}, 202
"""

import sys

from dispatch.client import post_entry
from dispatch.errors import Invalid, NotFound, TooBusy, Unavailable


def ask_about_order(agent: str, order_id: str) -> str:
    """Wake an agent. The key makes it safe that the browser, or the view, tries twice."""
    try:
        posted = post_entry(
            agent, f"Order {order_id} has a question.", key=f"order-{order_id}-question"
        )
    except (NotFound, Invalid) as mistake:
        raise SystemExit(f"500: {mistake.what} {mistake.next_step}") from mistake
    except (TooBusy, Unavailable) as passing:
        raise SystemExit(f"503: {passing.what} {passing.next_step}") from passing
    return str(posted["entry"]["id"])


if __name__ == "__main__":
    print(ask_about_order(*sys.argv[1:3]))
